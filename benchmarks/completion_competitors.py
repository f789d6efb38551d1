"""The competitors of `benchmarks.completion`, each in a process of its own: a `Completer`, and PyTorch."""

import os
import time

import numpy as np

from benchmarks import workers
from glcic_tf.common import cli
from glcic_tf.networks import STRIDE


def photo_and_hole(side):
    """Return uint8 [side, side, 3] and bool [side, side]."""
    hole = np.zeros((side, side), bool)
    hole[side // 4 : side // 2, side // 4 : side // 2] = True
    return np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8), hole


def serve_tensorflow(case):
    """Answer as a `Completer` that passes all of the photo; case: dict of `size`, `width`, `dtype` and `threads`."""
    with cli.quiet_start():
        import tensorflow as tf

    from glcic_tf.completion import windows
    from glcic_tf.completion.completer import Completer
    from glcic_tf.networks.completion import completion_network

    tf.config.threading.set_intra_op_parallelism_threads(case["threads"])
    completer = Completer(completion_network(case["width"]), dtype=case["dtype"])
    photo, hole = photo_and_hole(case["size"])
    whole = (0, 0, *(-(-side // STRIDE) * STRIDE for side in hole.shape))
    windows.plan = lambda wanted: [((0, 0, *hole.shape), whole)]
    _serve(lambda: completer(photo, hole, postprocess="none"))


def serve_pytorch(case):
    """Answer as PyTorch; case: as above, and `best`: folded, channels_last and compiled instead of as one writes it."""
    os.environ["TORCHINDUCTOR_FREEZING"] = "1"  # weights are constants to the compiler, laid out for its kernels
    import torch

    from benchmarks import torch_networks

    torch.set_num_threads(case["threads"])
    network = torch_networks.completion_network(case["width"]).eval()
    dtype = getattr(torch, case["dtype"])
    if case["best"]:
        network = torch_networks.fold(network).to(dtype, memory_format=torch.channels_last)
        network.compile()
    photo, hole = photo_and_hole(case["size"])
    _serve(lambda: torch_networks.complete(network, photo, hole, dtype))


def _serve(complete):
    start_mb = workers.memory_mb()[0]

    def run(n):
        begin = time.perf_counter()
        for _ in range(n):
            complete()
        return {"seconds": (time.perf_counter() - begin) / n}

    workers.serve({"run": run, "memory": lambda: {"peak_mb": workers.memory_mb()[1], "start_mb": start_mb}})
