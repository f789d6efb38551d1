"""Between a photo's pixels and what the browser shows of them and paints on: the previews."""

import cv2
import numpy as np

from glcic_tf.common.errors import UserError
from glcic_tf.imaging import holes, images

PREVIEW_PX = 1280  # longest side of what the browser shows
# Pink, as photos seldom are. Mostly opaque, so that `images.read_mask` takes it for white, also where all is painted.
BRUSH_RGBA = (255, 92, 158, 179)
_MAX_LAYERS = 4  # the page offers one


def within(shape):
    """(height, width) at which the browser is shown a picture of `shape`."""
    factor = min(1, PREVIEW_PX / max(shape[:2]))
    return tuple(max(1, round(side * factor)) for side in shape[:2])


def picture(pixels, shape):
    """What the browser shows of pixels: 8-bit grey or RGB of `shape`, transparency on white."""
    small = cv2.resize(pixels, shape[::-1], interpolation=cv2.INTER_AREA).reshape(*shape, -1)
    if small.dtype == np.uint16:
        small = ((small.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if small.shape[2] == 4:
        opaque = small[..., 3:] / np.float32(255)
        small = np.rint(small[..., :3] * opaque + 255 * (1 - opaque)).astype(np.uint8)
    return small


def read_painted(layers, shape):
    """Return what is painted on a preview.

    Args:
        layers: image files as the browser sends them, a few.
        shape: (height, width) of the preview in px.

    Returns:
        bool [height, width].

    Raises:
        UserError: a layer is not an image, or too large, or there are too many.
    """
    if len(layers) > _MAX_LAYERS:
        raise UserError(f"There are {len(layers)} layers; expected at most {_MAX_LAYERS}.")
    painted = np.zeros(shape, bool)
    for path in layers:
        mask = images.read_mask(path, 4 * PREVIEW_PX**2, isolated=True)
        painted |= mask if mask.shape == tuple(shape) else holes.resize(mask, shape)
    return painted
