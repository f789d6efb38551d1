"""Time and memory of completing a hole in a photo, against passing the whole photo through the network.

    python -m benchmarks.photos [--model run/model.keras] [--plot docs/photos.png]

Each measurement is a process of its own, which reads a JPEG, completes it and writes a JPEG. Counted is what comes on
top of a process that only reads and writes: seconds of the completion (the quicker of two calls, as in a folder of
photos), and peak memory.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from absl import flags
from tqdm import tqdm

from glcic_tf.apps import demo
from glcic_tf.common import cli
from glcic_tf.common.errors import UserError
from glcic_tf.imaging import images

_MODEL = flags.DEFINE_string("model", None, "model file; by default the one of the package")
_SMALL = flags.DEFINE_bool("small", False, "two small photos and holes of two sizes, to see that it works")
_PLOT = flags.DEFINE_string("plot", None, "file for the plot (.png); wants matplotlib")
_CASE = flags.DEFINE_string("case", None, "used by the benchmark itself: JSON of one measurement")

PHOTO = (3000, 4000)  # height, width in px
HOLE_PX = 100
PHOTOS = [(600, 800), (1500, 2000), (3000, 4000), (6000, 8000), (8660, 11547)]  # the last has 100 megapixels
HOLES_PX = [25, 50, 100, 200, 400, 800]
WAYS = ("files", "hole", "whole")


def measure(shape, side, way, count=1):
    """Return {"seconds", "peak_mb"} of one process: photo of `shape`, `count` holes of `side` px, way as in WAYS."""
    case = {"shape": shape, "side": side, "way": way, "count": count, "model": _MODEL.value}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.photos", f"--case={json.dumps(case)}"], capture_output=True, text=True
    )
    if done.returncode:
        raise UserError(f"a measurement failed: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure_here(case):
    """Do one measurement in this process."""
    from glcic_tf.completion import windows
    from glcic_tf.completion.completer import Completer

    completer = Completer.load(case["model"])
    (height, width), side, count = case["shape"], case["side"], case["count"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "photo.jpg")
        # Made by another process, so that its memory is not counted here.
        code = (
            "import sys, cv2; name, path, *size = sys.argv[1:]; "
            "cv2.imwrite(path, cv2.resize(cv2.imread(name), tuple(map(int, size))))"
        )
        source = Path(folder, "source.png")
        images.write_image(source, demo.sample_photo("coffee.png"))
        subprocess.run([sys.executable, "-c", code, source, path, str(width), str(height)], check=True)
        hole = np.zeros((height, width), np.uint8)
        rng = np.random.default_rng(0)
        for i in range(count):
            top, left = (height - side) // 2, (width - side) // 2
            if i:
                top, left = rng.integers(0, height - side), rng.integers(0, width - side)
            hole[top : top + side, left : left + side] = 255
        mask, output = Path(folder, "mask.png"), Path(folder, "out.jpg")
        images.write_image(mask, hole)
        del hole
        seconds = []
        if case["way"] == "files":
            pixels, metadata, *_ = images.open_image(path)
            hole = images.read_mask(mask)
            images.write_image(output, pixels, metadata=metadata)
            del hole  # held until here, as the completion does
        else:
            complete = completer._complete  # all but reading and writing

            def timed(*arguments):
                start = time.perf_counter()
                result = complete(*arguments)
                seconds.append(time.perf_counter() - start)
                return result

            completer._complete = timed
            if case["way"] == "whole":
                whole = (0, 0, -(-height // 4) * 4, -(-width // 4) * 4)
                windows.plan = lambda wanted: [((0, 0, height, width), whole)]
            for _ in range(2):
                completer.complete_file(path, mask, output, scale=1, postprocess="none", overwrite=True)
    return {"seconds": min(seconds, default=0.0), "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def run():
    global PHOTO, PHOTOS, HOLES_PX
    if _SMALL.value:
        PHOTOS, HOLES_PX = [(450, 600), (600, 800)], [25, 50]
        PHOTO = PHOTOS[-1]
    rows = []

    def row(shape, side, way, count=1):
        files, found = measure(shape, side, "files", count), measure(shape, side, way, count)
        rows.append((shape, side, way, found["seconds"], max(0.0, found["peak_mb"] - files["peak_mb"])))
        return rows[-1]

    progress = tqdm(total=len(PHOTOS) + len(HOLES_PX) + 2, disable=None, leave=False)
    print(f"{'photo':>15} {'holes':>10} {'passed':>8} {'seconds':>8} {'MB on top':>10}")

    def show(found, count=1):
        (height, width), side, way, seconds, memory = found
        megapixels = height * width / 1e6
        print(
            f"{megapixels:>12.1f} MP {count:>3} x {side:>4} {'whole' if way == 'whole' else 'hole':>8} {seconds:>8.2f} "
            f"{memory:>10.0f}",
            flush=True,
        )
        progress.update()
        return found

    by_photo = [show(row(shape, HOLE_PX, "hole")) for shape in PHOTOS]
    by_hole = [show(row(PHOTO, side, "hole")) for side in HOLES_PX]
    show(row(PHOTOS[-1], HOLE_PX, "hole", count=10), count=10)
    whole = show(row(PHOTO, HOLE_PX, "whole"))
    own = next(found for found in by_photo if found[0] == PHOTO)
    print(f"whole photo / hole alone: {whole[3] / own[3]:.0f} x the time, {whole[4] / max(own[4], 1):.0f} x the memory")
    if _PLOT.value:
        plot(by_photo, by_hole, whole)


def plot(by_photo, by_hole, whole):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(9, 6), sharey="row")
    for row, (index, label) in enumerate(((3, "seconds"), (4, "MB on top of reading and writing"))):
        axes[row, 0].plot([h * w / 1e6 for (h, w), *_ in by_photo], [found[index] for found in by_photo], "o-")
        axes[row, 0].plot([whole[0][0] * whole[0][1] / 1e6], [whole[index]], "s", color="tab:red", label="whole photo")
        axes[row, 1].plot([found[1] for found in by_hole], [found[index] for found in by_hole], "o-")
        axes[row, 0].set_ylabel(label)
        axes[row, 0].legend()
        for axis in axes[row]:
            axis.set_yscale("log")
            axis.grid(alpha=0.3)
    axes[1, 0].set_xlabel(f"megapixels of the photo, hole of {HOLE_PX} x {HOLE_PX} px")
    axes[1, 1].set_xlabel("side of the hole in px, photo of 12 megapixels")
    figure.tight_layout()
    figure.savefig(_PLOT.value, dpi=100)


def main():
    cv2.setNumThreads(2)
    if _CASE.value:
        print(json.dumps(measure_here(json.loads(_CASE.value))))
    else:
        run()


if __name__ == "__main__":
    cli.run(main)
