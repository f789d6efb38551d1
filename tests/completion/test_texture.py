"""Guided texture synthesis: what it may never change, awkward holes, and textures that it has to continue."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from glcic_tf.completion import texture


def _noise(shape, dtype=np.uint8, seed=0):
    values = np.random.default_rng(seed).random(shape)
    return values.astype(dtype) if np.dtype(dtype).kind == "f" else (values * np.iinfo(dtype).max).astype(dtype)


def _hole(shape, *boxes):
    hole = np.zeros(shape, bool)
    for top, left, bottom, right in boxes:
        hole[top:bottom, left:right] = True
    return hole


def _ring():
    y, x = np.mgrid[:80, :80]
    distance = np.hypot(y - 40, x - 40)
    return (distance < 30) & (distance > 18)


_AWKWARD = {
    "one row": ((1, 40), [(0, 10, 1, 20)]),
    "one column": ((40, 1), [(0, 0, 12, 1)]),
    "upper border": ((40, 44), [(0, 14, 14, 30)]),
    "left border": ((40, 44), [(14, 0, 28, 14)]),
    "lower border": ((41, 45), [(28, 14, 41, 30)]),
    "right border": ((41, 45), [(14, 30, 28, 45)]),
    "upper left corner": ((40, 44), [(0, 0, 14, 16)]),
    "lower right corner": ((41, 45), [(28, 30, 41, 45)]),
    "larger than the known part": ((60, 60), [(2, 2, 50, 58)]),
    "one known pixel": ((40, 40), [(0, 0, 40, 17), (0, 18, 40, 40), (0, 0, 20, 40), (21, 0, 40, 40)]),
    "half": ((40, 60), [(0, 0, 40, 30)]),
    "two far holes": ((200, 300), [(10, 10, 22, 22), (170, 280, 182, 300)]),
    "5 px": ((50, 50), [(20, 20, 25, 25)]),
    "one pixel": ((50, 50), [(49, 0, 50, 1)]),
    "long and thin": ((20, 300), [(8, 0, 12, 300)]),
    "thicker than is labelled at once": ((120, 130), [(20, 30, 98, 106)]),
}


@pytest.mark.parametrize("name", _AWKWARD)
def test_known_pixels_stay_and_results_repeat(name):
    shape, boxes = _AWKWARD[name]
    hole = _hole(shape, *boxes)
    image = _noise((*shape, 3))
    completed = np.where(hole[..., None], 99, image).astype(np.uint8)
    result, _ = texture.synthesise(image, completed, hole)
    assert result.shape == image.shape and result.dtype == image.dtype
    np.testing.assert_array_equal(result[~hole], image[~hole])
    image[hole] = 7  # is not looked at
    np.testing.assert_array_equal(texture.synthesise(image, completed, hole)[0], result)


@pytest.mark.parametrize(
    "channels, dtype",
    [(1, np.uint16), (1, np.float32), (3, np.uint16), (3, np.float64), (4, np.uint8), (4, np.float16)],
)
def test_every_depth_and_kind(channels, dtype):
    hole = _ring()
    image = _noise((80, 80, channels), dtype)
    if channels == 4:
        image[..., 3] = 1 if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max
    completed = image.copy()
    completed[hole] = completed.max()
    result, note = texture.synthesise(image, completed, hole)
    assert result.dtype == dtype and note is None
    np.testing.assert_array_equal(result[~hole], image[~hole])
    if channels == 4:
        assert (result[hole, 3] == (1 if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max)).all()


def test_nothing_to_fill_or_nothing_known_gives_a_copy():
    image = _noise((20, 30, 3))
    for hole in (np.zeros((20, 30), bool), np.ones((20, 30), bool)):
        result, note = texture.synthesise(image, image, hole)
        np.testing.assert_array_equal(result, image)
        assert result is not image and note is None


def test_too_little_known_is_blended_and_said():
    hole = _hole((64, 64), (2, 2, 64, 64))
    image = np.full((64, 64, 3), 90, np.uint8)
    result, note = texture.synthesise(image, np.where(hole[..., None], 120, image).astype(np.uint8), hole)
    assert "100% of the hole" in note
    assert np.abs(result[2:4, 2:4].astype(int) - 90).max() <= 1


def test_wrong_shapes_are_refused():
    image = _noise((20, 30, 3))
    with pytest.raises(ValueError, match="hole: found bool"):
        texture.synthesise(image, image, np.zeros((30, 20), bool))
    with pytest.raises(ValueError, match="completed: found uint16"):
        texture.synthesise(image, image.astype(np.uint16), np.zeros((20, 30), bool))


@pytest.mark.parametrize("period", [6, 9])
def test_stripes_go_on_exactly(period):
    x = np.arange(128)
    image = np.where((x // (period // 3)) % 3 == 0, 200, 50).astype(np.uint8)[None, :, None].repeat(128, 0).repeat(3, 2)
    hole = _hole((128, 128), (40, 30, 90, 95))
    blur = gaussian_filter(image.astype(float), (1, 1, 0)).astype(np.uint8)  # the network shows them, but not sharp
    result, note = texture.synthesise(image, np.where(hole[..., None], blur, image), hole)
    assert note is None
    np.testing.assert_allclose(result.astype(int), image, atol=2)  # the membrane leaves a grey level or two


@pytest.mark.parametrize("hole", [_hole((120, 140), (30, 40, 90, 110)), _hole((120, 140), (0, 40, 70, 110)), None])
def test_a_sky_of_one_colour_comes_out_invisible(hole):
    hole = np.pad(_ring(), ((20, 20), (30, 30))) if hole is None else hole
    image = np.broadcast_to(np.array([120, 160, 220], np.uint8), (120, 140, 3)).copy()
    completed = np.where(hole[..., None], image + np.array([12, -6, -15]), image).astype(np.uint8)
    completed[hole] += np.random.default_rng(0).integers(0, 4, (hole.sum(), 3)).astype(np.uint8)
    result, _ = texture.synthesise(image, completed, hole)
    np.testing.assert_array_equal(result, image)


def test_what_is_transparent_is_not_copied():
    image = np.full((80, 80, 4), 255, np.uint8)
    image[..., :3] = 100
    image[:, :30] = (255, 0, 0, 0)  # red, but not seen
    hole = _hole((80, 80), (30, 34, 60, 60))
    completed = np.where(hole[..., None], np.array([240, 20, 20, 255], np.uint8), image)
    result, _ = texture.synthesise(image, completed, hole)
    np.testing.assert_array_equal(result[hole], np.broadcast_to([100, 100, 100, 255], (hole.sum(), 4)))
