"""How different a completion looks from the original, judged by features of a network trained on photos.

This is the distance of LPIPS (Zhang et al. 2018, The Unreasonable Effectiveness of Deep Features), but on another
network and around the hole. Features of EfficientNet-Lite0 are taken at five sizes, each cell is scaled to unit length
over its channels, and the squared difference of the two images' cells is averaged over the cells around the hole and
summed over the sizes: from 0 for equal images to 20; if the features have nothing in common it is 10. The cells around
the hole are those that hold a pixel of it, and their neighbours, so known pixels count near the hole, as at a seam. No
weights are fitted to people's judgements; figures can be compared with one another but not with published LPIPS.

Unlike l1 and PSNR, which reward the mean of all likely contents, that is a blur, it rewards textures of the right kind
even if they do not match pixel by pixel.
"""

import functools
import typing

import numpy as np

from glcic_tf.evaluation import efficientnet_lite

LAYERS = ("stride2", "stride4", "stride8", "stride16", "stride32")
_TINY = 1e-10  # as in LPIPS: added to lengths, so that a cell of zeros stays a cell of zeros


class Features(typing.NamedTuple):
    """What is kept of an image.

    Attributes:
        cells: {layer: [cells around the hole, channels] float32 of unit length}.
        pooled: [1280] float32, the mean of the last features over the cells that hold a pixel of the hole: for `kid`.
    """

    cells: dict
    pooled: np.ndarray


@functools.cache
def network():
    """Load the network, once.

    Raises:
        UserError: the package with the weights is not installed.
    """
    return efficientnet_lite.load()


def perceptual(image, completed, hole):
    """Compute the perceptual distance of a completion to the original, around the hole.

    Args:
        image, completed: [height, width, 3] uint8 RGB, the original and its completion.
        hole: [height, width], non-zero = hole.

    Returns:
        float, 0 or more; 0 for equal images, lower is better.

    Raises:
        UserError: the package with the weights is not installed.
        ValueError: shapes or dtypes don't fit, or the mask has no hole.
    """
    return distance(features(image, hole), features(completed, hole))


def features(image, hole, model=None):
    """Compute the features of an image around a hole.

    Args:
        image: [height, width, 3] uint8 RGB.
        hole: [height, width], non-zero = hole.
        model: from `efficientnet_lite.load`; None: `network()`.

    Returns:
        `Features`.

    Raises:
        UserError: the package with the weights is not installed.
        ValueError: the shape or dtype doesn't fit, or the mask has no hole.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"Expected uint8 [height, width, 3], found {image.dtype} {list(image.shape)}.")
    if hole.shape != image.shape[:2] or not np.any(hole):
        raise ValueError(f"Expected a hole in a mask {list(image.shape[:2])}, found {list(hole.shape)}, or no hole.")
    found = (model or network()).predict_on_batch(image[None].astype(np.float32))
    cells = {}
    for layer in LAYERS:
        kept = found[layer][0][_with_neighbours(cells_of(hole, efficientnet_lite.STRIDES[layer]))]
        cells[layer] = kept / (np.linalg.norm(kept, axis=-1, keepdims=True) + _TINY)
    return Features(cells, found["head"][0][cells_of(hole, efficientnet_lite.STRIDES["head"])].mean(axis=0))


def distance(a, b):
    """Compute the perceptual distance of two images' `Features` around the same hole: 0 or more."""
    squares = [np.square(a.cells[layer] - b.cells[layer]).sum(axis=-1).mean() for layer in LAYERS]
    return float(np.sum(squares))


def cells_of(hole, stride):
    """Find the cells of a feature map that hold a pixel of the hole.

    Args:
        hole: [height, width], non-zero = hole.
        stride: pixels of the image per cell, in both directions.

    Returns:
        [ceil(height / stride), ceil(width / stride)] bool.
    """
    height, width = (-(-side // stride) for side in hole.shape)
    padded = np.zeros((height * stride, width * stride), bool)
    padded[: hole.shape[0], : hole.shape[1]] = hole != 0
    return padded.reshape(height, stride, width, stride).any(axis=(1, 3))


def _with_neighbours(cells):
    """Cells and their eight neighbours."""
    padded = np.pad(cells, 1)
    rows = padded[:-2] | padded[1:-1] | padded[2:]
    return rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:]
