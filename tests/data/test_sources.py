"""Finding photos, holding some of them out, and their mean colour."""

import hashlib
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from glcic_tf.common.errors import UserError
from glcic_tf.configs import tiny
from glcic_tf.data import examples, mean_pixel, sources
from glcic_tf.data.examples import Photos
from glcic_tf.imaging import images, photo_folders
from glcic_tf.training.stages import resolve


def write_photos(folder, count):
    folder.mkdir(parents=True)
    for i in range(count):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(folder / f"{i:03d}.png")
    return folder


def config(validation_photos, seed=1, enlarge=True):
    """No more than what `find` reads."""
    data = SimpleNamespace(validation_photos=validation_photos, enlarge=enlarge, reduced_decode=False)
    return SimpleNamespace(seed=seed, data=data)


def names(photos):
    return [str(photo) for photo in photos.paths]


def test_find_holds_photos_out(tmp_path):
    paths = photo_folders.find_photos(write_photos(tmp_path / "train", 30))
    photos, val_photos = sources.find(config(2, enlarge=False), tmp_path / "train", None, 4)
    assert (names(photos), names(val_photos)) == sources.split([str(path) for path in paths], 2, seed=1)
    assert len(val_photos.paths) == 2
    assert photos.enlarge is False and photos.max_failures == 0.01
    assert val_photos.enlarge is True and val_photos.max_failures == 1.0
    photos, none = sources.find(config(0), tmp_path / "train", None, 4)
    assert names(photos) == [str(path) for path in paths] and none is None


def test_find_takes_photos_of_another_folder(tmp_path):
    paths = photo_folders.find_photos(write_photos(tmp_path / "train", 12))
    val_paths = photo_folders.find_photos(write_photos(tmp_path / "val", 9))
    photos, val_photos = sources.find(config(3), tmp_path / "train", tmp_path / "val", 12)
    assert names(photos) == [str(path) for path in paths]
    assert names(val_photos) == [str(val_paths[i]) for i in (0, 4, 8)]
    _, val_photos = sources.find(config(64), tmp_path / "train", tmp_path / "val", 12)
    assert names(val_photos) == [str(path) for path in val_paths]


def test_find_needs_a_batch_of_photos(tmp_path):
    write_photos(tmp_path / "train", 30)
    with pytest.raises(UserError, match="--data_dir=.*train: 28 photos to train on, fewer than one batch of 29; add"):
        sources.find(config(2), tmp_path / "train", None, 29)
    with pytest.raises(UserError, match="val: expected a folder of photos, found nothing"):
        sources.find(config(2), tmp_path / "train", tmp_path / "val", 4)


def test_fingerprint_depends_on_names_alone(tmp_path):
    first = photo_folders.find_photos(write_photos(tmp_path / "here", 3))
    second = photo_folders.find_photos(write_photos(tmp_path / "there", 3))
    assert sources.fingerprint(first) == sources.fingerprint(second)
    assert len({sources.fingerprint(paths) for paths in (first, first[:2], first[::-1])}) == 3
    assert len(sources.fingerprint(first)) == 16


def test_fingerprints_are_those_of_ever():
    """Frozen: runs that resume compare them. Names may hold bytes that are no UTF-8."""
    assert sources.fingerprint([Path("a/x.png"), Path("b/ü.jpg")]) == "b80cdfec884489e2"
    assert (
        sources.fingerprint([Path(os.fsdecode(b"latin \xe4.png"))])
        == hashlib.sha256(b"latin \xe4.png").hexdigest()[:16]
    )


def test_split_is_deterministic_disjoint_and_at_most_a_tenth():
    paths = [f"{i:03d}" for i in range(95)]
    for count, expected in ((4, 4), (9, 9), (64, 9), (0, 0)):
        training, held_out = sources.split(paths, count, seed=1)
        assert len(held_out) == expected
        assert sorted(training + held_out) == paths
        assert training == sorted(training) and held_out == sorted(held_out)
        assert (training, held_out) == sources.split(paths, count, seed=1)
    assert sources.split(paths, 9, seed=2)[1] != sources.split(paths, 9, seed=1)[1]
    assert sources.split(paths[:9], 5, seed=0) == (paths[:9], [])
    assert sources.split(paths[:1], 5, seed=0) == (paths[:1], [])


def test_mean_pixel_weighs_photos_equally_whatever_their_size(tmp_path):
    rng = np.random.default_rng(0)
    means = []
    for i, size in enumerate([(5, 7), (40, 30), (1, 1)]):
        pixels = rng.integers(0, 256, [*size, 3], np.uint8)
        pixels[..., i] //= 4  # the channels differ
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        means.append(pixels.mean((0, 1)) / 255)
    photos = Photos(photo_folders.find_photos(tmp_path))
    mean = mean_pixel.measure(photos, 10, seed=0, progress=False)
    assert [type(channel) for channel in mean] == [float] * 3
    np.testing.assert_allclose(mean, np.mean(means, axis=0), rtol=1e-12)
    one = mean_pixel.measure(photos, 1, seed=5, progress=False)
    assert any(np.allclose(one, m, rtol=1e-12) for m in means)
    assert one == mean_pixel.measure(photos, 1, seed=5, progress=False)


def test_mean_pixel_leaves_broken_photos_out(tmp_path):
    paths = [tmp_path / f"{i:03d}.png" for i in range(100)]
    for path in paths:
        Image.new("RGB", (4, 4), (255, 51, 0)).save(path)
    paths[30].write_text("no image", encoding="utf-8")
    photos = Photos(paths)
    np.testing.assert_allclose(mean_pixel.measure(photos, 1000, seed=0, progress=False), (1.0, 0.2, 0.0), rtol=1e-12)
    assert [str(photo) for photo in photos.failures] == [str(paths[30])]
    paths[31].write_text("no image", encoding="utf-8")
    with pytest.raises(UserError, match="2 of 100 photos cannot be decoded"):
        mean_pixel.measure(Photos(paths), 1000, seed=0, progress=False)


def test_mean_pixel_of_nothing_but_one_failed_photo(tmp_path):
    (tmp_path / "photo.png").write_text("no image", encoding="utf-8")
    with pytest.raises(UserError, match="none of 1 photos can be decoded"):
        mean_pixel.measure(Photos([tmp_path / "photo.png"], max_failures=1.0), 10, seed=0, progress=False)


def test_a_folder_named_by_url_trains_on_the_same_pixels_as_by_path(tmp_path, monkeypatch):
    """A large JPEG is decoded at a part of its size in both, a small one and a PNG whole, and each is decoded once."""
    for i, (suffix, size) in enumerate(
        [(".jpg", (400, 300)), (".png", (200, 310)), (".jpg", (90, 70)), (".jpg", (8, 8))]
    ):
        pixels = np.random.default_rng(i).integers(0, 256, (10, 15, 3), np.uint8)
        photo = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
        photo.save(tmp_path / f"{i}{suffix}", quality=90)
    data = SimpleNamespace(validation_photos=0, enlarge=True, reduced_decode=True)
    stage = resolve(tiny.get_config())[0]
    decoded, found = [], []
    read_photo = images.read_photo

    def recorded(*args, **options):
        photo = read_photo(*args, **options)
        decoded[-1].append(photo.shape)
        return photo

    monkeypatch.setattr(images, "read_photo", recorded)
    for source in (tmp_path, f"file://{tmp_path}"):
        decoded.append([])
        photos, _ = sources.find(SimpleNamespace(seed=0, data=data), source, None, 4)
        found.append([examples.batch(photos, stage, 3, step) for step in range(3)])
    assert decoded[0] == decoded[1] and (75, 100, 3) in decoded[0]
    for ours, theirs in zip(*found, strict=True):
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
