"""The hole of an image as an array: from masks of every kind, inverted, resized, grown, measured and grouped.

A hole is bool [height, width], True where pixels are to be completed.
"""

import cv2
import numpy as np

# Holes nearer than this belong together: windows around them would overlap so much that one hardly ever costs more.
GROUPING_PX = 64
ALPHA = "alpha"  # as mask: the transparency of the image


def from_mask(mask):
    """Threshold a mask at 50 %.

    Args:
        mask: [height, width] or [height, width, 1]; the hole is where it is True (bool), >= 128 (uint8) or >= 0.5
            (float).

    Returns:
        bool [height, width].

    Raises:
        ValueError: another shape or dtype, or uint8 with no value above 1.
    """
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


def from_alpha(image):
    """Take what is more transparent than opaque as the hole, with the rim that a soft eraser leaves around it.

    Args:
        image: [height, width, 4] uint8, uint16 or float in [0, 1], RGBA.

    Returns:
        bool [height, width], True where alpha is below 50 %, and where it is partly transparent and connected to that.

    Raises:
        ValueError: the image has no alpha channel.
    """
    if image.ndim != 3 or image.shape[2] != 4:
        raise ValueError("image: has no alpha channel that the hole could be taken from; give a mask.")
    alpha = image[..., 3]
    opaque = 1 if alpha.dtype.kind == "f" else np.iinfo(alpha.dtype).max
    core = alpha < 0.5 if opaque == 1 else alpha <= opaque // 2
    if not core.any():
        return core
    _, labels = cv2.connectedComponents((alpha < opaque).astype(np.uint8), connectivity=8)
    with_core = np.zeros(labels.max() + 1, bool)
    with_core[labels[core]] = True
    return with_core[labels]


def unseen(image, hole):
    """Return the hole and what else of an image is unknown: the colours that full transparency hides.

    Args:
        image: [height, width, channels] uint8, uint16 or float in [0, 1].
        hole: bool [height, width].

    Returns:
        bool [height, width]; `hole` itself if nothing else is unknown, or all is.
    """
    if image.shape[2] != 4:
        return hole
    hidden = image[..., 3] == 0
    unknown = hole | hidden
    return hole if not hidden.any() or unknown.all() else unknown


def prepare(hole, shape, invert=False, dilate_px=0):
    """Bring a hole as the user drew it to an image: invert it, resize it if its shape differs, grow it.

    Args:
        hole: bool [height, width].
        shape: (height, width) of the image in px.
        invert: what was drawn is what is known, and the rest is the hole.
        dilate_px: see `dilate`.

    Raises:
        ValueError: dilate_px is negative.
    """
    if dilate_px < 0:
        raise ValueError(f"mask_dilate: expected 0 px or more, found {dilate_px}.")
    hole = ~hole if invert else hole
    hole = resize(hole, shape) if hole.shape != tuple(shape) else hole
    return dilate(hole, dilate_px) if dilate_px else hole


def resize(hole, shape):
    """Bring a hole to another size, (height, width) in px; nothing that the mask covers is lost in shrinking."""
    height, width = shape
    shrinking = height * width < hole.size
    share = cv2.resize(
        hole.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
    )
    return share > 1e-6 if shrinking else share >= 0.5


def dilate(hole, radius_px):
    """Grow a hole by a disk of `radius_px`, since a mask drawn too tightly leaves a rim of what is to go."""
    grown, radius = hole.copy(), int(radius_px)
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    for box in group_boxes(hole):
        inside = around(box, radius, hole.shape)
        grown[inside] |= cv2.dilate(hole[inside].astype(np.uint8), disk).astype(bool)
    return grown


def thickness(hole, box):
    """Measure the side, in px, of the largest square that fits into the part of a hole that lies in a box.

    Beyond the image's border nothing is known either: a hole at the border is as thick as if it went on behind it.

    Args:
        hole: bool [height, width].
        box: (top, left, bottom, right) in px.
    """
    inside = around(box, 1, hole.shape)
    return 2 * round(float(cv2.distanceTransform(hole[inside].astype(np.uint8), cv2.DIST_C, 3).max()))


def thick(hole, least_px):
    """Keep those groups of a hole (see `groups`) that are at least so thick: bool [height, width]."""
    kept = np.zeros_like(hole)
    for box, own in groups(hole):
        if thickness(hole, box) >= least_px:
            kept[box[0] : box[2], box[1] : box[3]] |= own
    return kept


def groups(hole):
    """Divide a hole into groups of parts near each other.

    Returns:
        List of (box, own): box is (top, left, bottom, right) in px, bottom and right exclusive, tight around the group;
        own is bool [bottom - top, right - left], which pixels in the box are the group's. Boxes may overlap.
    """
    tile = GROUPING_PX
    # Whether a tile holds a hole. Most rows of a large image hold none, which is quick to see.
    tiles = np.zeros((-(-hole.shape[0] // tile), -(-hole.shape[1] // tile)), np.uint8)
    for row in np.unique(np.flatnonzero(hole.any(axis=1)) // tile):
        columns = hole[row * tile : (row + 1) * tile].any(axis=0)
        tiles[row, np.flatnonzero(columns) // tile] = 1
    count, labels, stats, _ = cv2.connectedComponentsWithStats(tiles, connectivity=8)
    found = []
    for label in range(1, count):  # 0 is the background
        left, top, width, height = (int(side) for side in stats[label, :4])
        own_tiles = labels[top : top + height, left : left + width] == label
        top, left = top * tile, left * tile
        group = hole[top : top + height * tile, left : left + width * tile]
        group = group & own_tiles.repeat(tile, axis=0).repeat(tile, axis=1)[: group.shape[0], : group.shape[1]]
        box = tight_box(group, (top, left))
        found.append((box, group[box[0] - top : box[2] - top, box[1] - left : box[3] - left]))
    return found


def group_boxes(hole):
    """Return the boxes of `groups` alone."""
    return [box for box, _ in groups(hole)]


def tight_box(hole, origin=(0, 0)):
    """Return the box (top, left, bottom, right) around all of a hole, counted from `origin`; None if there is none."""
    ys, xs = np.flatnonzero(hole.any(axis=1)), np.flatnonzero(hole.any(axis=0))
    if not ys.size:
        return None
    top, left = origin
    return (top + int(ys[0]), left + int(xs[0]), top + int(ys[-1]) + 1, left + int(xs[-1]) + 1)


def around(box, margin_px, shape):
    """Slice of an image of `shape` (height, width, ...): the box and a margin around it, as far as the image goes."""
    top, left, bottom, right = box
    return np.s_[
        max(top - margin_px, 0) : min(bottom + margin_px, shape[0]),
        max(left - margin_px, 0) : min(right + margin_px, shape[1]),
    ]


def reduce(image, hole, shape):
    """Shrink an image by area averaging over its known pixels alone.

    Args:
        image: float32 [height, width, 3], 0 in the hole.
        hole: bool [height, width].
        shape: (height, width) of the result in px, not larger than the image.

    Returns:
        The image, float32 of that shape, 0 in its hole; and its hole, which is where less than half as much is known as
        of the best known pixel: less than half of its area, unless only specks are known anywhere.
    """
    size = (shape[1], shape[0])
    known = cv2.resize((~hole).astype(np.float32), size, interpolation=cv2.INTER_AREA)
    colour = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    enough = known.max() / 2
    small_hole = known < enough
    return np.where(small_hole[..., None], 0, colour / np.maximum(known, enough)[..., None]), small_hole
