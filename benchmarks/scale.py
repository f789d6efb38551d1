"""Holes larger than those of the training: completed at full resolution, or in reduced surroundings?

    python -m benchmarks.scale [--images photos/] [--model run/model.keras] [--picture scale.png]

The picture shows some photos: masked, completed at full resolution, in reduced surroundings, original.

One square hole per photo, its place seeded by the photo's name, completed at scale 1 and at the scale that brings it
down to the training's largest. Photos whose shorter side is not --border_px longer than the hole's
are left out.
"""

import hashlib

import numpy as np
from absl import flags
from tqdm import tqdm

from glcic_tf.apps import demo
from glcic_tf.common import cli
from glcic_tf.common.errors import UserError
from glcic_tf.evaluation import metrics
from glcic_tf.imaging import images, photo_folders

DEMO = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")

_IMAGES = flags.DEFINE_string("images", None, "folder of photos; by default those of the demo")
_MODEL = flags.DEFINE_string("model", None, "model file; by default the one of the package")
_SIDES = flags.DEFINE_multi_integer("side", [128, 144, 160, 192, 224, 256, 320], "sides of the hole, px")
_BORDER = flags.DEFINE_integer("border_px", 32, "how much larger than the hole a photo has to be")
_DRAWS = flags.DEFINE_integer("draws", 1, "holes of each side per photo", lower_bound=1)
_PICTURE = flags.DEFINE_string("picture", None, "file for a picture of the first four photos of each side")


def hole_in(shape, side, name):
    """Square hole of `side` px, its place drawn from the photo's name: bool of `shape`, (height, width)."""
    rng = np.random.default_rng(int(hashlib.sha256(name.encode()).hexdigest()[:16], 16))
    top, left = (int(rng.integers(0, length - side + 1)) for length in shape)
    hole = np.zeros(shape, bool)
    hole[top : top + side, left : left + side] = True
    return hole


def gradient_energy(image, hole):
    """Mean squared difference between neighbours inside the hole: [height, width, 3] float -> float."""
    across, down = np.diff(image, axis=1)[hole[:, 1:] & hole[:, :-1]], np.diff(image, axis=0)[hole[1:] & hole[:-1]]
    return np.square(across).mean() + np.square(down).mean()


def run():
    from glcic_tf.completion.completer import Completer

    completer = Completer.load(_MODEL.value)
    if completer.trained_hole_px is None:
        raise UserError(f"--model={_MODEL.value}: does not say what holes it was trained on.")
    largest = completer.trained_hole_px[1]
    completer.trained_hole_px = None  # no warnings, no choice of its own
    photos = [
        (f"{path.stem}{draw or ''}", images.read_photo(path))
        for path in (photo_folders.find_photos(_IMAGES.value) if _IMAGES.value else map(demo.sample_path, DEMO))
        for draw in range(_DRAWS.value)
    ]
    rows = []
    print(f"{'hole':>5} {'n':>4}   PSNR in the hole, dB          l1              sharpness")
    print(f"{'':>10}   {'full':>7} {'reduced':>8} {'wins':>6}  {'full':>6} {'reduced':>8}  {'full':>6} {'reduced':>8}")
    for side in _SIDES.value:
        found = []
        for name, photo in tqdm(photos, disable=None, leave=False):
            if min(photo.shape[:2]) < side + _BORDER.value:
                continue
            hole = hole_in(photo.shape[:2], side, name)
            masked = np.where(hole[..., None], 0, photo).astype(np.uint8)
            results = [
                completer(masked, hole, scale=scale, postprocess="none") for scale in (1, min(1, largest / side))
            ]
            energy = gradient_energy(photo / 255, hole)
            found.append(
                [
                    [
                        metrics.psnr_in_hole(photo, result, hole),
                        metrics.l1_in_hole(photo, result, hole),
                        gradient_energy(result / 255, hole) / energy,
                    ]
                    for result in results
                ]
            )
            if len(found) <= 4 and side > largest:
                shown = [masked, *results, photo]
                rows.append(
                    np.concatenate(
                        [np.pad(image, ((0, 8), (0, 8), (0, 0)), constant_values=255) for image in shown], axis=1
                    )
                )
        if found:
            found = np.array(found)  # [photos, full | reduced, metrics]
            (full, reduced), wins = found.mean(axis=0), (found[:, 1, 0] > found[:, 0, 0]).mean()
            print(
                f"{side:>5} {len(found):>4}   {full[0]:>7.2f} {reduced[0]:>8.2f} {wins:>6.0%}  "
                f"{full[1]:>6.2f} {reduced[1]:>8.2f}  {full[2]:>6.3f} {reduced[2]:>8.3f}"
            )
    if _PICTURE.value and rows:
        width = max(row.shape[1] for row in rows)
        rows = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
        images.write_image(_PICTURE.value, np.concatenate(rows))


if __name__ == "__main__":
    cli.run(run)
