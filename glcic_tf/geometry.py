"""Holes as boxes and masks, local patches, composites.

Every random draw is stateless and names its algorithm, so that any device draws the same hole from the same seed.
Shapes are static; coordinates are (y, x) in px. A mask is 1 in the hole and 0 where pixels are known.
"""

import dataclasses
import math

import tensorflow as tf

HOLE_KINDS = ("rectangle", "blob", "stroke", "free_form")
_ALGORITHM = "philox"
_BLOB_CELLS = 6  # side of the low-resolution random pattern that a blob is cut from
_STROKE_VERTICES = 6


@dataclasses.dataclass(frozen=True)
class HoleSpec:
    """What holes to draw.

    Attributes:
        kind: `rectangle`; `blob`, a smoothed random pattern cut at a target area; `stroke`, strokes of a round brush;
            `free_form`, a blob or strokes with equal chance.
        count_min, count_max: how many rectangles or strokes.
        min_px, max_px: each side of a rectangle, px, both ends included.
        area_min, area_max: share of the image that a blob covers.
        brush_min_px, brush_max_px: diameter of the brush, px.
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


def fold_in(seed, data):
    """Derive a new seed, int32 [2], from `seed`, int32 [2], and a number."""
    return tf.random.fold_in(seed, data, alg=_ALGORITHM)


def mix(seed):
    """Derive a seed, int64 [2], all of whose bits look random, for those who use only some of them."""
    return tf.random.stateless_uniform([2], seed, None, None, tf.int64, alg=_ALGORITHM)


def uniform(seed, shape=(), minval=0.0, maxval=1.0):
    """Draw float32 numbers from [minval, maxval)."""
    return tf.random.stateless_uniform(shape, seed, minval, maxval, tf.float32, alg=_ALGORITHM)


def integers(seed, shape, minval, maxval):
    """Draw int32 numbers from [minval, maxval], both ends included; the bounds may be tensors of that shape."""
    span = tf.cast(maxval, tf.float32) - tf.cast(minval, tf.float32) + 1.0
    # A float32 draw times the span keeps every device's integers equal; spans here are far below its 24 bits.
    offset = tf.cast(tf.floor(uniform(seed, shape) * span), tf.int32)
    return tf.minimum(tf.cast(minval, tf.int32) + offset, tf.cast(maxval, tf.int32))


def draw_hole(seed, image_size, spec):
    """Draw a hole.

    Args:
        seed: int32 [2].
        image_size: side of the square image, px.
        spec: a HoleSpec.

    Returns:
        mask, [image_size, image_size, 1] float32, 1 in the hole; and the centre, [2] int32 (y, x), that the local
        patch is to show: that of one rectangle drawn at random, or, as blobs and strokes have no boxes, a hole pixel
        drawn at random.
    """
    if spec.kind == "rectangle":
        return _rectangles(seed, image_size, spec)
    if spec.kind == "blob":
        mask = _blob(seed, image_size, spec)
    elif spec.kind == "stroke":
        mask = _strokes(seed, image_size, spec)
    elif spec.kind == "free_form":
        blob = uniform(fold_in(seed, 0)) < 0.5
        mask = tf.cond(blob, lambda: _blob(seed, image_size, spec), lambda: _strokes(seed, image_size, spec))
    else:
        raise ValueError(f"Unknown kind of hole {spec.kind!r}; known: {', '.join(HOLE_KINDS)}.")
    return mask, _random_hole_pixel(fold_in(seed, 1), mask)


def boxes_to_mask(top, left, height, width, image_size):
    """Mask of the union of boxes: four int32 [n] in px -> [image_size, image_size, 1] float32."""
    position = tf.range(image_size)
    rows = (position >= top[:, None]) & (position < (top + height)[:, None])
    columns = (position >= left[:, None]) & (position < (left + width)[:, None])
    inside = tf.reduce_any(rows[:, :, None] & columns[:, None, :], axis=0)
    return tf.cast(inside, tf.float32)[..., None]


def _rectangles(seed, image_size, spec):
    n = spec.count_max
    count = integers(fold_in(seed, 2), [], spec.count_min, n)
    height = integers(fold_in(seed, 3), [n], spec.min_px, spec.max_px)
    width = integers(fold_in(seed, 4), [n], spec.min_px, spec.max_px)
    top = integers(fold_in(seed, 5), [n], 0, image_size - height)
    left = integers(fold_in(seed, 6), [n], 0, image_size - width)
    drawn = tf.cast(tf.range(n) < count, tf.int32)  # the rest get no height
    mask = boxes_to_mask(top, left, height * drawn, width, image_size)
    chosen = integers(fold_in(seed, 7), [], 0, count - 1)
    centre = tf.stack([top + height // 2, left + width // 2], axis=1)[chosen]
    return mask, centre


def _blob(seed, image_size, spec):
    noise = uniform(fold_in(seed, 8), [1, _BLOB_CELLS, _BLOB_CELLS, 1])
    field = tf.image.resize(noise, [image_size, image_size], method="bicubic")[0]
    area = uniform(fold_in(seed, 9), [], spec.area_min, spec.area_max)
    pixels = image_size * image_size
    covered = tf.clip_by_value(tf.cast(tf.round(area * pixels), tf.int32), 1, pixels - 1)
    # By rank and not by a threshold: two pixels may have the same value.
    highest = tf.argsort(tf.reshape(field, [-1]), direction="DESCENDING", stable=True)[:covered]
    mask = tf.scatter_nd(highest[:, None], tf.ones_like(highest, tf.float32), [pixels])
    return tf.reshape(mask, [image_size, image_size, 1])


def _strokes(seed, image_size, spec):
    n = spec.count_max
    count = integers(fold_in(seed, 10), [], spec.count_min, n)
    start = uniform(fold_in(seed, 11), [n, 1, 2], 0.0, float(image_size))
    # A stroke keeps its course and turns by at most 60 degrees at each vertex, as a hand does.
    course = uniform(fold_in(seed, 12), [n, 1], 0.0, 2 * math.pi)
    turns = uniform(fold_in(seed, 13), [n, _STROKE_VERTICES - 1], -math.pi / 3, math.pi / 3)
    angle = course + tf.cumsum(turns, axis=1)
    length = uniform(fold_in(seed, 14), [n, _STROKE_VERTICES - 1], 0.05 * image_size, 0.2 * image_size)
    moves = tf.stack([tf.sin(angle), tf.cos(angle)], axis=-1) * length[..., None]
    vertices = tf.concat([start, start + tf.cumsum(moves, axis=1)], axis=1)
    radius = uniform(fold_in(seed, 15), [n], spec.brush_min_px / 2, spec.brush_max_px / 2)

    begin = tf.reshape(vertices[:, :-1], [-1, 1, 1, 2])  # [segments, 1, 1, 2]
    along = tf.reshape(vertices[:, 1:], [-1, 1, 1, 2]) - begin
    centres = tf.cast(tf.range(image_size), tf.float32) + 0.5
    point = tf.stack(tf.meshgrid(centres, centres, indexing="ij"), axis=-1)[None]  # [1, height, width, 2]
    position = tf.reduce_sum((point - begin) * along, -1) / tf.maximum(tf.reduce_sum(along * along, -1), 1e-6)
    nearest = begin + tf.clip_by_value(position, 0.0, 1.0)[..., None] * along
    distance = tf.norm(point - nearest, axis=-1)
    # The start lies in the image, half a pixel's diagonal from a pixel's centre at most: no stroke is ever empty.
    reach = tf.where(tf.range(n) < count, tf.maximum(radius, 0.75), -1.0)
    reach = tf.repeat(reach, _STROKE_VERTICES - 1)[:, None, None]
    depth = tf.reduce_max(reach - distance, axis=0)  # how far inside the strokes a pixel lies
    # A brush may be wider than the image: the pixel that is covered least stays known.
    return tf.cast((depth >= 0) & (depth > tf.reduce_min(depth)), tf.float32)[..., None]


def _random_hole_pixel(seed, mask):
    size = mask.shape[1]
    filled = tf.cumsum(tf.cast(tf.reshape(mask, [-1]), tf.int32))
    chosen = integers(seed, [], 1, filled[-1])
    index = tf.searchsorted(filled, chosen[None])[0]
    return tf.stack([index // size, index % size])


def patch_origin(centre, image_size, patch_size):
    """Upper left corner of the local patch: centred on `centre`, [..., 2] int32 (y, x), clamped to the image."""
    return tf.clip_by_value(centre - patch_size // 2, 0, image_size - patch_size)


def local_patch(images, origin, patch_size):
    """Cut one square patch out of each image (paper, section 3.3); differentiable.

    Args:
        images: [batch, height, width, channels].
        origin: [batch, 2] int32, upper left corners (y, x); the patches lie inside the images.
        patch_size: side, px.

    Returns:
        [batch, patch_size, patch_size, channels].
    """
    offsets = tf.range(patch_size)
    rows = tf.gather(images, origin[:, :1] + offsets, axis=1, batch_dims=1)
    return tf.gather(rows, origin[:, 1:] + offsets, axis=2, batch_dims=1)


def composite(completed, images, mask):
    """What the discriminator and the user see: `completed` in the hole, `images` elsewhere; all [batch, ...]."""
    return mask * completed + (1.0 - mask) * images
