"""Completions of several models side by side, one square hole in each of the demo's photos.

python -m benchmarks.side_by_side --models a.keras,b.keras --labels first,second --size=64 --hole=28 --output grid.png
"""

import cv2
import numpy as np
from absl import flags

from benchmarks import scale
from glcic_tf.apps import demo
from glcic_tf.common import cli
from glcic_tf.common.errors import UserError
from glcic_tf.imaging import images, pictures

_MODELS = flags.DEFINE_list("models", None, "model files", required=True)
_LABELS = flags.DEFINE_list("labels", None, "what to call them", required=True)
_SIZE = flags.DEFINE_integer("size", 256, "side of the central crop, px", lower_bound=32)
_HOLE = flags.DEFINE_integer("hole", 112, "side of the hole, px", lower_bound=1)
_CENTRAL = flags.DEFINE_boolean("central", False, "the hole in the middle, as the Context Encoder wants it")
_SHOWN = flags.DEFINE_integer("shown", 192, "side of each picture, px", lower_bound=32)
_OUTPUT = flags.DEFINE_string("output", None, "picture to write", required=True)


def run():
    from glcic_tf.completion.completer import Completer

    if len(_MODELS.value) != len(_LABELS.value):
        raise UserError(f"--labels: {len(_LABELS.value)} for {len(_MODELS.value)} models; expected as many.")
    completers = [Completer.load(path) for path in _MODELS.value]
    rows = []
    for name in scale.DEMO:
        photo = images.read_photo(demo.sample_path(name))
        side = min(photo.shape[:2])
        top, left = ((length - side) // 2 for length in photo.shape[:2])
        photo = cv2.resize(photo[top : top + side, left : left + side], [_SIZE.value] * 2, interpolation=cv2.INTER_AREA)
        if _CENTRAL.value:
            middle = slice((_SIZE.value - _HOLE.value) // 2, (_SIZE.value + _HOLE.value) // 2)
            hole = np.zeros(photo.shape[:2], bool)
            hole[middle, middle] = True
        else:
            hole = scale.hole_in(photo.shape[:2], _HOLE.value, name)
        row = {"masked": pictures.masked(photo, hole)}
        row |= {
            label: c(photo, hole, scale=1, postprocess="none")
            for label, c in zip(_LABELS.value, completers, strict=True)
        }
        row |= {"original": photo}
        rows.append(pictures.labelled({label: cv2.resize(p, [_SHOWN.value] * 2) for label, p in row.items()}))
    images.write_image(_OUTPUT.value, np.concatenate(rows))


if __name__ == "__main__":
    cli.run(run)
