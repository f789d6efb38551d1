"""Seconds to complete a photo of 12 megapixels after the network is loaded: one large hole, scattered ones, specks.

    python -m benchmarks.large_photos [--cases=one,scattered,specks,folder] [--repetitions=5] [--profile]

From arrays to arrays with `postprocess="auto"`, as `glcic complete` does by default; a case does its photo once before
it is timed. "folder" is photos of less than a megapixel with one of 12 among them, from files to files, with and
without Poisson blending. --profile prints where the time of each case goes.
"""

import contextlib
import cProfile
import io
import json
import pstats
import shutil
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from absl import flags

from benchmarks import source_photos, workers
from glcic_tf.common import cli, files
from glcic_tf.imaging import images

SHAPE = (3000, 4000)  # height, width in px
ONE_PX = 664
SCATTERED, SCATTERED_PX = 40, (24, 96)
SPECKS, SPECK_PX = 5000, (1, 6)
SMALL_PHOTOS, SMALL_MEGAPIXELS = 11, 0.6

_CASES = flags.DEFINE_list("cases", ["one", "scattered", "specks", "folder"], "which to measure")
_REPETITIONS = flags.DEFINE_integer("repetitions", 5, "times that each is measured", lower_bound=1)
_MEGAPIXELS = flags.DEFINE_float("megapixels", 12.0, "size of the large photo; holes stay as they are", 0.6)
_MODEL = flags.DEFINE_string("model", None, "model file or name; by default the one of the package")
_PROFILE = flags.DEFINE_bool("profile", False, "print where the time goes")
_JSON = flags.DEFINE_string("json", None, "file to write all figures to")


def one(shape):
    """A square hole that is thicker than those of the training."""
    hole = np.zeros(shape, bool)
    top, left = (shape[0] - ONE_PX) // 2, (shape[1] - ONE_PX) // 2
    hole[top : top + ONE_PX, left : left + ONE_PX] = True
    return hole


def scattered(shape):
    """Rectangles all over the photo."""
    return _rectangles(shape, SCATTERED, SCATTERED_PX)


def specks(shape):
    """Dust: thousands of holes of some pixels."""
    return _rectangles(shape, SPECKS, SPECK_PX)


def _rectangles(shape, count, sides):
    rng, hole = np.random.default_rng(0), np.zeros(shape, bool)
    for _ in range(count):
        rows, columns = rng.integers(*sides, 2, endpoint=True)
        top, left = rng.integers(0, shape[0] - rows), rng.integers(0, shape[1] - columns)
        hole[top : top + rows, left : left + columns] = True
    return hole


def in_a_photo(completer, photo, hole):
    """Return {name: function to time} of a photo with a hole."""
    return {"auto": lambda: completer(photo, hole)}


def in_a_folder(root, photo):
    """Write a folder with one large photo among small ones; return {name: function to time}."""
    (root / "photos").mkdir(), (root / "masks").mkdir()
    source_photos.write(root / "photos", SMALL_PHOTOS, SMALL_MEGAPIXELS)
    images.write_image(root / "photos" / "large.jpg", photo)
    for path in (root / "photos").iterdir():
        shape = images.read_image(path).shape[:2]
        hole = one(shape) if path.stem == "large" else _rectangles(shape, 2, SCATTERED_PX)
        images.write_image(root / "masks" / f"{path.stem}.png", np.uint8(hole) * 255)

    def complete(postprocess):
        from glcic_tf.completion.folder import infer

        shutil.rmtree(root / "out", ignore_errors=True)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            infer(root / "photos", root / "masks", root / "out", _MODEL.value, postprocess=postprocess)

    return {name: lambda name=name: complete(name) for name in ("none", "poisson", "auto")}


def measure(name, way, function):
    """Print and return the `workers.spread` of one case's seconds."""
    function()
    seconds = []
    for _ in range(_REPETITIONS.value):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    found = workers.spread(seconds)
    print(f"{name:<12}{way:<10}{workers.show(found):>24}", flush=True)
    if _PROFILE.value:
        profile = cProfile.Profile()
        profile.runcall(function)
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)
    return found


def run():
    with cli.quiet_start():
        from glcic_tf.completion.completer import Completer

    completer = Completer.load(_MODEL.value)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        (path,) = source_photos.write(Path(folder), 1, _MEGAPIXELS.value)
        photo = images.read_image(path)
        print(f"{photo.shape[1]} x {photo.shape[0]} px, seconds: median (least-most) of {_REPETITIONS.value}")
        for name in _CASES.value:
            root = Path(folder, name)
            root.mkdir()
            holes = {"one": one, "scattered": scattered, "specks": specks}
            ways = (
                in_a_folder(root, photo)
                if name == "folder"
                else in_a_photo(completer, photo, holes[name](photo.shape[:2]))
            )
            for way, function in ways.items():
                rows.append({"case": name, "way": way, "seconds": measure(name, way, function)})
    if _JSON.value:
        with files.replacing(Path(_JSON.value)) as temporary:
            temporary.write_text(json.dumps(rows, indent=1) + "\n")


def main():
    cv2.setNumThreads(2)
    run()


if __name__ == "__main__":
    cli.run(main)
