"""Completion of one rectangular hole per photo, models against diffusion: l1, PSNR and SSIM on a folder of photos.

    python -m benchmarks.quality --images photos/ [--model run/model.keras] [--preset places] [--size 128 ...]

The holes depend on the photo's file name alone, so every method, today's and next year's, gets the same ones.
"""

import dataclasses
import hashlib
import sys
import time
from pathlib import Path

import cv2
import numpy as np
from absl import app, flags
from tqdm import tqdm

from glcic_tf import images, metrics
from glcic_tf.errors import UserError


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Side of the square crop and bounds of the hole's sides, px, inclusive; a centred hole or one at random."""

    size: int
    hole_min: int
    hole_max: int
    centred: bool = False

    def __post_init__(self):
        if not 1 <= self.hole_min <= self.hole_max <= self.size:
            raise UserError(
                f"--size, --hole_min, --hole_max: found {self.size}, {self.hole_min}, {self.hole_max}; "
                "expected 1 <= hole_min <= hole_max <= size, in px."
            )


PRESETS = {
    "places": Protocol(256, 96, 128),  # the paper's training holes
    "mmagic": Protocol(256, 108, 128),  # of the only published figures for this network
    "faces": Protocol(160, 60, 80),
    "centre128": Protocol(128, 64, 64, centred=True),  # Context Encoder's
}

_IMAGES = flags.DEFINE_string("images", None, "folder of photos", required=True)
_MODEL = flags.DEFINE_multi_string("model", [], "model file to measure; may be given several times")
_PRESET = flags.DEFINE_enum("preset", "places", list(PRESETS), "crop and hole")
_SIZE = flags.DEFINE_integer("size", None, "side of the crop, px, instead of the preset's")
_HOLE_MIN = flags.DEFINE_integer("hole_min", None, "smallest side of the hole, px, instead of the preset's")
_HOLE_MAX = flags.DEFINE_integer("hole_max", None, "largest side of the hole, px, instead of the preset's")
_LIMIT = flags.DEFINE_integer("limit", None, "measure the first photos only", lower_bound=1)

METHODS = {
    "telea": lambda image, mask: cv2.inpaint(image, mask.astype(np.uint8), 3, cv2.INPAINT_TELEA),
    "navier_stokes": lambda image, mask: cv2.inpaint(image, mask.astype(np.uint8), 3, cv2.INPAINT_NS),
    "mean_colour": lambda image, mask: np.where(mask[..., None], np.rint(image[~mask].mean(0)), image).astype(np.uint8),
}


def crop_and_hole(photo, stem, protocol):
    """Cut the square out of a photo and draw its hole.

    Args:
        photo: [height, width, 3] uint8.
        stem: file name without folder and suffix; all that the hole depends on.
        protocol: `Protocol`.

    Returns:
        (crop, mask): [size, size, 3] uint8, reduced by area averaging so that the photo's shorter side has `size` px,
        then cut from its centre; and [size, size] bool, True in the hole. None if the photo is smaller than `size`.
    """
    size = protocol.size
    height, width = photo.shape[:2]
    if min(height, width) < size:
        return None
    factor = size / min(height, width)
    height, width = round(height * factor), round(width * factor)
    photo = cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA)
    top, left = (height - size) // 2, (width - size) // 2
    crop = photo[top : top + size, left : left + size]

    rng = np.random.default_rng(int(hashlib.sha256(stem.encode()).hexdigest()[:16], 16))
    hole_height, hole_width = rng.integers(protocol.hole_min, protocol.hole_max + 1, 2)
    if protocol.centred:
        y, x = (size - hole_height) // 2, (size - hole_width) // 2
    else:
        y = rng.integers(0, size - hole_height + 1)
        x = rng.integers(0, size - hole_width + 1)
    mask = np.zeros((size, size), bool)
    mask[y : y + hole_height, x : x + hole_width] = True
    return crop, mask


def measure(methods, paths, protocol):
    """Complete the hole of every photo with every method.

    Args:
        methods: dict of name -> function (image [height, width, 3] uint8, mask [height, width] bool) -> image.
        paths: photos.
        protocol: `Protocol`.

    Returns:
        (scores, seconds, skipped): dicts of method -> list of `metrics.all_metrics`, one per photo, and method -> list
        of seconds; and the number of photos left out because they are smaller than the crop.
    """
    scores, seconds = {name: [] for name in methods}, {name: [] for name in methods}
    skipped = 0
    for path in tqdm(paths, unit="photo", disable=not sys.stderr.isatty()):
        sample = crop_and_hole(images.read_photo(path), path.stem, protocol)
        if sample is None:
            skipped += 1
            continue
        original, mask = sample
        image = np.where(mask[..., None], 0, original).astype(np.uint8)  # no method sees what stood there
        for name, complete in methods.items():
            start = time.perf_counter()
            completed = complete(image.copy(), mask)
            seconds[name].append(time.perf_counter() - start)
            scores[name].append(metrics.all_metrics(original, completed, mask))
    return scores, seconds, skipped


def run():
    """Measure what the flags ask for and print the table."""
    changes = {"size": _SIZE.value, "hole_min": _HOLE_MIN.value, "hole_max": _HOLE_MAX.value}
    protocol = dataclasses.replace(PRESETS[_PRESET.value], **{k: v for k, v in changes.items() if v is not None})
    methods = {}
    for path in _MODEL.value:
        from glcic_tf.completer import Completer  # here, so that the baselines do not wait for TensorFlow

        name = Path(path).stem if Path(path).stem not in methods else path
        methods[name] = Completer.load(path).complete
    methods |= METHODS

    scores, seconds, skipped = measure(methods, images.find_photos(_IMAGES.value)[: _LIMIT.value], protocol)
    if skipped:
        print(f"{skipped} photos skipped: smaller than {protocol.size} px")
    if not scores["telea"]:
        raise UserError(f"--images: found no photo of at least {protocol.size} px in {_IMAGES.value}; give a --size.")
    print(
        f"{_IMAGES.value}: {protocol.size} x {protocol.size} px, hole {protocol.hole_min}-{protocol.hole_max} px"
        f"{' in the centre' if protocol.centred else ''}; l1 in the hole x 100, PSNR in dB, milliseconds (median)"
    )
    print(f"{'method':<20} {'l1':>7} {'PSNR hole':>10} {'PSNR':>7} {'SSIM':>7} {'n':>5} {'ms':>7}")
    for name, rows in scores.items():
        mean = {key: np.mean([row[key] for row in rows]) for key in rows[0]}
        print(
            f"{name:<20} {mean['l1']:7.2f} {mean['psnr_hole']:10.2f} {mean['psnr']:7.2f} {mean['ssim']:7.3f} "
            f"{len(rows):5d} {1000 * np.median(seconds[name]):7.1f}"
        )


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}")
    cv2.setNumThreads(2)
    try:
        run()
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    app.run(main)
