"""Holes larger than those of the training, and larger than one pass."""

import re

import cv2
import numpy as np
import pytest
from completer_helpers import AWKWARD_SIZES, PLACES, SIZE, photo, rectangles, whole_image

from glcic_tf.completion import windows
from glcic_tf.completion.completer import Completer
from glcic_tf.completion.options import FilledHole

pytestmark = pytest.mark.slow


def smooth(height, width):
    """Photo-like float image: a few long waves in each channel."""
    y, x = np.mgrid[:height, :width] / 100
    return np.stack([0.5 + 0.4 * np.sin(k + y * (1 + k / 3) + x) for k in range(3)], axis=-1).astype(np.float32)


def test_batch_norm_is_folded_and_the_values_stay(network, narrow, folded):
    """Folding rounds a little differently, on a network as rough as this one too."""
    assert len(folded.layers) < len(network.layers)
    image, hole = photo(*SIZE), rectangles(*SIZE, *PLACES["middle"])
    np.testing.assert_allclose(
        narrow(image, hole, postprocess="none")[hole], whole_image(network, image, hole)[hole], atol=1e-4
    )


def test_reduced_result_is_that_of_the_reduced_image(narrow, folded):
    """At scale 0.5 the hole gets what the network makes of the halved image, enlarged again."""
    image, hole = smooth(240, 320), rectangles(240, 320, (60, 80, 160, 200))
    half = image.reshape(120, 2, 160, 2, 3).mean(axis=(1, 3))
    small = whole_image(folded, half, hole[::2, ::2])
    small = np.where(hole[::2, ::2, None], small, half)
    result = narrow(image, hole, scale=0.5, postprocess="none")
    np.testing.assert_array_equal(result[~hole], image[~hole])
    enlarged = cv2.resize(small, (320, 240), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    np.testing.assert_allclose(result[hole], enlarged[hole], atol=1e-5)


def test_auto_scale_reduces_only_holes_much_larger_than_those_of_the_training(network):
    image, narrow = smooth(400, 500), Completer(network, trained_hole_px=(12, 16))
    small, large = (20, 20, 34, 200), (200, 100, 280, 164)
    for boxes, scale in (([small], 1), ([large], 16 / 64)):
        hole = rectangles(400, 500, *boxes)
        expected = Completer(network)(image, hole, scale=scale, postprocess="none")
        if scale == 1:
            np.testing.assert_array_equal(narrow(image, hole, postprocess="none"), expected)
        else:
            done = narrow.complete(image, hole, postprocess="none")
            np.testing.assert_array_equal(done.image, expected)
            assert done.holes == (FilledHole(64, 0.25),) and len(done.notes) == 1
            assert re.search(r"64 px thick, .* holes of 12 to 16 px: completed at 0\.25 of", done.notes[0])
    # Both at once: each hole in its own way.
    hole = rectangles(400, 500, small, large)
    done = narrow.complete(image, hole, postprocess="none")
    result = done.image
    assert {(filled.thickness_px, filled.scale) for filled in done.holes} == {(14, 1), (64, 0.25)}
    assert (done.thickness_px, done.scale) == (64, 0.25)
    whole, reduced = (Completer(network)(image, hole, scale=scale, postprocess="none") for scale in (1, 16 / 64))
    np.testing.assert_allclose(result[20:34, 20:200], whole[20:34, 20:200], atol=1e-5)
    np.testing.assert_array_equal(result[200:280, 100:164], reduced[200:280, 100:164])


def test_slightly_larger_holes_are_noted_and_completed_at_full_resolution(network):
    image, hole = smooth(80, 90), rectangles(80, 90, (10, 10, 28, 50))
    done = Completer(network, (12, 16)).complete(image, hole, postprocess="none")
    assert re.search("18 px thick, .* 12 to 16 px: completed at full resolution", done.notes[0])
    np.testing.assert_array_equal(done.image, Completer(network)(image, hole, postprocess="none"))
    done = Completer(network, (12, 16)).complete(
        image, rectangles(80, 90, (10, 10, 70, 80)), scale=1, postprocess="none"
    )
    assert "completed at full resolution" in done.notes[0]


@pytest.mark.parametrize("scale", [0.01, 0.3, 0.9])
@pytest.mark.parametrize("size", AWKWARD_SIZES)
def test_every_scale_keeps_the_known_pixels(narrow, size, scale):
    image = photo(*size, 4, np.uint16)
    hole = np.random.default_rng(0).random(size) < 0.9  # hardly anything is known
    hole.flat[0], hole.flat[-1] = True, False
    result = narrow(image, hole, scale=scale, postprocess="none")
    np.testing.assert_array_equal(result[~hole], image[~hole])
    assert (result[hole][:, 3] == 65535).all()


def test_a_hole_larger_than_one_pass_is_completed_in_parts(narrow, folded, monkeypatch):
    image, hole = photo(120, 1500), rectangles(120, 1500, (20, 30, 90, 1450))
    expected = whole_image(folded, image, hole)
    monkeypatch.setattr(windows, "MAX_PASS_PX", 120 * 500)
    np.testing.assert_allclose(narrow(image, hole, postprocess="none")[hole], expected[hole], atol=1e-5)
