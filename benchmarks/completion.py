"""Time to complete one photo, all of it passed, against the same network in PyTorch.

    python -m benchmarks.completion [--size=512] [--repetitions=10]

Ours is `Completer`, which `glcic complete` uses, with batch normalisation folded. PyTorch is at its best: folded, its
memory format `channels_last`, compiled with its weights frozen; and once eager and float32, as one would write it
(`torch_networks.complete`). From a uint8 photo to a uint8 photo, each in a process of its own, in turns. Weights are
random: times do not depend on them. A ratio is the seconds of PyTorch at its best, in the same dtype, / this of each
repetition; given are the median, the least and the most.
"""

import contextlib
import importlib.util
import json
import platform

from absl import flags

from benchmarks import completion_competitors, workers
from glcic_tf.common import cli
from glcic_tf.networks import STRIDE

_SIZE = flags.DEFINE_integer("size", 512, "side of the square photo, px", lower_bound=STRIDE)
_WIDTH = flags.DEFINE_float("width", 1.0, "factor on the number of channels; 1 is the paper's", lower_bound=0.01)
_REPETITIONS = flags.DEFINE_integer("repetitions", 10, "timed passes of each", lower_bound=1)
_THREADS = flags.DEFINE_integer("threads", 0, "CPUs that all are kept on; 0: all there are", lower_bound=0)
_CASE = flags.DEFINE_string("case", None, "used by the benchmark itself: JSON of one competitor")

_DTYPES = ("float32", "bfloat16")


def run():
    threads = workers.pin(_THREADS.value, "threads")
    cases = {f"tensorflow {dtype}": {"dtype": dtype} for dtype in _DTYPES}
    if importlib.util.find_spec("torch"):
        cases |= {f"pytorch {dtype}, at its best": {"dtype": dtype, "best": True} for dtype in _DTYPES}
        cases["pytorch float32, eager"] = {"dtype": "float32", "best": False}
    else:
        cli.say("PyTorch is not installed, so there is nothing to compare with: pip install torch")
    with contextlib.ExitStack() as stack:
        running = {}
        for name, case in cases.items():
            case |= {"size": _SIZE.value, "width": _WIDTH.value, "threads": threads}
            running[name] = stack.enter_context(workers.start("benchmarks.completion", case))
        workers.take_turns(running, 2, "run", n=1)  # tracing and the first allocations are not what is asked for
        answers = workers.take_turns(running, _REPETITIONS.value, "run", n=1)
        memory = {name: worker.ask("memory") for name, worker in running.items()}
    seconds = {name: [answer["seconds"] for answer in found] for name, found in answers.items()}
    print(f"{platform.processor() or platform.machine()}, {threads} CPUs; {_SIZE.value} px, width {_WIDTH.value:g}")
    print(f"{f'median of {_REPETITIONS.value}':<32}{'seconds':>20}{'PyTorch / this':>20}{'MB added':>10}")
    for name, found in seconds.items():
        best = seconds.get(f"pytorch {cases[name]['dtype']}, at its best")
        ratio = workers.show(workers.ratios(best, found)) if best else "-"
        added = memory[name]["peak_mb"] - memory[name]["start_mb"]
        print(f"{name:<32}{workers.show(workers.spread(found)):>20}{ratio:>20}{added:>10.0f}")


def main():
    if not _CASE.value:
        return run()
    case = json.loads(_CASE.value)
    competitors = completion_competitors
    return (competitors.serve_pytorch if "best" in case else competitors.serve_tensorflow)(case)


if __name__ == "__main__":
    cli.run(main)
