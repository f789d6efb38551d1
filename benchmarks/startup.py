"""Seconds from the shell to the end of short commands, against what importing TensorFlow alone takes.

    python -m benchmarks.startup [--repetitions=5] [--json=startup.json]

A photo of half a megapixel with a hole of 100 px goes from file to file, in TensorFlow and, where it is installed, in
ONNX Runtime, whose graph a first run has put into the user's cache. All commands take turns; a ratio is a command's
seconds / those of `python -c 'import tensorflow'` in the same turn. Beside it stands the same ratio of CPU seconds,
which other work on the machine changes less.
"""

import importlib.util
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from absl import flags

from benchmarks import source_photos, workers
from glcic_tf.common import cli, files
from glcic_tf.common.errors import UserError, first_line
from glcic_tf.imaging import images

_REPETITIONS = flags.DEFINE_integer("repetitions", 5, "times that each command is run", lower_bound=1)
_JSON = flags.DEFINE_string("json", None, "file to write all figures to")
_MEGAPIXELS, _HOLE_PX = 0.5, 100
_IMPORT = "import tensorflow"
_GLCIC = [sys.executable, "-m", "glcic_tf"]


def commands(folder):
    """Make a photo; return {name: (command, its exit code)}."""
    (photo,) = source_photos.write(folder, 1, _MEGAPIXELS)
    hole = np.zeros(images.read_image(photo).shape[:2], np.uint8)
    hole[200 : 200 + _HOLE_PX, 300 : 300 + _HOLE_PX] = 255
    mask = folder / "mask.png"
    images.write_image(mask, hole)
    given = [f"--image={photo}", f"--mask={mask}", f"--output={folder / 'out.png'}", "--overwrite"]
    found = {
        _IMPORT: ([sys.executable, "-c", _IMPORT], 0),
        "glcic --help": ([*_GLCIC, "--help"], 0),
        "glcic complete, a wrong flag": ([*_GLCIC, "complete", *given, "--scale=2"], 2),
        "glcic complete, a photo": ([*_GLCIC, "complete", *given], 0),
    }
    if all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime")):
        found["the same, --engine=onnxruntime"] = ([*_GLCIC, "complete", *given, "--engine=onnxruntime"], 0)
    return found


def run_once(name, command, code):
    """Run a command: {"wall", "cpu"}, seconds."""
    start, before = time.perf_counter(), _cpu_of_children()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = {"wall": time.perf_counter() - start, "cpu": _cpu_of_children() - before}
    if done.returncode != code:
        lines = done.stderr.strip().splitlines()
        said = first_line(lines[-1]) if lines else "no message"
        raise UserError(f"{name}: exit code {done.returncode}, expected {code} ({said})")
    return seconds


def _cpu_of_children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run():
    with tempfile.TemporaryDirectory() as folder:
        cases = commands(Path(folder))
        for name, case in cases.items():  # fills the system's cache, and ONNX Runtime's
            run_once(name, *case)
        found = {name: [] for name in cases}
        for i in range(_REPETITIONS.value):
            for name in list(cases)[:: -1 if i % 2 else 1]:
                found[name].append(run_once(name, *cases[name]))
    print(
        f"{f'median (least-most) of {_REPETITIONS.value}':<34}{'seconds':>20}{'/ ' + _IMPORT:>22}{'of CPU seconds':>20}"
    )
    rows = []
    for name in cases:
        seconds, base = (
            {kind: [one[kind] for one in found[key]] for kind in ("wall", "cpu")} for key in (name, _IMPORT)
        )
        ratios = {kind: workers.ratios(seconds[kind], base[kind]) for kind in seconds}
        rows.append({"command": name, "seconds": seconds, "ratios": ratios})
        shown = f"{workers.show(ratios['wall']):>22}{workers.show(ratios['cpu']):>20}"
        print(f"{name:<34}{workers.show(workers.spread(seconds['wall'])):>20}{shown}", flush=True)
    if _JSON.value:
        with files.replacing(Path(_JSON.value)) as temporary:
            temporary.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    cli.run(run)
