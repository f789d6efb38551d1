"""uncrop: the canvas grows on the sides asked for, what was known stays bit for bit, and mistakes are one line."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import small_networks

from glcic_tf.common.errors import UserError
from glcic_tf.completion import uncropping
from glcic_tf.completion.completer import Completer
from glcic_tf.completion.folder import infer
from glcic_tf.completion.options import Options
from glcic_tf.imaging import images
from glcic_tf.networks import model_file
from glcic_tf.networks.completion import completion_network

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SIDES = (5, 0, 9, 3)


@pytest.fixture(scope="module")
def completer():
    return Completer(small_networks.completion_network())


def photo(channels=3, dtype=np.uint8, shape=(31, 42)):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (*shape, channels), dtype, endpoint=True)


@pytest.mark.parametrize(("channels", "dtype"), [(1, np.uint8), (3, np.uint8), (3, np.uint16), (4, np.uint8)])
@pytest.mark.parametrize("postprocess", ["auto", "texture", "poisson", "none"])
def test_known_pixels_stay_and_the_rest_does_not_depend_on_what_pads_it(completer, channels, dtype, postprocess):
    given = photo(channels, dtype)
    if channels == 4:
        given[..., 3] = 255
    mask = np.zeros(given.shape[:2], bool)
    mask[10:14, 10:14] = True
    done = completer(given, mask, uncrop=SIDES, postprocess=postprocess)
    assert done.shape == (34, 56, channels) and done.dtype == dtype
    np.testing.assert_array_equal(done[:31, 5:47][~mask], given[~mask])
    extended, hole = np.zeros_like(done), np.ones(done.shape[:2], bool)
    extended[:31, 5:47], hole[:31, 5:47] = given, mask
    np.testing.assert_array_equal(done, completer(extended, hole, postprocess=postprocess))


def test_without_a_mask_and_with_one_that_grows(completer):
    given = photo()
    done = completer(given, "alpha", uncrop=SIDES)
    np.testing.assert_array_equal(done[:31, 5:47], given)
    grown = completer(given, "alpha", uncrop=SIDES, mask_dilate=7)  # a mask grows, margins do not
    np.testing.assert_array_equal(grown, done)
    assert completer(given[..., 0], np.zeros((31, 42), bool), uncrop=SIDES).shape == (34, 56)
    transparent = np.dstack([given, np.full((31, 42), 255, np.uint8)])
    transparent[3:6, 3:6, 3] = 0
    done = completer(transparent, "alpha", uncrop=SIDES)
    assert (done[..., 3] == 255).all()  # what was transparent is completed as well


@pytest.mark.parametrize(
    "wrong", [(1, 2, 3), (0, 0, 0, 0), (-1, 0, 0, 2), (1.5, 0, 0, 0), ("a", 0, 0, 0), (None,) * 4, (float("inf"),) * 4]
)
def test_wrong_margins(wrong):
    with pytest.raises(ValueError, match=r"^uncrop: expected px to add at left,top,right,bottom, from 0 up"):
        Options(uncrop=wrong)
    assert uncropping.margins(["1", "0", "0", "2"]) == (1, 0, 0, 2)


def test_too_large_a_canvas(completer):
    with pytest.raises(ValueError, match=r"the image: would have 10000000042 x 31 px with uncrop; at most 268 meg"):
        completer(photo(), "alpha", uncrop=(10**10, 0, 0, 0))


def test_command(tmp_path):
    model_file.save(completion_network(1 / 16), tmp_path / "narrow.keras")
    given = photo()
    images.write_image(tmp_path / "photo.png", given)
    options = {"model": tmp_path / "narrow.keras", "uncrop": SIDES}
    assert infer(tmp_path / "photo.png", "alpha", tmp_path / "out.png", **options) == 0
    done = images.read_image(tmp_path / "out.png")
    assert done.shape == (34, 56, 3)
    np.testing.assert_array_equal(done[:31, 5:47], given)
    with pytest.raises(UserError, match=r"photo\.png: would have 56 x 34 px with uncrop; at most 0 megapixels"):
        infer(tmp_path / "photo.png", "alpha", tmp_path / "no.png", **options, max_pixels=1400)
    command = [sys.executable, "-m", "glcic_tf", "complete", "--image=a.png", "--output=b.png", "--uncrop=5,0,x"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 2 and "--uncrop: expected px to add at left,top,right,bottom" in found.stderr
    assert not (tmp_path / "no.png").exists()
