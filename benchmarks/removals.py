"""Things removed from eight free photos: photo, mask, the network alone, and what `--postprocess=auto` makes of it.

python -m benchmarks.removals [--model run/joint.keras] --output docs/removals.jpg

The photos are in the installed scikit-image package and in the public domain or CC0. Holes were drawn by hand.
"""

import cv2
import numpy as np
from absl import flags

from glcic_tf.apps import demo
from glcic_tf.common import cli
from glcic_tf.imaging import holes, images, pictures

_MODEL = flags.DEFINE_string("model", None, "model file; by default the one that ships")
_SIDE = flags.DEFINE_integer("side", 190, "side of each picture, px", lower_bound=32)
_OUTPUT = flags.DEFINE_string("output", None, "picture to write", required=True)

_LEAST_SHOWN_PX = 160

# What goes -> photo, and the hole as polygons of (x, y), or circles (x, y, radius), in px of the photo.
REMOVALS = {
    "the two inner masts": (
        "rocket.jpg",
        [
            [(194, 116), (208, 116), (208, 400), (162, 400), (186, 190)],
            [(438, 118), (454, 118), (464, 190), (480, 408), (434, 408)],
        ],
    ),
    "the spoon": (
        "coffee.png",
        [
            [(398, 62), (430, 66), (428, 84), (404, 150), (390, 216), (410, 262), (408, 290), (384, 324), (350, 328)]
            + [(324, 308), (324, 270), (312, 254), (318, 240), (350, 232), (378, 212), (398, 130)]
        ],
    ),
    "the tower": ("camera.png", [[(406, 112), (440, 112), (440, 194), (406, 194)]]),
    "the tripod": (
        "camera.png",
        [
            [
                (284, 246),
                (306, 246),
                (306, 306),
                (342, 296),
                (342, 312),
                (318, 322),
                (312, 344),
                (272, 340),
                (272, 312),
            ],
            [(272, 330), (296, 330), (258, 511), (226, 511)],
            [(284, 330), (304, 330), (306, 492), (280, 492)],
            [(300, 330), (316, 326), (414, 511), (386, 511)],
            [(240, 452), (300, 476), (400, 478), (400, 492), (236, 494)],
        ],
    ),
    "a coin": ("coins.png", [(272, 118, 29)]),
    "a star": ("hubble_deep_field.jpg", [(754, 577, 40)]),
    "the crater": ("moon.png", [(120, 87, 33)]),
    "the badges": ("astronaut.png", [(167, 385, 46), [(272, 334), (334, 340), (332, 384), (274, 376)]]),
}


def hole_of(shape, parts):
    """Draw polygons and circles: bool [height, width]."""
    hole = np.zeros(shape, np.uint8)
    for part in parts:
        if isinstance(part, tuple):
            cv2.circle(hole, part[:2], part[2], 1, cv2.FILLED)
        else:
            cv2.fillPoly(hole, [np.array(part, np.int32)], 1)
    return hole > 0


def run():
    from glcic_tf.completion.completer import Completer

    completer = Completer.load(_MODEL.value)
    rows = []
    for name, (file, parts) in REMOVALS.items():
        photo = images.read_image(demo.sample_path(file))[..., :3]
        hole = hole_of(photo.shape[:2], parts)
        row = {
            name: photo,
            "mask": pictures.masked(photo, hole),
            "network alone": completer(photo, hole, postprocess="none"),
            "auto": completer(photo, hole),
        }
        shown = _around(hole)
        side = (_SIDE.value, _SIDE.value)
        row = {label: cv2.resize(_rgb(p[shown]), side, interpolation=cv2.INTER_AREA) for label, p in row.items()}
        rows.append(np.pad(pictures.labelled(row), ((0, 6), (0, 18), (0, 0)), constant_values=255))
    pairs = [np.concatenate(pair, axis=1) for pair in zip(rows[::2], rows[1::2], strict=True)]
    images.write_image(_OUTPUT.value, np.concatenate(pairs)[:, :-18])


def _rgb(image):
    return image.repeat(3, axis=2) if image.shape[2] == 1 else image


def _around(hole):
    """Slices of a square that shows a hole and as much again around it, as far as there is."""
    top, left, bottom, right = holes.tight_box(hole)
    side = min(max(2 * (bottom - top), 2 * (right - left), _LEAST_SHOWN_PX), *hole.shape)
    starts = [
        min(max(0, (first + last - side) // 2), length - side)
        for first, last, length in zip((top, left), (bottom, right), hole.shape, strict=True)
    ]
    return tuple(np.s_[start : start + side] for start in starts)


if __name__ == "__main__":
    cli.run(run)
