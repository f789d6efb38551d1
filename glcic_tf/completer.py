"""Complete an image of any size with a completion network, at a cost that follows its holes.

Only windows around the holes go through the network. A window reaches MARGIN_PX beyond its holes, half of the network's
support, so that the pixels in the holes come out as if the whole image had been passed.
"""

from pathlib import Path

import cv2
import numpy as np
import tensorflow as tf

from glcic_tf import model_file
from glcic_tf.errors import UserError
from glcic_tf.networks import MARGIN_PX, STRIDE

DEFAULT_MODEL = Path(__file__).parent / "weights" / "scenes.keras"
# Holes nearer than this share a window: theirs would overlap so much that one costs hardly ever more than both.
_GROUPING_PX = 64


class Completer:
    """A completion network ready for use on NumPy images.

    Args:
        model: Keras model as `networks.completion_network` or `model_file.load` gives it; used in inference mode.
    """

    def __init__(self, model):
        self.model = model

        # One graph for every size: without the signature each new crop size would be traced anew.
        @tf.function(
            autograph=False,
            input_signature=[
                tf.TensorSpec([None, None, None, 3], tf.float32),
                tf.TensorSpec([None, None, None, 1], tf.float32),
            ],
        )
        def network(image, mask):
            return model({"image": image, "mask": mask}, training=False)

        self._network = network

    @classmethod
    def load(cls, path=None):
        """Load a `.keras` model file, by default the one that ships with the package.

        Raises:
            UserError: the file is missing or no model file for completion.
        """
        if path is None and not DEFAULT_MODEL.is_file():
            raise UserError(
                f"{DEFAULT_MODEL}: the weights of the package are missing; install it anew or name a model."
            )
        return cls(model_file.load(path or DEFAULT_MODEL))

    def complete(self, image, mask):
        """Fill the holes of one image.

        Args:
            image: [height, width] or [height, width, 1|3|4] (grey, RGB or RGBA), height and width from 1 px up; uint8,
                uint16, or float in [0, 1]. What stands in the hole is not looked at, not even NaN.
            mask: [height, width] or [height, width, 1]; the hole is where it is True (bool), >= 128 (uint8) or >= 0.5
                (float).

        Returns:
            New array of the image's shape and dtype. Known pixels are bit-equal to the image's. In the hole of a grey
            image stands the mean of the network's three channels; the alpha of a hole is opaque, since what was
            completed there is meant to be seen. Without a hole, a copy of the image.

        Raises:
            ValueError: shape, dtype or range of an array is not as above, or the mask leaves no pixel known.
            MemoryError: a hole and its surroundings are too large to pass through the network at once.
        """
        image, hole = np.asarray(image), as_hole(mask)
        pixels = image[..., None] if image.ndim == 2 else image
        if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or 0 in pixels.shape:
            raise ValueError(f"image: expected [height, width] or [height, width, 1|3|4], found {list(image.shape)}.")
        if pixels.dtype not in (np.uint8, np.uint16) and pixels.dtype.kind != "f":
            raise ValueError(f"image: expected uint8, uint16 or float in [0, 1], found {image.dtype}.")
        if hole.shape != pixels.shape[:2]:
            (height, width), (mask_height, mask_width) = pixels.shape[:2], hole.shape
            raise ValueError(f"mask: has {mask_width} x {mask_height} px, but the image {width} x {height} px.")
        if hole.all():
            raise ValueError("mask: covers the whole image; there is nothing known to complete it from.")

        result = pixels.copy()
        for box in hole_boxes(hole):
            self._complete_box(pixels, hole, box, result)
        return result.reshape(image.shape)

    __call__ = complete

    def _complete_box(self, pixels, hole, box, result):
        """Pass the window around a box of holes through the network; write the pixels of these holes into `result`."""
        top, left, bottom, right = window_around(box, hole.shape).tolist()
        inside = np.s_[top:bottom, left:right]  # shorter than the window where that reaches beyond the image
        crop, crop_hole = pixels[inside], hole[inside]
        height, width = crop_hole.shape
        # The hole is padded like the image: else what stands in a hole at the border would be passed on as known.
        padding = ((0, bottom - top - height), (0, right - left - width))
        rgb = np.pad(_to_rgb(crop, crop_hole), (*padding, (0, 0)), mode="edge")
        mask = np.pad(crop_hole, padding, mode="edge").astype(np.float32)
        try:
            completed = self._network(rgb[None], mask[None, ..., None])[0, :height, :width].numpy()
        except tf.errors.ResourceExhaustedError as error:
            message = f"a hole needs {right - left} x {bottom - top} px to be passed at once, too much for the memory."
            raise MemoryError(message) from error
        # Other holes may reach into the window, but do not see all of their surroundings there.
        own = np.zeros_like(crop_hole)
        in_box = np.s_[box[0] - top : box[2] - top, box[1] - left : box[3] - left]
        own[in_box] = crop_hole[in_box]
        result[inside][own] = _from_rgb(completed[own], pixels.shape[2], pixels.dtype)


def as_hole(mask):
    """Threshold a mask at 50 %: bool [height, width], True in the hole; see `Completer.complete`. Raises ValueError."""
    mask = np.asarray(mask)
    if mask.ndim == 3 and mask.shape[2] == 1:
        mask = mask[..., 0]
    if mask.ndim != 2:
        raise ValueError(f"mask: expected [height, width] or [height, width, 1], found {list(mask.shape)}.")
    if mask.dtype == bool:
        return mask
    if mask.dtype == np.uint8:
        if mask.max(initial=0) == 1:
            raise ValueError("mask: uint8 with no value above 1; expected 255 in the hole, or bool.")
        return mask >= 128
    if mask.dtype.kind == "f":
        return mask >= 0.5
    raise ValueError(f"mask: expected bool, uint8 or float in [0, 1], found {mask.dtype}.")


def hole_boxes(hole):
    """Divide the holes of an image among boxes, each of which is completed in one window.

    Near holes share a box, and so do others where the window around both costs less than their two windows.

    Args:
        hole: bool [height, width].

    Returns:
        List of (top, left, bottom, right) in px, bottom and right exclusive; every hole pixel is in one of them. They
        may overlap; a hole pixel in two of them has the same surroundings in both windows.
    """
    tile = _GROUPING_PX
    # Whether a tile holds a hole; the labels of tiles take little memory even for a huge image.
    rows = np.logical_or.reduceat(hole, np.arange(0, hole.shape[0], tile), axis=0)
    tiles = np.logical_or.reduceat(rows, np.arange(0, hole.shape[1], tile), axis=1)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(tiles.astype(np.uint8), connectivity=8)
    boxes = []
    for label in range(1, count):  # 0 is the background
        left, top, width, height = (int(side) for side in stats[label, :4])
        own = labels[top : top + height, left : left + width] == label
        top, left = top * tile, left * tile
        group = hole[top : top + height * tile, left : left + width * tile]
        group = group & own.repeat(tile, axis=0).repeat(tile, axis=1)[: group.shape[0], : group.shape[1]]
        ys, xs = np.flatnonzero(group.any(axis=1)), np.flatnonzero(group.any(axis=0))
        boxes.append((top + ys[0], left + xs[0], top + ys[-1] + 1, left + xs[-1] + 1))
    return _merge(boxes, hole.shape)


def window_around(boxes, shape):
    """Return the windows that give boxes of holes the same values as the whole image.

    Args:
        boxes: [..., 4] (top, left, bottom, right) in px.
        shape: (height, width) of the image in px.

    Returns:
        [..., 4] in px, multiples of STRIDE: MARGIN_PX wider on each side, but within the image (its height and width
        rounded up to a multiple of STRIDE).
    """
    boxes = np.asarray(boxes)
    limit = _round_up(np.asarray(shape))
    first = np.maximum((boxes[..., :2] - MARGIN_PX) // STRIDE * STRIDE, 0)
    last = np.minimum(_round_up(boxes[..., 2:] + MARGIN_PX), limit)
    return np.concatenate([first, last], axis=-1)


def _round_up(side):
    return -(-side // STRIDE) * STRIDE


def _merge(boxes, shape):
    """Join boxes as long as the window around two of them has no more area than their two windows together."""

    def cost(boxes):
        return np.prod(np.diff(window_around(boxes, shape).reshape(-1, 2, 2), axis=1), axis=-1)[:, 0]

    waiting, done = [np.array(box) for box in boxes], np.empty((0, 4), int)
    while waiting:
        box = waiting.pop()
        both = np.concatenate([np.minimum(box, done)[:, :2], np.maximum(box, done)[:, 2:]], axis=1)
        cheaper = np.flatnonzero(cost(both) <= cost(done) + cost(box))
        if cheaper.size:
            waiting.append(both[cheaper[0]])
            done = np.delete(done, cheaper[0], axis=0)
        else:
            done = np.concatenate([done, box[None]])
    return [tuple(box) for box in done.tolist()]


def _to_rgb(pixels, hole):
    """Turn [height, width, 1|3|4] of any dtype into float32 [height, width, 3] in [0, 1], 0 in the hole."""
    colour = pixels[..., :3]
    rgb = np.zeros((*hole.shape, 3), np.float32)
    known = colour[~hole]
    if colour.dtype.kind == "f":
        # Rounding may leave [0, 1] a little; images in [0, 255] and NaN go further.
        if known.size and not (known.min() >= -1 / 255 and known.max() <= 1 + 1 / 255):
            raise ValueError(f"image: known pixels from {known.min()} to {known.max()}; expected float in [0, 1].")
        rgb[~hole] = known
    else:
        rgb[~hole] = known / np.float32(np.iinfo(colour.dtype).max)
    return rgb


def _from_rgb(rgb, channels, dtype):
    """Turn float32 [count, 3] in [0, 1] into [count, channels] of an image's dtype."""
    if channels == 1:
        rgb = rgb.mean(axis=1, keepdims=True)
    if channels == 4:
        rgb = np.concatenate([rgb, np.ones_like(rgb[:, :1])], axis=1)
    return rgb.astype(dtype) if dtype.kind == "f" else np.rint(rgb * np.iinfo(dtype).max).astype(dtype)
