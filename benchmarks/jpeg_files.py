"""Seconds to read and to write a JPEG as `glcic complete` does, against OpenCV's imread and imwrite alone.

    python -m benchmarks.jpeg_files [--megapixels=2,12] [--repetitions=7] [--json=jpeg_files.json]

Ours reads metadata too, looks whether every pixel is there, and writes what it read with the photo's chroma sampling
under a temporary name. Both write 4:2:0 at quality 95 and take turns; a ratio is ours / OpenCV's in the same turn.
Beside it stands that of CPU seconds, which other work on the machine changes less. The files are in the system's cache.
"""

import json
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from absl import flags

from benchmarks import source_photos, workers
from glcic_tf.common import cli, files
from glcic_tf.imaging import image_formats, images
from glcic_tf.imaging.image_metadata import Metadata

_MEGAPIXELS = flags.DEFINE_list("megapixels", ["2", "12"], "sizes of the photos that are made")
_REPETITIONS = flags.DEFINE_integer("repetitions", 7, "timed turns of each", lower_bound=1)
_JSON = flags.DEFINE_string("json", None, "file to write all figures to")


def works(photo, output):
    """{(what, by whom): function without arguments}; what was read before is written."""
    opened = images.open_image(photo)
    settings = [cv2.IMWRITE_JPEG_QUALITY, image_formats.JPEG_QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR]
    settings.append(cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420)
    return {
        ("read", "ours"): lambda: images.open_image(photo),
        ("read", "OpenCV"): lambda: cv2.imread(str(photo), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION),
        ("write", "ours"): lambda: images.write_image(output, opened.pixels, metadata=opened.metadata),
        ("write", "OpenCV"): lambda: cv2.imwrite(str(output), cv2.cvtColor(opened.pixels, cv2.COLOR_RGB2BGR), settings),
    }


def measure(megapixels, folder):
    """{(what, by whom): seconds by the clock and by the CPU, [turns, 2]}."""
    source, photo = source_photos.write(folder, 2, megapixels)
    opened = images.open_image(source)
    images.write_image(photo, opened.pixels, source_photos.JPEG_QUALITY, Metadata(chroma="4:2:0"))
    seconds = {name: [] for name in works(photo, folder / "out.jpg")}
    for turn in range(_REPETITIONS.value + 1):
        for name, work in works(photo, folder / "out.jpg").items():
            start, cpu = time.perf_counter(), time.process_time()
            work()
            if turn:  # the first is to warm up
                seconds[name].append((time.perf_counter() - start, time.process_time() - cpu))
    return {name: np.array(taken) for name, taken in seconds.items()}


def main():
    results = []
    print("| megapixels | | ours, ms | OpenCV, ms | ours / OpenCV | of CPU seconds |\n|" + " --- |" * 6)
    for megapixels in map(float, _MEGAPIXELS.value):
        with tempfile.TemporaryDirectory() as folder:
            seconds = measure(megapixels, Path(folder))
        for what in ("read", "write"):
            ours, theirs = seconds[what, "ours"], seconds[what, "OpenCV"]
            ratios = ours / theirs
            times = [f"{np.median(taken[:, 0]) * 1000:.0f}" for taken in (ours, theirs)]
            cells = [
                f"{megapixels:g}",
                what,
                *times,
                *(workers.show(workers.spread(column.tolist())) for column in ratios.T),
            ]
            print("| " + " | ".join(cells) + " |", flush=True)
            results.append({"megapixels": megapixels, "what": what, "ours": ours.tolist(), "opencv": theirs.tolist()})
    if _JSON.value:
        with files.replacing(_JSON.value) as temporary:
            temporary.write_text(json.dumps(results))


if __name__ == "__main__":
    cli.run(main)
