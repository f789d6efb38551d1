"""Time of the completion network C against a plain PyTorch forward pass of the same network.

    python -m benchmarks.completion [--size=512] [--repetitions=10]

Paper width, batch 1, inference. Ours runs as one `tf.function` under the float32 and the mixed_bfloat16 policy;
PyTorch runs eagerly in float32 without gradients. The repetitions are interleaved, so that whatever else the machine
does falls on all alike. Weights differ, the work does not.
"""

import statistics
import time

import numpy as np
from absl import app, flags

from glcic_tf.networks import STRIDE, completion_network

_SIZE = flags.DEFINE_integer("size", 512, "side of the square image, px; a multiple of 4", lower_bound=STRIDE)
_REPETITIONS = flags.DEFINE_integer("repetitions", 10, "timed passes of each network", lower_bound=1)
_WIDTH = flags.DEFINE_float("width", 1.0, "factor on the number of channels; 1 is the paper's", lower_bound=0.0)


def tensorflow_forward(image, mask, width, dtype):
    """A function without arguments that completes `image` once, and returns when the result is there."""
    import tensorflow as tf

    network = completion_network(width, dtype=dtype)
    inputs = {"image": tf.constant(image), "mask": tf.constant(mask)}

    @tf.function(autograph=False)
    def forward(inputs):
        return network(inputs, training=False)

    return lambda: forward(inputs).numpy()


def pytorch_forward(image, mask, width):
    """The same with PyTorch, eager, no gradients."""
    import torch

    from benchmarks import torch_networks

    network = torch_networks.completion_network(width).eval()
    filled = image * (1 - mask) + 0.5 * mask
    inputs = torch.from_numpy(np.concatenate([filled, mask], -1).transpose(0, 3, 1, 2).copy())

    def forward():
        with torch.no_grad():
            return network(inputs).numpy()

    return forward


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}")
    size, width = _SIZE.value, _WIDTH.value
    if size % STRIDE:
        raise app.UsageError(f"--size is {size}, but has to be a multiple of {STRIDE}")

    rng = np.random.default_rng(0)
    image = rng.random((1, size, size, 3), np.float32)
    mask = np.zeros((1, size, size, 1), np.float32)
    mask[:, size // 4 : size // 2, size // 4 : size // 2] = 1

    forwards = {
        "tensorflow float32": tensorflow_forward(image, mask, width, "float32"),
        "tensorflow bfloat16": tensorflow_forward(image, mask, width, "mixed_bfloat16"),
    }
    try:
        forwards["pytorch float32"] = pytorch_forward(image, mask, width)
    except ImportError:
        print("PyTorch is not installed, so there is nothing to compare with: pip install torch")

    seconds = {name: [] for name in forwards}
    for forward in forwards.values():  # tracing and the first allocation are not what is asked for
        forward()
        forward()
    for _ in range(_REPETITIONS.value):
        for name, forward in forwards.items():
            start = time.perf_counter()
            forward()
            seconds[name].append(time.perf_counter() - start)

    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"C at width {width:g}, {size} x {size}, batch 1, median of {_REPETITIONS.value}")
    print(f"{'network':<20} {'seconds':>8} {'fastest':>8} {'PyTorch / this':>15}")
    for name, median in medians.items():
        ratio = f"{medians['pytorch float32'] / median:.2f}" if "pytorch float32" in medians else "-"
        print(f"{name:<20} {median:8.3f} {min(seconds[name]):8.3f} {ratio:>15}")


if __name__ == "__main__":
    app.run(main)
