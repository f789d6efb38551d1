"""Seconds from an empty environment to the first completed photo: wheel, venv, `pip install`, `glcic complete`.

    python -m benchmarks.first_photo [--python=python3.13] [--json=first_photo.json]

pip keeps its cache out of it, so that every package is downloaded: most of the installation is the connection's.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import flags

from glcic_tf.common import cli, files
from glcic_tf.common.errors import UserError

_PYTHON = flags.DEFINE_string("python", sys.executable, "which Python the environment is of")
_JSON = flags.DEFINE_string("json", None, "file to write the figures to")
ROOT = Path(__file__).parents[1]
_PIP = ["-m", "pip", "--quiet", "--disable-pip-version-check"]


def stages(folder):
    """Return {name: its command}, to be run one after the other."""
    python, photo = folder / "venv/bin/python", ROOT / "docs/removal"
    given = [f"--image={photo / 'photo.jpg'}", f"--mask={photo / 'mask.png'}"]
    return {
        "wheel": [sys.executable, *_PIP, "wheel", "--no-deps", f"--wheel-dir={folder}", str(ROOT)],
        "empty environment": [_PYTHON.value, "-m", "venv", str(folder / "venv")],
        "pip install": [str(python), *_PIP, "install", "--no-cache-dir", f"--find-links={folder}", "glcic_tf"],
        "first photo": [str(folder / "venv/bin/glcic"), "complete", *given, f"--output={folder / 'first.png'}"],
        "second photo": [str(folder / "venv/bin/glcic"), "complete", *given, f"--output={folder / 'second.png'}"],
    }


def run():
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, command in stages(Path(folder)).items():
            start = time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
            if done.returncode:
                last = done.stderr.strip().splitlines()[-1:]
                raise UserError(f"{name}: ended with {done.returncode}: {' '.join(last)}")
            seconds[name] = time.perf_counter() - start
            print(f"{name:<20}{seconds[name]:8.1f} s", flush=True)
    print(f"{'in all, to the first':<20}{sum(seconds.values()) - seconds['second photo']:8.1f} s")
    if _JSON.value:
        with files.replacing(Path(_JSON.value)) as temporary:
            temporary.write_text(json.dumps(seconds, indent=1) + "\n")


if __name__ == "__main__":
    cli.run(run)
