"""How time and memory grow: of a training step with image size, batch, parts and replicas; of a completion with size.

    python -m benchmarks.growth [--plot docs/growth.png] [--json=growth.json]

Each measurement is a process of its own; seconds are the median of its steps or passes (with the least and the most),
memory is what they add to the process at its peak. The step is that of the joint phase, from a batch that lies ready.
The batch is that of all replicas together, whatever their number, and workers have one CPU each. Several replicas have
synchronised batch normalisation, one has TensorFlow's fused kernels, so the step from 1 to 2 shows that, too.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import flags
from tqdm import tqdm

from benchmarks import completion_competitors, training_competitors, workers
from glcic_tf.common import cli, files
from glcic_tf.common.errors import UserError, first_line

_WIDTH = flags.DEFINE_float("width", 1.0, "factor on the channels of C and D; 1 is the paper's", 0.01)
_REPETITIONS = flags.DEFINE_integer("repetitions", 5, "timed steps or passes of each", lower_bound=1)
_POINTS = flags.DEFINE_integer("points", 0, "of each curve, from the cheapest; 0: all", lower_bound=0)
_PLOT = flags.DEFINE_string("plot", None, "file for the plot (.png); wants matplotlib")
_JSON = flags.DEFINE_string("json", None, "file to write all figures to")
_CASE = flags.DEFINE_string("case", None, "used by the benchmark itself: JSON of one measurement")

SIZES, BATCHES, PARTS, REPLICAS, PHOTO_SIDES = (
    (64, 128, 192, 256),
    (1, 2, 4, 8),
    (1, 2, 4, 8),
    (1, 2),
    (256, 512, 768, 1024, 1536, 2048),
)
BATCH, SIZE = 4, 128  # of those curves that have another x
DTYPES = tuple(training_competitors.POLICIES)

# name of a curve: (what is on its x axis, one setting of the case, its values, the other settings)
_STEP = {"kind": "step", "phase": "joint", "size": SIZE, "batch": BATCH, "dtype": "float32"}
CURVES = {
    **{f"step, size, {d}": ("image size, px", "size", SIZES, _STEP | {"dtype": d}) for d in DTYPES},
    **{f"step, batch, {d}": ("batch", "batch", BATCHES, _STEP | {"dtype": d}) for d in DTYPES},
    "step, parts": ("parts of a batch of 8", "accumulate_steps", PARTS, _STEP | {"batch": 8}),
    "step, replicas": ("replicas on the same CPUs", "replicas", REPLICAS, _STEP | {"strategy": "mirrored"}),
    "step, workers": ("workers of one CPU each", "workers", REPLICAS, _STEP),
    **{
        f"completion, {d}": ("side of the photo, px", "size", PHOTO_SIDES, {"kind": "photo", "dtype": d})
        for d in DTYPES
    },
}


def measure(case, allowed):
    """Return {"seconds": spread, of the first worker, "mb": added at the peak, mean of the workers}."""
    count = case.get("workers", 1)
    case = {"width": _WIDTH.value, "threads": 1 if "workers" in case else len(allowed), **case}
    if case["kind"] == "step":
        case = {"device": "cpu", "optimizer": "adadelta", "jit_compile": False, "data_dir": None, **case}
    if count > 1:
        case["strategy"] = "multi_worker"
    requests = [["run", {"n": 1}]] * (_REPETITIONS.value + 2) + [["memory", {}]]
    addresses = [f"127.0.0.1:{port}" for port in _free_ports(count)]
    running = []
    with contextlib.ExitStack() as stack:
        for i in range(count):
            environment = dict(os.environ)
            if count > 1:
                task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": i}}
                environment["TF_CONFIG"] = json.dumps(task)
            own = {"cpus": allowed[i : i + 1] if "workers" in case else allowed}
            command = [sys.executable, "-m", "benchmarks.growth", f"--case={json.dumps(case | own)}"]
            out, errors = (stack.enter_context(tempfile.TemporaryFile("w+", errors="replace")) for _ in range(2))
            given = stack.enter_context(tempfile.TemporaryFile("w+"))
            given.write("".join(json.dumps(request) + "\n" for request in requests))
            given.seek(0)
            process = subprocess.Popen(command, env=environment, stdin=given, stdout=out, stderr=errors)
            stack.callback(process.kill)  # without effect once it has ended
            running.append((process, out, errors))
        while any(process.poll() is None for process, _, _ in running):
            if any(process.poll() for process, _, _ in running):
                break  # the others would wait for it
            time.sleep(0.05)
        answers = []
        for process, out, errors in running:
            for file in (out, errors):
                file.seek(0)
            lines = out.read().splitlines()
            if process.poll() != 0 or len(lines) != len(requests):
                said = [line for line in errors.read().splitlines() if line.strip()]
                raise UserError(f"a measurement failed ({case}): {first_line(said[-1] if said else 'no message')}")
            answers.append([json.loads(line) for line in lines])
    memory = [found[-1] for found in answers]
    return {
        "seconds": workers.spread(
            [answer["seconds"] for answer in answers[0][2:-1]]
        ),  # the first two trace and allocate
        "mb": sum(m["peak_mb"] - m["start_mb"] for m in memory) / count,
    }


def _free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def plot(found):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    columns = list(dict.fromkeys(label for label, *_ in CURVES.values()))
    figure, axes = plt.subplots(2, len(columns), figsize=(3 * len(columns), 6))
    for name, points in found.items():
        label = CURVES[name][0]
        column = columns.index(label)
        line = name.rsplit(", ", 1)[-1] if name.endswith(DTYPES) else None
        x = [point["x"] for point in points]
        axes[0, column].plot(x, [point["seconds"]["median"] for point in points], "o-", label=line)
        axes[1, column].plot(x, [point["mb"] / 1024 for point in points], "o-", label=line)
        axes[0, column].set_title("completion" if name.startswith("completion") else "joint step", fontsize="medium")
        for axis in axes[:, column]:
            axis.set_xlabel(label)
            axis.set_ylim(bottom=0)
            axis.set_xticks(x)
            axis.tick_params(axis="x", labelsize="small", rotation=45 if max(x) > 1000 else 0)
            axis.grid(alpha=0.3)
            if line:
                axis.legend()
    axes[0, 0].set_ylabel("seconds")
    axes[1, 0].set_ylabel("GiB added at the peak")
    figure.tight_layout()
    figure.savefig(_PLOT.value, dpi=90)


def run():
    allowed, found = sorted(os.sched_getaffinity(0)), {}
    print(f"width {_WIDTH.value:g}, {len(allowed)} CPUs, median (least-most) of {_REPETITIONS.value}")
    print(f"{'':<26}{'x':>6}{'seconds':>22}{'MB':>8}")
    progress = tqdm(
        total=sum(len(values[: _POINTS.value or None]) for _, _, values, _ in CURVES.values()),
        disable=None,
        leave=False,
    )
    for name, (_, setting, values, case) in CURVES.items():
        found[name] = []
        for x in values[: _POINTS.value or None]:
            found[name].append({"x": x, **measure(case | {setting: x}, allowed)})
            point = found[name][-1]
            print(f"{name:<26}{x:>6}{workers.show(point['seconds']):>22}{point['mb']:>8.0f}", flush=True)
            progress.update()
    if _JSON.value:
        with files.replacing(Path(_JSON.value)) as temporary:
            temporary.write_text(
                json.dumps({"width": _WIDTH.value, "cpus": len(allowed), "curves": found}, indent=1) + "\n"
            )
    if _PLOT.value:
        plot(found)


def main():
    if not _CASE.value:
        return run()
    case = json.loads(_CASE.value)
    os.sched_setaffinity(0, case["cpus"])
    return (training_competitors if case["kind"] == "step" else completion_competitors).serve_tensorflow(case)


if __name__ == "__main__":
    cli.run(main)
