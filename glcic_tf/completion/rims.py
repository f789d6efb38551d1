"""What a tightly drawn mask leaves of an object: pixels beside the hole that are half the object and half the photo.

Objects, letters and wires end in such pixels, which antialiasing, a lens or JPEG made. The network, the texture and
blending take them for the photo's, and carry the object's colours into the hole. So they are told from what lies beyond
them: along the whole rim, their colours differ to the same side, and by more than the photo's own do from one pixel to
the next.
"""

import itertools

import cv2
import numpy as np

from glcic_tf.imaging import holes
from glcic_tf.imaging.pixels import to_rgb

# Mean difference of the rim from the pixels beyond it / mean distance of those from the next ones; how large it is; and
# the share of the rim that is off to this side. Thin holes in photos have up to 0.4 (99 of 100), and thick ones up to
# 1.0, but then with a share of 0.55; holes under letters and wires have 0.8 and 0.74 or more (95 of 100).
_LEAST_BIAS, _LEAST_OFF, _LEAST_AGREEING = 0.6, 4 / 255, 0.62
_FEWEST_PX = 8  # of a rim that is judged
RIM_PX = 2  # how far it reaches
_LEVEL = 1 / 255  # so much is no difference
_MARGIN_PX = 4  # three rings around the hole, and the neighbours of the last
_STRIP_ROWS = 512  # looked at together


def left_of_objects(image, hole, unknown):
    """Find rims that are left of what stood in a hole, for each group of holes (`holes.groups`) as a whole.

    Args:
        image: [height, width, 1|3|4] (grey, RGB or RGBA), uint8, uint16, or float in [0, 1].
        hole: bool [height, width].
        unknown: bool [height, width], the hole and what else is not known.

    Returns:
        bool [height, width]: known pixels within 2 px of holes that belong to what stood there.
    """
    found = np.zeros_like(hole)
    for box, own in holes.groups(hole):
        window = holes.around(box, _MARGIN_PX, hole.shape)
        inside = np.zeros(hole[window].shape, np.uint8)
        top, left = box[0] - window[0].start, box[1] - window[1].start
        inside[top : top + own.shape[0], left : left + own.shape[1]] = own
        if _is_of_the_object(image[window], inside, unknown[window]):
            kernel = np.ones((2 * RIM_PX + 1,) * 2, np.uint8)
            found[window] |= (cv2.dilate(inside, kernel) > 0) & ~unknown[window]
    return found


def _is_of_the_object(image, inside, unknown):
    """Whether the first ring around a hole differs from the second, as a whole, as the second does not from the third.

    Args:
        image, unknown: as for `left_of_objects`, around one group.
        inside: uint8 [height, width], 1 in the group.
    """
    off, usual = [], []
    for top in range(0, len(inside), _STRIP_ROWS):
        rows = slice(max(0, top - _MARGIN_PX), top + _STRIP_ROWS + _MARGIN_PX)
        own = slice(top - rows.start, top - rows.start + _STRIP_ROWS)
        rgb, grown = to_rgb(image[rows], unknown[rows]), [inside[rows]]
        for _ in range(3):
            grown.append(cv2.dilate(grown[-1], np.ones((3, 3), np.uint8)))
        rings = [(outer > inner) & ~unknown[rows] for inner, outer in itertools.pairwise(grown)]
        off.append(_difference(rgb, rings[0], rings[1], own))
        usual.append(_difference(rgb, rings[1], rings[2], own))
    off, usual = np.concatenate(off), np.concatenate(usual)
    if min(len(off), len(usual)) < _FEWEST_PX:
        return False
    mean = off.mean(0)
    size = np.linalg.norm(mean)
    if size < max(_LEAST_OFF, _LEAST_BIAS * (np.sqrt(3) * np.abs(usual).mean() + _LEVEL)):
        return False
    return np.mean(off @ mean > 0) > _LEAST_AGREEING


def _difference(rgb, ring, beyond, rows):
    """Colours of some rows of a ring minus the means of their neighbours in the next one: float32 [count, 3]."""
    share = cv2.blur(beyond.astype(np.float32), (3, 3))
    colours = cv2.blur(rgb * beyond[..., None], (3, 3))
    at = (ring & (share > 1e-3))[rows]
    return rgb[rows][at] - colours[rows][at] / share[rows][at][:, None]
