"""Guided texture synthesis: the network says what belongs into a hole, and the photo lends its pixels for it.

A network trained on squared errors gives the mean of what may be in a hole: the right colours in the right places, but
blurred. Here the hole becomes a mosaic of copies of the photo's own pixels instead, as in He and Sun, "Statistics of
Patch Offsets for Image Completion" (2012), and the completion decides what is copied where:

1. Candidates: offsets from the hole to what may be copied into it (`texture_offsets`).
2. A labelling gives each pixel one of them (`texture_labels`). It is found on a reduced copy, and its seams are moved
   at each doubling of the resolution up to the photo's own.
3. The pixels are copied, and blended by a membrane: across seams goes the mean gradient of the two copies that meet
   there (`texture_blending`).

Time and memory follow the holes. Everything is computed in float32 and the same from call to call.
"""

import itertools
import math

import cv2
import numpy as np

from glcic_tf.completion import blending, texture_labels, texture_offsets
from glcic_tf.completion.texture_blending import correction
from glcic_tf.imaging import holes
from glcic_tf.imaging.pixels import from_rgb, to_rgb

# A hole that is thicker than so many cells is labelled at half of the resolution first, and so on.
_CELLS = 72
_TILE_CELLS = 2 * _CELLS  # longer holes are filled in parts
_LEAST_AROUND_CELLS = 48  # what is copied lies within this of the part of the hole, or within its longer side
_MOST_PX = 2**21  # of the box around a part at the resolution where seams are moved and blended last; 300 MB
_BLUR_CELLS = 1.0  # what is finer is not to be believed in a completion
_GUIDE_WEIGHT, _BORDER_WEIGHT = 0.5, 4.0
# At each doubling of the resolution, whose cells are a quarter as large and seams twice as long.
_FINE_GUIDE_WEIGHT = 0.5
_COUNTS = (60, 60, 60)  # of candidates by statistics, by completion and by synthesis
_SWEEPS = 1  # a second one takes a third of the time, and changed no figure on 48 photos
_NOTABLE_SHARE = 0.25  # of the hole that no copy reaches
_SEED = 0


def synthesise(image, completed, hole, unknown=None):
    """Fill the hole of an image with copies of known pixels, guided by a completion.

    Args:
        image: [height, width, 1|3|4] (grey, RGB or RGBA), uint8, uint16, or float in [0, 1]. What stands in the hole
            is not looked at, not even NaN. What is less than half opaque is not copied.
        completed: array of the same shape and dtype, equal to `image` outside of the hole: a network's completion.
        hole: bool [height, width], True where the image is to be filled.
        unknown: bool [height, width], where nothing may be copied from or is to be fitted; None: the hole alone.

    Returns:
        (result, note): new array of the same shape and dtype, as `completed` outside of the hole, bit for bit, and
        opaque in it; and a sentence about holes that could not be filled so, or None. Where nothing known can be
        copied, the completion is blended as by `blending.poisson`.

    Raises:
        ValueError: the shapes or dtypes do not belong together.
    """
    blending.check(image, completed, hole)
    result = completed.copy()
    if hole.all() or not hole.any():
        return result, None
    fixed = ~hole if unknown is None else ~(hole | unknown)
    usable = fixed.copy() if image.shape[2] < 4 else fixed & ~holes.from_alpha(image)
    left, lacking = np.zeros_like(hole), 0
    for box, own in holes.groups(hole):
        cell = _cell(holes.thickness(hole, box))
        for part_box, part in _parts(box, own, cell * _TILE_CELLS):
            filled, bare = _fill(result, usable, fixed, part_box, part, cell)
            inside = np.s_[part_box[0] : part_box[2], part_box[1] : part_box[3]]
            lacking += bare
            if filled:
                fixed[inside] |= part
            else:
                left[inside] |= part
    if left.any():
        # Blended together with what was copied: that counts as known by now.
        result = blending.poisson(result, result, left)
    share = (lacking + np.count_nonzero(left)) / np.count_nonzero(hole)
    if share < _NOTABLE_SHARE:
        return result, None
    return result, f"too little is known to copy from for {share:.0%} of the hole: it was blended instead"


def _cell(thickness):
    """Side of the cells, px, in which a hole is labelled first: a power of two."""
    return 2 ** max(0, math.ceil(math.log2(thickness / _CELLS)))


def _parts(box, own, most):
    """Cut a group of holes into parts within tiles of `most` px: (box, own) of each, as `holes.groups` has them."""
    rows, columns = (np.linspace(0, side, max(1, round(side / most)) + 1).astype(int) for side in own.shape)
    for top, bottom in itertools.pairwise(rows):
        for left, right in itertools.pairwise(columns):
            found = holes.tight_box(own[top:bottom, left:right], (top, left))
            if found is not None:
                yield tuple(np.add(found, [*box[:2]] * 2).tolist()), own[found[0] : found[2], found[1] : found[3]]


def _fill(result, usable, fixed, box, own, cell):
    """Fill one part of a hole in place.

    Args:
        result: [height, width, 1|3|4], the completed image, parts filled so far included.
        usable: bool [height, width], what may be copied.
        fixed: bool [height, width], what copies have to fit: known pixels and parts filled so far.
        box, own: where the part lies and its hole, as `holes.groups` gives them.
        cell: px, see `_cell`.

    Returns:
        Whether there was enough to copy from, and how many pixels no copy reached.
    """
    side = max(own.shape)
    window = holes.around(box, max(side, _LEAST_AROUND_CELLS * cell), fixed.shape)
    origin = np.array([window[0].start, window[1].start] * 2)
    part = np.zeros(fixed[window].shape, bool)
    top, left, bottom, right = np.array(box) - origin
    part[top:bottom, left:right] = own
    photo = to_rgb(result[window], np.zeros_like(part))
    levels = _levels(photo, part, usable[window], fixed[window], cell)
    level = next(levels)
    offsets = texture_offsets.candidates(level, np.random.default_rng(_SEED), _COUNTS)
    if not len(offsets):
        return False, 0
    labelling = texture_labels.label(level, offsets, _SWEEPS)
    membrane = correction(labelling)
    while cell > 1 and 4 * level.own.size <= _MOST_PX:
        coarse, level, cell = level, next(levels), cell // 2
        offsets = 2 * _enlarged(labelling.offsets, coarse.box, level.box, 2)
        start = np.moveaxis(_enlarged(np.moveaxis(membrane, 0, -1), coarse.box, level.box, 2), -1, 0)
        labelling = texture_labels.refine(level, offsets)
        membrane = correction(labelling, start)
    offsets = cell * _enlarged(labelling.offsets, level.box, (top, left, bottom, right), cell)[own]
    ys, xs = np.nonzero(own)
    ys, xs = ys + top + offsets[:, 0], xs + left + offsets[:, 1]
    colours = photo[ys.clip(0, photo.shape[0] - 1), xs.clip(0, photo.shape[1] - 1)]
    colours += _enlarged(np.moveaxis(membrane, 0, -1), level.box, (top, left, bottom, right), cell)[own]
    target = result[box[0] : box[2], box[1] : box[3]]
    target[own] = from_rgb(colours.clip(0, 1), result.shape[2], result.dtype)
    return True, np.count_nonzero(~offsets.any(-1))


def _levels(photo, part, usable, fixed, cell):
    """Yield a `texture_labels.Level` at each resolution, from cells of `cell` px to the photo's own."""
    height, width = part.shape
    below, right = -height % cell, -width % cell
    photo = cv2.copyMakeBorder(photo, 0, below, 0, right, cv2.BORDER_REPLICATE)
    part, usable, fixed = (np.pad(mask, ((0, below), (0, right))) for mask in (part, usable, fixed))
    blurred, weight = None, _GUIDE_WEIGHT
    while True:
        size = (photo.shape[1] // cell, photo.shape[0] // cell)
        reduced = _reduce(photo, cell)
        if blurred is None:
            blurred = cv2.GaussianBlur(reduced, (0, 0), _BLUR_CELLS)
        else:
            blurred = cv2.resize(blurred, size, interpolation=cv2.INTER_LINEAR)
        inside = _shrink(part, cell, any)
        yield texture_labels.Level(
            photo=_channels_first(reduced),
            blurred=_channels_first(blurred),
            guide=_channels_first(blurred),
            usable=_shrink(usable, cell, all),
            known=_shrink(fixed, cell, all),
            hole=inside,
            box=holes.tight_box(inside),
            guide_weight=weight,
            border_weight=_BORDER_WEIGHT,
        )
        cell, weight = cell // 2, weight * _FINE_GUIDE_WEIGHT


def _reduce(photo, cell):
    height, width = photo.shape[:2]
    return cv2.resize(photo, (width // cell, height // cell), interpolation=cv2.INTER_AREA) if cell > 1 else photo


def _shrink(mask, cell, rule):
    """Reduce a mask: to cells of which any pixel is in it, or all are."""
    share = _reduce(mask.astype(np.float32), cell)
    return share > 0 if rule is any else share == 1


def _channels_first(image):
    return np.ascontiguousarray(np.moveaxis(image, -1, 0))


def _enlarged(values, box, finer_box, factor):
    """Bring values [height, width, ...] in a box to `factor` times the resolution, in the box there: a new array."""
    top, left = finer_box[0] - factor * box[0], finer_box[1] - factor * box[1]
    height, width = finer_box[2] - finer_box[0], finer_box[3] - finer_box[1]
    return values.repeat(factor, axis=0).repeat(factor, axis=1)[top : top + height, left : left + width].copy()
