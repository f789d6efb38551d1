"""Every ratio of README.md's table with its spread, and the plots of how cost grows, one benchmark after the other.

    python -m benchmarks.everything [--small] [--only=startup,input]     (or: make benchmarks)

Hours in all. What each prints is passed on; one that fails does not keep the others from running. --small runs each at
a size at which it takes a minute or so, to see that it works: its figures mean nothing, and no plot in docs/ is
replaced.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import flags

from glcic_tf.common import cli
from glcic_tf.common.errors import UserError

_SMALL = flags.DEFINE_bool("small", False, "see that each works, with figures that mean nothing")
_ONLY = flags.DEFINE_list("only", None, "run these alone")

# name: (arguments, arguments with --small); {plots} is the folder that plots go to.
BENCHMARKS = {
    "startup": ([], ["--repetitions=1"]),
    "completion": ([], ["--size=64", "--width=0.125", "--repetitions=1"]),
    "folder": (["--width=0.5"], ["--width=0.125", "--photos=2", "--parts=1"]),
    "large_photos": ([], ["--cases=one,folder", "--megapixels=1.5", "--repetitions=1"]),
    "input": ([], ["--megapixels=0.1", "--photos=4", "--batch=2", "--seconds=0.1", "--repetitions=1"]),
    "training": (
        ["--batch=4"],
        ["--batch=2", "--size=32", "--width=0.125", "--steps=1", "--repetitions=1", "--dtypes=float32"],
    ),
    "growth": (
        ["--plot={plots}/growth.png"],
        ["--plot={plots}/growth.png", "--width=0.125", "--repetitions=1", "--points=1"],
    ),
    "set_size": ([], ["--photos=1000"]),
    "photos": (["--plot={plots}/photos.png"], ["--plot={plots}/photos.png", "--small"]),
}


def run():
    names = _ONLY.value or list(BENCHMARKS)
    for name in names:
        if name not in BENCHMARKS:
            raise UserError(f"--only={name}: there is no such benchmark; expected some of {', '.join(BENCHMARKS)}.")
    failed = []
    with tempfile.TemporaryDirectory() as temporary:
        plots = temporary if _SMALL.value else Path(__file__).parents[1] / "docs"
        for name in names:
            arguments = [argument.format(plots=plots) for argument in BENCHMARKS[name][_SMALL.value]]
            print(f"\n== {' '.join(['benchmarks.' + name, *arguments])}", flush=True)
            start = time.perf_counter()
            if subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *arguments]).returncode:
                failed.append(name)
            print(f"== {time.perf_counter() - start:.0f} s", flush=True)
    if failed:
        raise UserError(f"failed: {', '.join(failed)}; what they said stands above.")


if __name__ == "__main__":
    cli.run(run)
