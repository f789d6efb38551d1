"""Which windows of an image go through the completion network, so that the cost follows the holes.

A window reaches MARGIN_PX beyond its holes, half of the network's support, so that the pixels in the holes come out as
if the whole image had been passed. Boxes and windows are (top, left, bottom, right) in px, bottom and right exclusive.
"""

import itertools

import numpy as np

from glcic_tf.imaging import holes
from glcic_tf.networks import MARGIN_PX, STRIDE

# The most that goes through the network at once, px: about 1 GB of memory at the paper's width.
MAX_PASS_PX = 2**20
# Sides of windows are multiples of this where the image has room, so that windows come in few sizes and share batches.
BUCKET_PX = 32


def plan(hole):
    """Divide the holes of an image among windows.

    Near holes share a window, as do others where the window around both costs less than their two. A long hole is
    cut into parts where that costs less, and wherever its window would be larger than MAX_PASS_PX.

    Args:
        hole: bool [height, width].

    Returns:
        List of (box, window): every pixel of the hole is in one of the boxes, and gets from its window the value that
        the whole image would give it. Boxes may overlap, and other holes may reach into a window.
    """
    parts = [part for box in holes.group_boxes(hole) for part in _cut(hole, box)]
    boxes = _merge(parts, hole.shape)
    return list(zip(boxes, (tuple(window) for window in around(boxes, hole.shape).tolist()), strict=True))


def batches(planned):
    """Group what `plan` returned by the size of the window, each group within MAX_PASS_PX where it has several."""

    def size(job):
        top, left, bottom, right = job[1]
        return bottom - top, right - left

    for (height, width), group in itertools.groupby(sorted(planned, key=size), size):
        jobs, count = list(group), max(1, MAX_PASS_PX // (height * width))
        for first in range(0, len(jobs), count):
            yield jobs[first : first + count]


def around(boxes, shape):
    """Return the windows that give boxes of holes the same values as the whole image.

    Args:
        boxes: [..., 4] in px.
        shape: (height, width) of the image in px.

    Returns:
        [..., 4] in px, multiples of STRIDE: at least MARGIN_PX wider on each side, but within the image (its height and
        width rounded up to a multiple of STRIDE).
    """
    boxes = np.asarray(boxes, int).reshape(-1, 4)
    limit = _round_up(np.asarray(shape), STRIDE)
    first = np.maximum((boxes[:, :2] - MARGIN_PX) // STRIDE * STRIDE, 0)
    last = np.minimum(_round_up(boxes[:, 2:] + MARGIN_PX, STRIDE), limit)
    last = np.minimum(first + _round_up(last - first, BUCKET_PX), limit)
    first = np.maximum(last - _round_up(last - first, BUCKET_PX), 0)
    return np.concatenate([first, last], axis=1)


def _round_up(side, multiple):
    return -(-side // multiple) * multiple


def _cost(boxes, shape):
    """Area of the windows around boxes: int [count], px."""
    window = around(boxes, shape)
    return np.prod(window[:, 2:] - window[:, :2], axis=1)


def _cut(hole, box):
    """Halve a box along its longer side, and its halves again, where that saves area or the window is too large."""
    top, left, bottom, right = box
    if bottom - top >= right - left:
        middle = (top + bottom) // 2
        halves = [(top, left, middle, right), (middle, left, bottom, right)]
    else:
        middle = (left + right) // 2
        halves = [(top, left, bottom, middle), (top, middle, bottom, right)]
    if box in halves:  # a single pixel
        return [box]
    halves = [holes.tight_box(hole[y0:y1, x0:x1], (y0, x0)) for y0, x0, y1, x1 in halves]
    halves = [half for half in halves if half is not None]
    whole = _cost(box, hole.shape)[0]
    if whole > MAX_PASS_PX or _cost(halves, hole.shape).sum() < whole:
        return [part for half in halves for part in _cut(hole, half)]
    return [box]


def _merge(boxes, shape):
    """Join boxes as long as the window around two of them has no more area than their two windows together."""
    waiting, done = [np.array(box) for box in boxes], np.empty((0, 4), int)
    while waiting:
        box = waiting.pop()
        both = np.concatenate([np.minimum(box, done)[:, :2], np.maximum(box, done)[:, 2:]], axis=1)
        cost = _cost(both, shape)
        cheaper = np.flatnonzero((cost <= _cost(done, shape) + _cost(box, shape)) & (cost <= MAX_PASS_PX))
        if cheaper.size:
            waiting.append(both[cheaper[0]])
            done = np.delete(done, cheaper[0], axis=0)
        else:
            done = np.concatenate([done, box[None]])
    return [tuple(box) for box in done.tolist()]
