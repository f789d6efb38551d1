"""What a tightly drawn mask leaves of an object: pixels beside the hole that are half the object and half the photo.

Letters and wires end in such pixels, which antialiasing, a lens or JPEG made. Blending carries their colours into the
hole, and with them the object. So they are told from what lies beyond them: along the whole rim, their colours differ
to the same side, and by more than the photo's own do from one pixel to the next.
"""

import cv2
import numpy as np

from glcic_tf.imaging import holes
from glcic_tf.imaging.pixels import to_rgb

# Mean difference of the rim from the pixels beyond it / mean distance of those from the next ones. Thin holes in photos
# have up to 0.4 (99 of 100), the same holes under letters and wires 0.8 and more (95 of 100).
_LEAST_BIAS = 0.6
_FEWEST_PX = 8  # of a rim that is judged
_LEVEL = 1 / 255  # so much is no difference
_MARGIN_PX = 4  # a rim, two rings beyond it, and their neighbours


def left_of_objects(image, hole, unknown):
    """Find rims that are left of what stood in a hole, for each group of holes (`holes.groups`) as a whole.

    Args:
        image: [height, width, 1|3|4] (grey, RGB or RGBA), uint8, uint16, or float in [0, 1].
        hole: bool [height, width].
        unknown: bool [height, width], the hole and what else is not known.

    Returns:
        bool [height, width]: known pixels beside holes whose colours are not to be carried into them.
    """
    found = np.zeros_like(hole)
    for box, own in holes.groups(hole):
        window = holes.around(box, _MARGIN_PX, hole.shape)
        inside = np.zeros(hole[window].shape, np.uint8)
        top, left = box[0] - window[0].start, box[1] - window[1].start
        inside[top : top + own.shape[0], left : left + own.shape[1]] = own
        rim = _rim(to_rgb(image[window], unknown[window]), inside, ~unknown[window])
        if rim is not None:
            found[window] |= rim
    return found


def _rim(rgb, inside, known):
    """Return the rim of a hole if it is left of an object, else None; all arrays are [height, width, ...]."""
    grown = [inside > 0]
    for _ in range(3):
        inside = cv2.dilate(inside, np.ones((3, 3), np.uint8))
        grown.append(inside > 0)
    rings = [outer & ~inner & known for inner, outer in zip(grown, grown[1:], strict=False)]
    off, usual = _difference(rgb, rings[0], rings[1]), _difference(rgb, rings[1], rings[2])
    if min(len(off), len(usual)) < _FEWEST_PX:
        return None
    bias = np.linalg.norm(off.mean(0)) / (np.sqrt(3) * (np.abs(usual).mean() + _LEVEL / np.sqrt(3)))
    return rings[0] if bias > _LEAST_BIAS else None


def _difference(rgb, ring, beyond):
    """Colours of a ring minus the means of their neighbours in the next one: float32 [count, 3]."""
    share = cv2.blur(beyond.astype(np.float32), (3, 3))
    colours = cv2.blur(rgb * beyond[..., None], (3, 3))
    at = ring & (share > 1e-3)
    return rgb[at] - colours[at] / share[at][:, None]
