"""Letters, wires and objects over photos, completed with masks that end where they do: what their rims do.

    python -m benchmarks.tight_masks --images photos/

All are drawn softly, as a camera sees them, and the mask is what is more than half theirs; an object is a piece of
another photo. `clean` has thin holes, and `clean object` the objects' masks, over photos on which nothing was drawn.
Figures are of the mask's pixels against the photo without the drawing. `to the letter` is what `auto` does where it
finds no rim.
"""

from pathlib import Path

import cv2
import numpy as np
from absl import flags

from glcic_tf.common import cli
from glcic_tf.completion import rims
from glcic_tf.data.random_holes import HoleSpec, draw_hole
from glcic_tf.evaluation import baselines, metrics, perceptual, protocols
from glcic_tf.imaging import images

_IMAGES = flags.DEFINE_string("images", None, "folder of photos", required=True)
_MODEL = flags.DEFINE_string("model", None, "model file; by default the one that ships")
_LIMIT = flags.DEFINE_integer("limit", None, "so many photos", lower_bound=1)
_TIMES = 4  # drawn so many times as large, and reduced


def run():
    from glcic_tf.completion.completer import Completer

    completer, protocol = Completer.load(_MODEL.value), protocols.PRESETS["places"]
    found, values = {}, {}
    paths = protocols.find_photos(Path(_IMAGES.value))[: _LIMIT.value]
    photos = [protocols.crop(images.read_photo(path), protocol.size) for path in paths]
    photos = [photo for photo in photos if photo is not None]
    for number, photo in enumerate(photos):
        rng = np.random.default_rng(number)
        other = photos[(number + len(photos) // 2) % len(photos)]
        for case, (shown, hole) in _cases(photo, other, rng).items():
            found.setdefault(case, []).append(rims.left_of_objects(shown, hole, hole).any())
            thick = "texture" if "object" in case else "poisson"
            done = completer.complete_by_each(shown, hole, ["auto", thick])
            results = {"auto": done["auto"].image, "to the letter": done[thick].image}
            results["telea"] = baselines.telea(shown, hole)
            for name, result in results.items():
                result = np.where(hole[..., None], result, photo)
                figures = [metric(photo, result, hole) for metric in _METRICS]
                values.setdefault((case, name), []).append(figures)
    print(f"{len(photos)} photos\n{'case, method':30s}  l1 x 100  PSNR in the hole  perceptual")
    for (case, name), rows in values.items():
        print(f"{case:14s} {name:14s}" + "".join(f"{mean:10.2f}" for mean in np.mean(rows, 0)))
    for case, rows in found.items():
        print(f"{case}: a rim was found in {np.count_nonzero(rows)} of {len(rows)}")


_METRICS = metrics.l1_in_hole, metrics.psnr_in_hole, perceptual.perceptual


def _cases(photo, other, rng):
    """Return what is shown and what is masked: {case: (uint8 [height, width, 3], bool [height, width])}."""
    side = photo.shape[0] * _TIMES
    letters, wires = np.zeros((side, side), np.uint8), np.zeros((side, side), np.uint8)
    for _ in range(3):
        place = int(rng.integers(20, side // 3)), int(rng.integers(side // 6, side - 50))
        cv2.putText(letters, f"Sample {rng.integers(1000)}", place, cv2.FONT_HERSHEY_SIMPLEX, 4.5, 255, 24, cv2.LINE_AA)
        start, end, width = (int(x) for x in (*rng.integers(0, side, 2), rng.integers(12, 28)))
        cv2.line(wires, (start, 0), (end, side), 255, width, cv2.LINE_AA)
    blob = draw_hole(rng, photo.shape[0], HoleSpec(kind="blob", area_min=0.05, area_max=0.15))[0] * np.uint8(255)
    blob = cv2.resize(blob, (side, side), interpolation=cv2.INTER_CUBIC)
    cases = {
        "letters": _drawn(photo, letters, (255, 255, 255)),
        "wires": _drawn(photo, wires, (30, 30, 35)),
        "object": _drawn(photo, blob, other),
    }
    clean = draw_hole(rng, photo.shape[0], HoleSpec(kind="thin"))[0][..., 0] == 1
    return cases | {"clean": (photo, clean), "clean object": (photo, cases["object"][1])}


def _drawn(photo, drawing, colour):
    share = cv2.resize(drawing, photo.shape[1::-1], interpolation=cv2.INTER_AREA) / np.float32(255)
    share = cv2.GaussianBlur(share, (0, 0), 0.7)[..., None]
    return np.rint(photo * (1 - share) + np.array(colour) * share).astype(np.uint8), share[..., 0] > 0.5


if __name__ == "__main__":
    cli.run(run)
