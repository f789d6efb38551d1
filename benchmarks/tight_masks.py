"""Letters and wires over photos, completed with masks that end where theirs are: what the rim does to blending.

    python -m benchmarks.tight_masks --images photos/

Both are drawn softly, as a camera sees them, and the mask is what is more than half theirs. `grown` is the same mask,
wider by 2 px; `clean` has thin holes over photos on which nothing was drawn. Figures are of the mask's pixels against
the photo without the drawing.
"""

from pathlib import Path

import cv2
import numpy as np
from absl import flags

from glcic_tf.common import cli
from glcic_tf.completion import rims
from glcic_tf.data.random_holes import HoleSpec, draw_hole
from glcic_tf.evaluation import baselines, metrics, protocols
from glcic_tf.imaging import images

_IMAGES = flags.DEFINE_string("images", None, "folder of photos", required=True)
_MODEL = flags.DEFINE_string("model", None, "model file; by default the one that ships")
_LIMIT = flags.DEFINE_integer("limit", None, "so many photos", lower_bound=1)
_TIMES = 4  # drawn so many times as large, and reduced


def run():
    from glcic_tf.completion.completer import Completer

    completer, protocol = Completer.load(_MODEL.value), protocols.PRESETS["places"]
    found, values = {}, {}
    for path in protocols.find_photos(Path(_IMAGES.value))[: _LIMIT.value]:
        photo = protocols.crop(images.read_photo(path), protocol.size)
        if photo is None:
            continue
        rng = np.random.default_rng(sum(path.stem.encode()))
        for case, (shown, hole) in _cases(photo, rng).items():
            found.setdefault(case, []).append(rims.left_of_objects(shown, hole, hole).any())
            done = completer.complete_by_each(shown, hole, ["auto", "poisson"])
            results = {name: completion.image for name, completion in done.items()}
            results |= {name: getattr(baselines, name)(shown, hole) for name in ("telea", "navier_stokes")}
            for name, result in results.items():
                result = np.where(hole[..., None], result, photo)
                figures = metrics.l1_in_hole(photo, result, hole), metrics.psnr_in_hole(photo, result, hole)
                values.setdefault((case, name), []).append(figures)
    print(f"{len(found['clean'])} photos\ncase, method: l1 x 100, PSNR in the hole, dB; with its least and most")
    for (case, name), rows in values.items():
        (l1, decibels), (_, least), (_, most) = np.mean(rows, 0), np.min(rows, 0), np.max(rows, 0)
        print(f"{case:8s} {name:14s} {l1:6.2f} {decibels:6.2f} ({least:.1f}-{most:.1f})")
    for case, rows in found.items():
        print(f"{case}: a rim was found in {np.count_nonzero(rows)} of {len(rows)}")


def _cases(photo, rng):
    """Return what is shown and what is masked: {case: (uint8 [height, width, 3], bool [height, width])}."""
    side = photo.shape[0] * _TIMES
    letters, wires = np.zeros((side, side), np.uint8), np.zeros((side, side), np.uint8)
    for _ in range(3):
        place = int(rng.integers(20, side // 3)), int(rng.integers(side // 6, side - 50))
        cv2.putText(letters, f"Sample {rng.integers(1000)}", place, cv2.FONT_HERSHEY_SIMPLEX, 4.5, 255, 24, cv2.LINE_AA)
        start, end, width = (int(x) for x in (*rng.integers(0, side, 2), rng.integers(12, 28)))
        cv2.line(wires, (start, 0), (end, side), 255, width, cv2.LINE_AA)
    shown, tight = _drawn(photo, letters, (255, 255, 255))
    clean = draw_hole(rng, photo.shape[0], HoleSpec(kind="thin"))[0][..., 0] == 1
    grown = cv2.dilate(tight.astype(np.uint8), np.ones((5, 5))) > 0
    return {
        "letters": (shown, tight),
        "grown": (shown, grown),
        "wires": _drawn(photo, wires, (30, 30, 35)),
        "clean": (photo, clean),
    }


def _drawn(photo, drawing, colour):
    share = cv2.resize(drawing, photo.shape[1::-1], interpolation=cv2.INTER_AREA) / np.float32(255)
    share = cv2.GaussianBlur(share, (0, 0), 0.7)[..., None]
    return np.rint(photo * (1 - share) + np.array(colour) * share).astype(np.uint8), share[..., 0] > 0.5


if __name__ == "__main__":
    cli.run(run)
