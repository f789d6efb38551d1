"""outlines: a stroke or a click becomes the object's outline, in a time that does not grow with the photo."""

import cv2
import numpy as np
import pytest

from glcic_tf.imaging import outlines


def ellipse(shape, centre, axes):
    filled = cv2.ellipse(np.zeros(shape, np.uint8), centre, axes, 0, 0, 360, 1, -1)
    return filled.astype(bool)


def photo(wanted, channels=3):
    noise = np.random.default_rng(0).integers(-8, 9, (*wanted.shape, 3))
    rgb = np.where(wanted[..., None], (220, 40, 30), (60, 60, 60)) + noise
    return rgb.astype(np.uint8)[..., :channels]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("shape", "rough"),
    [
        ((200, 300), ((150, 100), (6, 6))),  # a click
        ((200, 300), ((150, 100), (60, 40))),  # painted over all of it, and beyond
        ((200, 300), ((150, 100), (30, 10))),  # a stroke inside
    ],
)
def test_an_ellipse_is_found(shape, rough, channels):
    wanted = ellipse(shape, (150, 100), (40, 25))
    found = outlines.snapped(photo(wanted, channels), ellipse(shape, *rough))
    assert (found & wanted).sum() > 0.95 * (found | wanted).sum()


def test_only_the_object_that_was_pointed_at_is_found_in_a_large_photo():
    shape = (1500, 2000)
    wanted, other = ellipse(shape, (500, 700), (150, 120)), ellipse(shape, (1000, 700), (150, 120))
    found = outlines.snapped(photo(wanted | other), ellipse(shape, (500, 700), (30, 30)))
    assert (found & wanted).sum() > 0.9 * (found | wanted).sum() and not (found & other).any()


def test_where_there_is_nothing_to_find():
    assert outlines.snapped(np.zeros((40, 50, 3), np.uint8), np.ones((40, 50), bool)) is None
    tiny = outlines.snapped(np.zeros((1, 2, 3), np.uint8), np.array([[True, False]]))
    assert tiny is None or tiny.shape == (1, 2)
