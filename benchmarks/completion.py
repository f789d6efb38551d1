"""Time to complete one photo, all of it passed, against the same network in PyTorch.

    python -m benchmarks.completion [--size=512] [--repetitions=10]

Ours is `Completer`, which infer.py uses, with batch normalisation folded. PyTorch is eager, float32, in evaluation mode
and without gradients, as one would write it (`torch_networks.complete`), and once more with its tensors in the memory
format `channels_last`. From a uint8 photo to a uint8 photo, each in a process of its own, in turns. Weights are random:
times do not depend on them. A ratio is PyTorch's seconds / this of each repetition; given are the median, the least and
the most.
"""

import contextlib
import importlib.util
import json
import platform
import time

import numpy as np
from absl import flags

from benchmarks import workers
from glcic_tf import scripts
from glcic_tf.networks import STRIDE

_SIZE = flags.DEFINE_integer("size", 512, "side of the square photo, px", lower_bound=STRIDE)
_WIDTH = flags.DEFINE_float("width", 1.0, "factor on the number of channels; 1 is the paper's", lower_bound=0.01)
_REPETITIONS = flags.DEFINE_integer("repetitions", 10, "timed passes of each", lower_bound=1)
_THREADS = flags.DEFINE_integer("threads", 0, "CPUs that all are kept on; 0: all there are", lower_bound=0)
_CASE = flags.DEFINE_string("case", None, "used by the benchmark itself: JSON of one competitor")

_REFERENCE = "pytorch float32"


def photo_and_hole(side):
    """Return uint8 [side, side, 3] and bool [side, side]."""
    hole = np.zeros((side, side), bool)
    hole[side // 4 : side // 2, side // 4 : side // 2] = True
    return np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8), hole


def serve_tensorflow(case):
    """Answer as a `Completer` that passes all of the photo; case: dict of `size`, `width`, `dtype` and `threads`."""
    with scripts.quiet_start():
        import tensorflow as tf

    from glcic_tf import networks, windows
    from glcic_tf.completer import Completer

    tf.config.threading.set_intra_op_parallelism_threads(case["threads"])
    completer = Completer(networks.completion_network(case["width"]), dtype=case["dtype"])
    photo, hole = photo_and_hole(case["size"])
    whole = (0, 0, *(-(-side // STRIDE) * STRIDE for side in hole.shape))
    windows.plan = lambda wanted: [((0, 0, *hole.shape), whole)]
    _serve(lambda: completer.complete(photo, hole))


def serve_pytorch(case):
    """Answer as PyTorch; case: as above, `channels_last` instead of `dtype`."""
    import torch

    from benchmarks import torch_networks

    torch.set_num_threads(case["threads"])
    network = torch_networks.completion_network(case["width"]).eval()
    if case["channels_last"]:
        network = network.to(memory_format=torch.channels_last)
    photo, hole = photo_and_hole(case["size"])
    _serve(lambda: torch_networks.complete(network, photo, hole))


def _serve(complete):
    start_mb = workers.memory_mb()[0]

    def run(n):
        begin = time.perf_counter()
        for _ in range(n):
            complete()
        return {"seconds": (time.perf_counter() - begin) / n}

    workers.serve({"run": run, "memory": lambda: {"peak_mb": workers.memory_mb()[1], "start_mb": start_mb}})


def run():
    threads = workers.pin(_THREADS.value, "threads")
    cases = {f"tensorflow {dtype}": {"dtype": dtype} for dtype in ("float32", "bfloat16")}
    if importlib.util.find_spec("torch"):
        cases |= {_REFERENCE: {"channels_last": False}, "pytorch float32, channels_last": {"channels_last": True}}
    else:
        scripts.say("PyTorch is not installed, so there is nothing to compare with: pip install torch")
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
        ratio = workers.show(workers.ratios(seconds[_REFERENCE], found)) if _REFERENCE in seconds else "-"
        added = memory[name]["peak_mb"] - memory[name]["start_mb"]
        print(f"{name:<32}{workers.show(workers.spread(found)):>20}{ratio:>20}{added:>10.0f}")


def main():
    if not _CASE.value:
        return run()
    case = json.loads(_CASE.value)
    return serve_tensorflow(case) if "dtype" in case else serve_pytorch(case)


if __name__ == "__main__":
    scripts.run(main)
