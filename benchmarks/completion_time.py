"""Seconds to complete one photo of 512, 768 and 1024 px, beside what the paper reports.

    python -m benchmarks.completion_time [--width 1.0]

Two holes: all of the photo passed, as the paper's times have it, and one of 128 px, of which only the surroundings are.
The network has the paper's width and random weights: times do not depend on them. The paper reports an i7-5960X (8
cores, 3.0 GHz) and a TITAN X.
"""

import platform
import resource
import subprocess
import sys
import time

import numpy as np
from absl import flags

from glcic_tf.common import cli

_WIDTH = flags.DEFINE_float("width", 1.0, "factor on the channels; 1.0 is the paper's network", 0.01)
_CASE = flags.DEFINE_string("case", None, "used by the benchmark itself: side of the photo, whole or hole")
_REPEATS = 5
PAPER = {512: (2.286, 0.141), 768: (4.933, 0.312), 1024: (8.262, 0.561)}  # side: seconds on the CPU, on the GPU


def measure_here(side, way):
    """Print median seconds and peak MB of one process."""
    from glcic_tf.completion import windows
    from glcic_tf.completion.completer import Completer
    from glcic_tf.networks.completion import completion_network

    completer = Completer(completion_network(_WIDTH.value))
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    hole = np.zeros((side, side), bool)
    first = (side - 128) // 2
    hole[first : first + 128, first : first + 128] = True
    if way == "whole":
        box = (0, 0, side, side)
        windows.plan = lambda wanted: [(box, box)]
    seconds = []
    for _ in range(_REPEATS + 1):
        start = time.perf_counter()
        completer(image, hole, postprocess="none")
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(np.median(seconds[1:]), peak)  # the first builds the graph


def run():
    if _CASE.value:
        side, way = _CASE.value.split(",")
        measure_here(int(side), way)
        return
    with cli.quiet_start():
        import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    print(
        f"{platform.processor() or platform.machine()}, {len(gpus)} GPUs, width {_WIDTH.value:g}, median of {_REPEATS}"
    )
    print(f"{'px':>5} {'passed':>7} {'seconds':>8} {'peak MB':>8}   paper / this: {'CPU':>5} {'GPU':>6}")
    for side, paper in PAPER.items():
        for way in ("whole", "hole"):
            command = [sys.executable, "-m", "benchmarks.completion_time", f"--width={_WIDTH.value}"]
            done = subprocess.run([*command, f"--case={side},{way}"], capture_output=True, text=True, check=True)
            seconds, peak = map(float, done.stdout.split()[-2:])
            ratios = [reported / seconds for reported in paper]
            print(f"{side:>5} {way:>7} {seconds:>8.3f} {peak:>8.0f}   {'':>13} {ratios[0]:>5.1f} {ratios[1]:>6.2f}")


if __name__ == "__main__":
    cli.run(run)
