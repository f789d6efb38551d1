"""Holes to train with, drawn on the host: rectangles as in the paper (section 3.4), blobs, strokes and thin holes.

Coordinates are (y, x) in px. A mask is 1 in the hole and 0 where pixels are known. All is computed in float64, so that
the last bits, which differ from machine to machine, do not decide about pixels.
"""

import dataclasses
import functools
import math

import numpy as np

from glcic_tf.common.random_streams import to_integers

HOLE_KINDS = ("rectangle", "centre", "blob", "stroke", "thin", "free_form", "mixed")
_BLOB_CELLS = 6  # side of the low-resolution random pattern that a blob is cut from
_STROKE_VERTICES = 6
_VERTEX_GRID = 16  # positions a pixel: coarser than the last bits of a sine, which are not the same everywhere


@dataclasses.dataclass(frozen=True)
class HoleSpec:
    """What holes to draw; as it stands, those of the paper (section 4).

    Attributes:
        kind: `rectangle`; `centre`, one rectangle in the middle; `blob`, a smoothed random pattern cut at a target
            area; `stroke`, strokes of a round brush; `thin`, wires across the image or lines of writing with equal
            chance; `free_form`, a blob or strokes with equal chance; `mixed`, rectangles in half of the cases, else a
            blob, strokes or thin holes.
        count_min, count_max: how many rectangles or strokes.
        min_px, max_px: each side of a rectangle, px, both ends included.
        area_min, area_max: share of the image that a blob covers.
        brush_min_px, brush_max_px: diameter of the brush of strokes, px.
        thin_min_px, thin_max_px: diameter of wires and of the lines that letters consist of, px.
    """

    kind: str = "rectangle"
    count_min: int = 1
    count_max: int = 1
    min_px: int = 96
    max_px: int = 128
    area_min: float = 0.1
    area_max: float = 0.3
    brush_min_px: int = 12
    brush_max_px: int = 40
    thin_min_px: int = 3
    thin_max_px: int = 8


def draw_hole(rng, image_size, spec):
    """Draw a hole.

    Args:
        rng: numpy.random.Generator.
        image_size: side of the square image, px.
        spec: a HoleSpec.

    Returns:
        mask, uint8 [image_size, image_size, 1], 1 in the hole; and the centre, int32 [2] (y, x), that the local patch
        is to show: that of one rectangle drawn at random, or, as other holes have no boxes, a hole pixel drawn at
        random.

    Raises:
        ValueError: the spec's kind is unknown.
    """
    kind = spec.kind
    if kind == "mixed":
        kind = "rectangle" if rng.random() < 0.5 else ("blob", "stroke", "thin")[to_integers(rng.random(), 0, 2)]
    if kind == "rectangle":
        mask, centre = _rectangles(rng, image_size, spec)
        return mask.astype(np.uint8)[..., None], centre
    if kind == "centre":
        size = to_integers(rng.random(2), spec.min_px, spec.max_px)
        start = (image_size - size) // 2
        mask = np.zeros([image_size, image_size, 1], np.uint8)
        mask[start[0] : start[0] + size[0], start[1] : start[1] + size[1]] = 1
        return mask, start + size // 2
    if kind == "free_form":
        kind = "blob" if rng.random() < 0.5 else "stroke"
    if kind == "blob":
        mask = _blob(rng, image_size, spec)
    elif kind == "stroke":
        mask = _strokes(rng, image_size, spec)
    elif kind == "thin":
        mask = _writing(rng, image_size, spec) if rng.random() < 0.5 else _wires(rng, image_size, spec)
    else:
        raise ValueError(f"Unknown kind of hole {spec.kind!r}; known: {', '.join(HOLE_KINDS)}.")
    return mask.astype(np.uint8)[..., None], _random_hole_pixel(rng, mask)


def patch_origin(centre, image_size, patch_size):
    """Upper left corner of the local patch: centred on `centre`, int32 [..., 2] (y, x), clamped to the image."""
    return np.clip(centre - patch_size // 2, 0, image_size - patch_size)


def _rectangles(rng, image_size, spec):
    n = spec.count_max
    count = to_integers(rng.random(), spec.count_min, n)
    size = to_integers(rng.random([n, 2]), spec.min_px, spec.max_px)
    start = to_integers(rng.random([n, 2]), 0, image_size - size)
    chosen = to_integers(rng.random(), 0, count - 1)
    mask = np.zeros([image_size, image_size], bool)
    for (top, left), (height, width) in zip(start[:count], size[:count], strict=True):
        mask[top : top + height, left : left + width] = True
    return mask, start[chosen] + size[chosen] // 2


def _blob(rng, image_size, spec):
    weights = _enlargement(image_size)
    field = (weights @ rng.random([_BLOB_CELLS, _BLOB_CELLS]) @ weights.T).ravel()
    area = spec.area_min + rng.random() * (spec.area_max - spec.area_min)
    covered = min(max(round(area * field.size), 1), field.size - 1)
    # By rank and not by a threshold alone: pixels may have the same value.
    threshold = np.partition(field, field.size - covered)[field.size - covered]
    mask = field > threshold
    mask[np.flatnonzero(field == threshold)[: covered - np.count_nonzero(mask)]] = True
    return mask.reshape(image_size, image_size)


@functools.cache
def _enlargement(size):
    """Matrix [size, _BLOB_CELLS] that enlarges bicubically (Keys, a = -0.5), pixels' centres at halves."""
    # In float64, unlike cv2.resize: in float32 a pixel at the blob's edge could depend on the machine's rounding.
    position = (np.arange(size) + 0.5) * (_BLOB_CELLS / size) - 0.5
    x = np.abs(position[:, None] - np.arange(_BLOB_CELLS))
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    weights = np.where(x < 1, near, np.where(x < 2, far, 0.0))
    weights /= weights.sum(1, keepdims=True)  # at the border some cells are missing
    weights.flags.writeable = False
    return weights


def _strokes(rng, image_size, spec):
    n, moves = spec.count_max, _STROKE_VERTICES - 1
    count = to_integers(rng.random(), spec.count_min, n)
    start = rng.random([n, 1, 2]) * image_size
    # A stroke keeps its course and turns by at most 60 degrees at each vertex, as a hand does.
    course = rng.random([n, 1]) * 2 * math.pi
    angle = course + np.cumsum((rng.random([n, moves]) * 2 - 1) * math.pi / 3, axis=1)
    length = (0.05 + 0.15 * rng.random([n, moves])) * image_size
    radius = (spec.brush_min_px + rng.random(n) * (spec.brush_max_px - spec.brush_min_px)) / 2
    offsets = np.stack([np.sin(angle), np.cos(angle)], axis=-1) * length[..., None]
    vertices = np.concatenate([start, start + np.cumsum(offsets, axis=1)], axis=1)
    return _brushed(image_size, vertices[:count], radius[:count])


def _wires(rng, image_size, spec):
    """Up to four wires that hang from one side of the image to the other, upright in half of the cases."""
    count = to_integers(rng.random(), 1, 4)
    across = np.linspace(0, 1, _STROKE_VERTICES)
    ends = rng.random([2, 1]) + (rng.random([2, count]) - 0.5) * 0.5  # of wires that belong together
    sag = rng.random() * 0.2 * 4 * across * (1 - across)
    along = ends[0][:, None] * (1 - across) + ends[1][:, None] * across + sag
    vertices = np.stack([along, np.broadcast_to(across, along.shape)], axis=-1) * image_size
    # One point of the first wire lies in the image, so that there is a hole at all.
    vertices[0, 0] = np.clip(vertices[0, 0], 0, image_size)
    if rng.random() < 0.5:
        vertices = vertices[..., ::-1]
    return _brushed(image_size, vertices, np.full(count, _thin_radius(rng, spec)))


def _writing(rng, image_size, spec):
    """A line of up to twelve letters, three short strokes each, such as a date stamp or a watermark."""
    letters = to_integers(rng.random(), 3, 12)
    height = (0.04 + 0.12 * rng.random()) * image_size
    angle = (rng.random() * 2 - 1) * math.pi / 6
    begin = rng.random(2) * image_size
    advance = np.arange(letters)[:, None, None] * height * 0.8
    inside = rng.random([letters, 4, 2]) * height * [1, 0.6]
    y, x = inside[..., 0], inside[..., 1] + advance[..., 0]
    turned = np.stack([y * np.cos(angle) + x * np.sin(angle), x * np.cos(angle) - y * np.sin(angle)], axis=-1)
    vertices = begin + turned - turned[0, 0]  # the first stroke begins in the image, so that there is a hole at all
    return _brushed(image_size, vertices, np.full(letters, _thin_radius(rng, spec)))


def _thin_radius(rng, spec):
    return (spec.thin_min_px + rng.random() * (spec.thin_max_px - spec.thin_min_px)) / 2


def _brushed(image_size, strokes, radius):
    """Mask [image_size, image_size] bool of polylines [count, vertices, 2] (y, x) drawn with round brushes [count]."""
    strokes = np.round(strokes * _VERTEX_GRID) / _VERTEX_GRID
    # The start lies in the image, half a pixel's diagonal from a pixel's centre at most: no hole is ever empty.
    radius = np.maximum(radius, 0.75)
    depth = np.full([image_size, image_size], -np.inf)  # how far inside the strokes a pixel lies, where it does
    for stroke, reach in zip(strokes, radius, strict=True):
        for begin, end in zip(stroke[:-1], stroke[1:], strict=True):
            _deepen(depth, begin, end, reach)
    # A brush may be wider than the image: the pixel that is covered least stays known.
    return (depth >= 0) & (depth > depth.min())


def _deepen(depth, begin, end, reach):
    """Raise `depth` to `reach` less the distance to the segment, at the pixels that may lie within `reach`."""
    low = np.floor(np.minimum(begin, end) - reach).astype(int)
    high = np.ceil(np.maximum(begin, end) + reach).astype(int)
    top, left = np.clip(low, 0, len(depth))
    bottom, right = np.clip(high, 0, len(depth))
    if top == bottom or left == right:
        return
    y = np.arange(top, bottom)[:, None] + 0.5 - begin[0]
    x = np.arange(left, right) + 0.5 - begin[1]
    along_y, along_x = end - begin
    position = (y * along_y + x * along_x) / max(along_y**2 + along_x**2, 1e-6)
    np.clip(position, 0, 1, out=position)
    distance = np.sqrt((y - position * along_y) ** 2 + (x - position * along_x) ** 2)
    part = depth[top:bottom, left:right]
    np.maximum(part, reach - distance, out=part)


def _random_hole_pixel(rng, mask):
    filled = np.flatnonzero(mask)
    chosen = filled[to_integers(rng.random(), 0, len(filled) - 1)]
    return np.array(divmod(int(chosen), mask.shape[1]), np.int32)
