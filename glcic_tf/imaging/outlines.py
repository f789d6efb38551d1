"""From a rough stroke or a click on a photo to the outline of the object below it, by GrabCut (Rother et al. 2004)."""

import math
import time

import cv2
import numpy as np

from glcic_tf.imaging import holes

_SIDE_PX = 320  # of the reduced copy; GrabCut's time follows its pixels
_MOST_S = 1.2
_ROUNDS = 5
_AROUND = 1.0  # the object may reach beyond the stroke by so many of its longer sides,
_LEAST_AROUND = 0.15  # and by this part of the photo's longer side after a click
_CORE = 0.6  # this near to the middle of a stroke, as a part of its half width, all is the object's
_MOST = 0.9  # of what is looked at: more is no object


def snapped(image, rough):
    """Return the object that a rough stroke lies on.

    Args:
        image: uint8 [height, width, 1|3], grey or RGB.
        rough: bool [height, width], what is painted; something is.

    Returns:
        bool [height, width]; None if no outline was found.
    """
    top, left, bottom, right = box = holes.tight_box(rough)
    reach = math.ceil(max(_AROUND * max(bottom - top, right - left), _LEAST_AROUND * max(rough.shape)))
    inside = holes.around(box, 2 * reach, rough.shape)
    shape = rough[inside].shape
    factor = min(1, _SIDE_PX / max(shape))
    small_shape = tuple(max(1, round(side * factor)) for side in shape)
    small = cv2.resize(np.ascontiguousarray(image[inside]), small_shape[::-1], interpolation=cv2.INTER_AREA)
    small = cv2.cvtColor(small, cv2.COLOR_GRAY2BGR) if small.ndim == 2 else small
    stroke = holes.resize(rough[inside], small_shape)
    found = _cut(small, stroke, max(1, round(reach * factor)))
    if not found.any() or found.mean() > _MOST:
        return None
    result = np.zeros_like(rough)
    result[inside] = holes.resize(found, shape)
    return result if result.any() else None


def _cut(image, stroke, reach_px):
    """Part object and background in a small picture: bool [height, width], of parts that the stroke touches."""
    depth = cv2.distanceTransform(np.pad(stroke, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    near = holes.dilate(stroke, reach_px)
    labels = np.full(stroke.shape, cv2.GC_BGD, np.uint8)
    labels[near] = cv2.GC_PR_BGD
    labels[stroke] = cv2.GC_PR_FGD
    labels[depth >= _CORE * depth.max()] = cv2.GC_FGD
    if near.all():  # what is at the border is the likeliest to be none of it
        for border in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
            labels[border][~stroke[border]] = cv2.GC_BGD
    if not (labels == cv2.GC_BGD).any():
        return np.zeros_like(stroke)
    cv2.setRNGSeed(0)
    models, start = (np.zeros((1, 65)), np.zeros((1, 65))), time.perf_counter()
    try:
        for number in range(_ROUNDS):
            cv2.grabCut(image, labels, None, *models, 1, cv2.GC_EVAL if number else cv2.GC_INIT_WITH_MASK)
            if time.perf_counter() - start > _MOST_S * (number + 1) / (number + 2):  # no time for one more
                break
    except cv2.error:  # too few pixels of a kind
        return np.zeros_like(stroke)
    found = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    found = cv2.morphologyEx(found, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    parts = cv2.connectedComponents(found)[1]
    return np.isin(parts, np.unique(parts[stroke & (found > 0)])) & (found > 0)
