"""Images per second of a training step against PyTorch, for each phase of the training.

    python -m benchmarks.training [--size=256] [--batch=8] [--repetitions=5] [--json=training.json]

Ours is the loop of `glcic_tf.training.steps`, PyTorch's procedures are described in `benchmarks.torch_steps`. All have
the same networks, optimisers and batch, which lies ready, and take turns, each in a process of its own. A ratio above 1
says that ours is faster: PyTorch's seconds / ours, of each repetition; given are the median, the least and the most.

PyTorch is at its best: its tensors are `channels_last`, and glibc keeps the memory that a step frees for the next one.
`--nochannels_last --nokeep_memory` measures it as it comes, `--torch_compile` what its compiler makes of the networks.

FLOPs are those of convolutions and matrix products in our graph, forward and backward: what the networks ask for, and
not what a procedure does besides. They are the same for all competitors but those that compute something twice.

`fed` is ours again, from photos that are read meanwhile (--data_dir: a folder or shards; by default, photos that are
made for it).

    python -m benchmarks.training --check --size=64 --batch=2 --width=0.125

compares instead of measuring: parameters, FLOPs, and the losses of some steps from the same weights.
"""

import contextlib
import importlib.util
import json
import platform
import sys
import tempfile
from pathlib import Path

from absl import flags

from benchmarks import training_competitors, workers
from glcic_tf.common import cli, files
from glcic_tf.common.errors import UserError
from glcic_tf.training.settings import OPTIMIZERS

PHASES = ("completion", "discriminator", "joint")
PROCEDURES = {  # of PyTorch, described in torch_steps; where two are the same work, one
    "completion": ("published",),
    "discriminator": ("published", "shared_pass"),
    "joint": ("published", "two_passes", "shared_pass"),
}

_SIZE = flags.DEFINE_integer("size", 256, "side of the images, px; a multiple of 16", lower_bound=32)
_BATCH = flags.DEFINE_integer("batch", 8, "images in a batch", lower_bound=1)
_WIDTH = flags.DEFINE_float("width", 1.0, "factor on the channels of C and D; 1 is the paper's", 0.01)
_STEPS = flags.DEFINE_integer("steps", 2, "steps in a repetition", lower_bound=1)
_REPETITIONS = flags.DEFINE_integer("repetitions", 5, "timed turns of each", lower_bound=1)
_PHASES = flags.DEFINE_multi_enum("phases", PHASES, PHASES, "give it several times for several phases")
_DTYPES = flags.DEFINE_multi_enum(
    "dtypes",
    list(training_competitors.POLICIES),
    list(training_competitors.POLICIES),
    "give it several times for several",
)
_OPTIMIZER = flags.DEFINE_enum("optimizer", "adadelta", OPTIMIZERS, "of both networks")
_DEVICE = flags.DEFINE_enum("device", "cpu", ["cpu", "gpu"], "where all compute")
_THREADS = flags.DEFINE_integer("threads", 0, "CPUs that all are kept on; 0: all there are", lower_bound=0)
_CHANNELS_LAST = flags.DEFINE_boolean("channels_last", True, "PyTorch's tensors in this format, not its default")
_KEEP_MEMORY = flags.DEFINE_boolean("keep_memory", True, "glibc keeps what PyTorch frees, instead of its default")
_COMPILE = flags.DEFINE_boolean("torch_compile", False, "PyTorch's networks by torch.compile, not eager")
_JIT = flags.DEFINE_boolean("jit_compile", False, "XLA for our step")
_PEAK = flags.DEFINE_float("peak_tflops", None, "of the device, to show the share of it that is used")
_FED = flags.DEFINE_boolean("fed", True, "measure the share of input too")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "photos of --fed; by default, 64 of 0.5 megapixels are made")
_CHECK = flags.DEFINE_boolean("check", False, "compare what is computed, and measure nothing")
_JSON = flags.DEFINE_string("json", None, "file to write all figures to")
_CASE = flags.DEFINE_string("case", None, "used by the benchmark itself: JSON of one competitor")

_MADE_PHOTOS, _MADE_MEGAPIXELS = 64, 0.5
_CHECK_STEPS = 2  # the second sees what the first updated; from there on, rounding grows
_CHECK_TOLERANCE = 2e-3


def competitors(phase, procedures):
    """{name: what tells its case from others}: ours first, then PyTorch's procedures."""
    return {"tensorflow": {"procedure": None}} | {f"pytorch {p}": {"procedure": p} for p in procedures[phase]}


def start(stack, phase, dtype, threads, data_dir=None, procedure=None):
    """Start a competitor in a process of its own."""
    case = {"phase": phase, "dtype": dtype, "threads": threads, "data_dir": data_dir, "procedure": procedure}
    settings = (_SIZE, _BATCH, _WIDTH, _OPTIMIZER, _DEVICE, _CHANNELS_LAST, _COMPILE, _JIT)
    case |= {setting.name: setting.value for setting in settings}
    return stack.enter_context(workers.start("benchmarks.training", case))


def measure(phase, dtype, procedures, threads, data_dir):
    """Measure a phase; return rows, one for each competitor, the first is ours."""
    with contextlib.ExitStack() as stack:
        running = {
            name: start(stack, phase, dtype, threads, **case) for name, case in competitors(phase, procedures).items()
        }
        if data_dir:
            running["tensorflow fed"] = start(stack, phase, dtype, threads, data_dir)
        workers.take_turns(running, 1, "run", n=1)  # tracing and the first allocations are not what is asked for
        workers.take_turns(running, 1, "run", n=1)
        answers = workers.take_turns(running, _REPETITIONS.value, "run", n=_STEPS.value)
        memory = {name: worker.ask("memory") for name, worker in running.items()}
        flops = running["tensorflow"].ask("describe")["flops"]
    seconds = {name: [answer["seconds"] for answer in found] for name, found in answers.items()}
    rows = []
    for name in running:
        speed = workers.spread([_BATCH.value / s for s in seconds[name]])
        tflops = flops * speed["median"] / _BATCH.value / 1e12
        rows.append(
            {
                "phase": phase,
                "dtype": dtype,
                "competitor": name,
                "images_per_second": speed,
                "ratio": workers.ratios(seconds[name], seconds["tensorflow"]),
                "waited": workers.spread([a["waited"] / _STEPS.value / a["seconds"] for a in answers[name]])
                if name.startswith("tensorflow")
                else None,
                "tflops": tflops,
                "peak_share": tflops / _PEAK.value if _PEAK.value else None,
                "seconds": seconds[name],
                **memory[name],
            }
        )
    return rows


def show(rows):
    for row in rows:
        share = "" if row["peak_share"] is None else f"{row['peak_share']:>8.1%}"
        print(
            f"{row['phase']:<14}{row['dtype']:<10}{row['competitor']:<21}{workers.show(row['images_per_second']):>20}"
            f"{workers.show(row['ratio']):>20}{row['peak_mb']:>9.0f}{row['peak_mb'] - row['start_mb']:>9.0f}"
            f"{row['tflops']:>9.3f}{share}",
            flush=True,
        )
    for row in rows:
        if row["competitor"] == "tensorflow fed":
            print(f"{'':<24}input: {row['waited']['median']:.1%} of the fed steps' time waited for it", flush=True)


def check(phase, procedures, threads):
    """Compare what is computed; return whether it is the same."""
    same = True

    def expect(what, ours, theirs, tolerance=0.0):
        nonlocal same
        fine = abs(ours - theirs) <= tolerance * abs(ours) + tolerance**2  # a loss may be next to nothing
        same &= fine
        print(f"{phase:<14}{what:<44}{ours:>18,.8g}{theirs:>18,.8g}  {'same' if fine else 'DIFFERENT'}", flush=True)

    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cases = competitors(phase, procedures)
        running = {name: start(stack, phase, "float32", threads, **case) for name, case in cases.items()}
        ours = running.pop("tensorflow")
        described = ours.ask("describe")
        ours.ask("save", path=str(folder / "weights"))
        answers = [ours.ask("run", n=1) for _ in range(_CHECK_STEPS)]
        for name, worker in running.items():
            worker.ask("load", path=str(folder / "weights"))
            theirs = [worker.ask("run", n=1) for _ in range(_CHECK_STEPS)]
            found = worker.ask("describe")
            expect(f"{name}: parameters", described["parameters"], found["parameters"])
            if cases[name]["procedure"] == PROCEDURES[phase][-1]:  # nothing is computed that ours does not
                expect(
                    f"{name}: FLOPs of a step", described["flops"], found["flops"], 1e-3
                )  # ours fills the hole by one
            else:
                more = found["flops"] / described["flops"]
                print(f"{phase:<14}{name + ': FLOPs / ours':<44}{more:>36.3f}")
            if cases[name]["procedure"] == "published" and phase != "completion":
                continue  # it has other losses, and D is shown another image
            for i, (a, b) in enumerate(zip(answers, theirs, strict=True)):
                for loss in (key for key in b if key.endswith("loss")):
                    expect(f"{name}: {loss}, step {i + 1}", a[loss], b[loss], _CHECK_TOLERANCE)
    return same


def run():
    if _SIZE.value % 16:
        raise UserError(f"--size={_SIZE.value}: expected a multiple of 16.")
    procedures = PROCEDURES
    if not importlib.util.find_spec("torch"):
        cli.say("PyTorch is not installed, so there is nothing to compare with: pip install torch")
        procedures = dict.fromkeys(PHASES, ())
    threads = workers.pin(_THREADS.value, "threads")
    if _KEEP_MEMORY.value:
        workers.keep_memory()
    print(f"{platform.processor() or platform.machine()}, {threads} CPUs, {_DEVICE.value}; {_SIZE.value} px, ", end="")
    print(f"batch {_BATCH.value}, width {_WIDTH.value:g}, {_OPTIMIZER.value}", flush=True)
    if _CHECK.value:
        print(f"{'phase':<14}{'':<44}{'ours':>18}{'PyTorch':>18}")
        if not all([check(phase, procedures, threads) for phase in _PHASES.value]):
            raise UserError("--check: PyTorch's step is not the same work as ours.")
        return
    print(f"median (least-most) of {_REPETITIONS.value} x {_STEPS.value} steps", flush=True)
    columns = f"{'images/s':>20}{'its time / ours':>20}{'peak MB':>9}{'of steps':>9}{'TFLOP/s':>9}"
    print(f"{'phase':<14}{'dtype':<10}{'competitor':<21}{columns}{' of peak' if _PEAK.value else ''}")
    rows = []
    with contextlib.ExitStack() as stack:
        data_dir = _DATA_DIR.value
        if _FED.value and not data_dir:
            from benchmarks import source_photos

            data_dir = stack.enter_context(tempfile.TemporaryDirectory())
            source_photos.write(data_dir, max(_MADE_PHOTOS, _BATCH.value), _MADE_MEGAPIXELS)
        for phase in _PHASES.value:
            for dtype in _DTYPES.value:
                rows += measure(phase, dtype, procedures, threads, data_dir if _FED.value else None)
                show(rows[-len(competitors(phase, procedures)) - bool(_FED.value) :])
    if _JSON.value:
        settings = {f.name: f.value for f in flags.FLAGS.get_key_flags_for_module(sys.argv[0]) if f.name != "case"}
        with files.replacing(Path(_JSON.value)) as temporary:
            temporary.write_text(json.dumps({"settings": settings, "threads": threads, "rows": rows}, indent=1) + "\n")


def main():
    if not _CASE.value:
        return run()
    case = json.loads(_CASE.value)
    serve = training_competitors.serve_pytorch if case["procedure"] else training_competitors.serve_tensorflow
    return serve(case)


if __name__ == "__main__":
    cli.run(main)
