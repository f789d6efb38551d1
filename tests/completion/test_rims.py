"""rims: what a tight mask leaves of letters and wires is told from a photo's own, and not carried into the hole."""

import cv2
import numpy as np
import pytest
import skimage.data

from glcic_tf.completion import rims
from glcic_tf.completion.completer import Completer
from glcic_tf.evaluation import metrics

PHOTO = np.ascontiguousarray(skimage.data.chelsea()[20:276, 100:356])


def written(colour, photo=PHOTO, kind="text"):
    """A photo with letters or wires over it, softened as by a camera, and a mask of what is mostly theirs."""
    height, width = photo.shape[:2]
    large = np.zeros((4 * height, 4 * width), np.uint8)
    if kind == "text":
        cv2.putText(large, "Sample 27", (40, 500), cv2.FONT_HERSHEY_SIMPLEX, 5, 255, 24, cv2.LINE_AA)
    elif kind == "wires":
        cv2.line(large, (100, 0), (700, 4 * height), 255, 18, cv2.LINE_AA)
    else:
        cv2.ellipse(large, (480, 520), (180, 110), 30, 0, 360, 255, -1, cv2.LINE_AA)
    share = cv2.GaussianBlur(cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA) / 255.0, (0, 0), 0.7)
    mixed = photo * (1 - share[..., None]) + np.array(colour) * share[..., None]
    return mixed.round().astype(photo.dtype), share > 0.5


def ring(hole):
    return (cv2.dilate(hole.astype(np.uint8), np.ones((5, 5))) > 0) & ~hole


@pytest.mark.parametrize("kind", ["text", "wires"])
@pytest.mark.parametrize("colour", [(255, 255, 255), (20, 20, 30), (250, 220, 0)])
def test_rims_of_letters_and_wires_are_found_and_clean_ones_are_not(kind, colour):
    shown, hole = written(colour, kind=kind)
    np.testing.assert_array_equal(rims.left_of_objects(shown, hole, hole), ring(hole))
    assert not rims.left_of_objects(PHOTO, hole, hole).any()
    grown = cv2.dilate(hole.astype(np.uint8), np.ones((7, 7))) > 0  # a mask that covers all of it
    assert not rims.left_of_objects(shown, grown, grown).any()


@pytest.mark.parametrize("form", ["uint16", "float32", "grey", "rgba"])
def test_every_depth_and_kind_is_judged_alike(form):
    shown, hole = written((255, 255, 255))
    if form == "grey":
        shown = shown[..., :1]
    elif form == "rgba":
        shown = np.dstack([shown, np.full(hole.shape, 255, np.uint8)])
    else:
        shown = shown.astype(np.uint16) * 257 if form == "uint16" else shown.astype(np.float32) / 255
        if form == "float32":
            shown[hole] = np.nan
    np.testing.assert_array_equal(rims.left_of_objects(shown, hole, hole), ring(hole))


@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (3, 3), (7, 7)])
def test_where_little_is_known_nothing_is_found(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    hole = np.zeros(shape, bool)
    hole[shape[0] // 2, shape[1] // 2] = True
    assert not rims.left_of_objects(image, hole, hole).any()
    assert not rims.left_of_objects(image, np.ones(shape, bool), np.ones(shape, bool)).any()


def test_holes_far_apart_are_judged_each_for_itself():
    shown, hole = written((255, 255, 255))
    wide, both = np.concatenate([shown, PHOTO[:, ::-1], PHOTO], axis=1), np.pad(hole, ((0, 0), (0, 512)))
    both[100:104, 550:750] = True
    found = rims.left_of_objects(wide, both, both)
    np.testing.assert_array_equal(found[:, :256], ring(hole))
    assert not found[:, 256:].any()


def test_other_holes_are_not_known():
    shown, hole = written((255, 255, 255))
    unknown = hole.copy()
    unknown[:, 128:] = True
    found = rims.left_of_objects(shown, hole, unknown)
    assert found.any() and not (found & unknown).any()


@pytest.mark.parametrize("kind", ["text", "wires", "object"])
def test_auto_completes_the_rim_too_and_is_much_nearer_to_the_photo(kind):
    """By a network that carries the known colours on; and what is known stays, as do the other post-processes."""
    shown, hole = written((255, 255, 255), kind=kind)
    completer = Completer(lambda crops, masks: np.stack([filled(*pair) for pair in zip(crops, masks, strict=True)]))
    done = completer.complete_by_each(shown, hole, ["none", "auto", "poisson"])
    assert [*done] == ["none", "auto", "poisson"] and completer(shown, hole).tobytes() == done["auto"].image.tobytes()
    for name, completion in done.items():
        np.testing.assert_array_equal(completion.image[~hole], shown[~hole])
        assert any("mask_dilate" in note for note in completion.notes) == (name == "auto")
        alone = completer.complete(shown, hole, postprocess=name).image
        np.testing.assert_array_equal(completion.image, alone)
    figures = {
        name: metrics.psnr_in_hole(PHOTO, np.where(hole[..., None], completion.image, PHOTO), hole)
        for name, completion in done.items()
    }
    assert figures["auto"] > figures["poisson"] + 1.5, figures


def filled(rgb, mask):
    """What is known near by: float32 [height, width, 3]."""
    known = (mask == 0).astype(np.float32)
    share = cv2.GaussianBlur(known, (0, 0), 3)[..., None]
    return cv2.GaussianBlur(rgb * known, (0, 0), 3) / np.maximum(share, 1e-6)


def test_a_rim_and_a_hole_that_leave_nothing_known_are_completed_as_they_are():
    image = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    hole = np.zeros((6, 6), bool)
    hole[2:4, 2:4] = True
    completer = Completer(lambda crops, masks: crops)
    np.testing.assert_array_equal(completer(image, hole)[~hole], image[~hole])


def test_long_holes_are_judged_in_strips():
    photo = np.concatenate([PHOTO, PHOTO[::-1]] * 3)
    large = np.zeros((len(photo) * 4, photo.shape[1] * 4), np.uint8)
    cv2.line(large, (500, 0), (560, len(large)), 255, 18, cv2.LINE_AA)
    share = cv2.GaussianBlur(cv2.resize(large, photo.shape[1::-1], interpolation=cv2.INTER_AREA) / 255.0, (0, 0), 0.7)
    shown, hole = np.rint(photo * (1 - share[..., None])).astype(np.uint8), share > 0.5
    np.testing.assert_array_equal(rims.left_of_objects(shown, hole, hole), ring(hole))
    assert not rims.left_of_objects(photo, hole, hole).any()
