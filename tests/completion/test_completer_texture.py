"""Texture as a post-process of the completer, and what "auto" does."""

import numpy as np
import pytest

from glcic_tf.completion import blending, completer, texture
from glcic_tf.completion.completer import Completer

pytestmark = pytest.mark.slow


def _completer(postprocess="texture"):
    """Make a completer without a network, that fills holes with one grey."""
    made = Completer.__new__(Completer)
    made.trained_hole_px, made.frame, made.postprocess = None, None, postprocess
    made._fill = lambda image, hole, wanted: image.__setitem__(wanted, np.array(99, image.dtype))
    return made


@pytest.fixture
def photo():
    rng = np.random.default_rng(3)
    return rng.integers(60, 200, (90, 100, 3), dtype=np.uint8)


def _hole(*box):
    hole = np.zeros((90, 100), bool)
    hole[box[0] : box[2], box[1] : box[3]] = True
    return hole


def test_texture_is_what_synthesise_makes_of_the_completion(photo):
    hole = _hole(30, 30, 60, 65)
    network_alone = _completer()(photo, hole, postprocess="none")
    expected, _ = texture.synthesise(photo, network_alone, hole)
    np.testing.assert_array_equal(_completer()(photo, hole, postprocess="texture"), expected)
    np.testing.assert_array_equal(_completer()(photo, hole, postprocess="auto"), expected)


def test_auto_blends_what_a_model_of_others_completed(photo):
    hole = _hole(30, 30, 60, 65)
    expected = _completer()(photo, hole, postprocess="poisson")
    np.testing.assert_array_equal(_completer("poisson")(photo, hole, postprocess="auto"), expected)


@pytest.mark.parametrize(
    "notes, expected", [({}, "texture"), ({"phase": "joint"}, "texture"), ({"source": "mmagic"}, "poisson")]
)
def test_notes_of_the_model_file_choose(notes, expected):
    assert completer._usual_postprocess(notes) == expected


def test_auto_blends_thin_holes_and_fills_thick_ones(photo):
    photo = photo.repeat(4, 1)
    thin, thick = (
        np.pad(_hole(*box), ((0, 0), (left, 300 - left))) for box, left in (((5, 5, 9, 80), 0), ((40, 40, 70, 75), 300))
    )
    result = _completer()(photo, thin | thick, postprocess="auto")
    network_alone = _completer()(photo, thin | thick, postprocess="none")
    np.testing.assert_array_equal(result[thin], blending.poisson(photo, network_alone, thin)[thin])
    filled, _ = texture.synthesise(photo, network_alone, thick, thin)
    np.testing.assert_array_equal(result[thick], filled[thick])
    np.testing.assert_array_equal(result[~(thin | thick)], photo[~(thin | thick)])


def test_too_little_to_copy_from_warns_if_texture_was_asked_for(photo):
    hole = ~_hole(0, 0, 3, 100)
    done = _completer().complete(photo, hole, postprocess="texture")
    asked = done.image
    assert "too little is known to copy from for 100% of the hole" in done.notes[0]
    np.testing.assert_array_equal(_completer()(photo, hole, postprocess="auto"), asked)
    np.testing.assert_array_equal(asked, _completer()(photo, hole, postprocess="poisson"))


def test_grey_images_keep_their_shape(photo):
    hole = _hole(30, 30, 60, 65)
    result = _completer()(photo[..., 0], hole, postprocess="texture")
    assert result.shape == (90, 100)
    np.testing.assert_array_equal(result[~hole], photo[..., 0][~hole])
