"""First weights of the networks, drawn with NumPy: a seed gives the same ones on every device and in every runtime.

Keras' own initialisers need TensorFlow, and draw other numbers with XLA than without it.
"""

import hashlib
import math

import numpy as np

from glcic_tf.common import random_streams
from glcic_tf.networks import phases

_CONSTANTS = {"bias": 0.0, "beta": 0.0, "moving_mean": 0.0, "gamma": 1.0, "moving_variance": 1.0}


def draw(path, shape, seed):
    """Draw the first value of a variable: kernels from Glorot's uniform distribution, all else as Keras begins.

    Kernels of deconvolutions are moved to the nearest ones with equal phases, so that a new network draws no grid.

    Args:
        path: the variable's path in its network, `<layer>/<kind>`; with one seed, each path draws different numbers.
        shape: tuple; a kernel is [..., in, out] (or [..., out, in] in a deconvolution); that of the channel-wise layer
            [height, width, height, width, channels], of the map before and of the one after.
        seed: the network's seed.

    Returns:
        float32 array.

    Raises:
        ValueError: the networks have no such kind of variable.
    """
    kind = path.rsplit("/", 1)[-1]
    if kind in _CONSTANTS:
        return np.full(shape, _CONSTANTS[kind], np.float32)
    if kind != "kernel":
        raise ValueError(f"No first value is known for {path}.")
    number = int.from_bytes(hashlib.sha256(path.encode()).digest()[:8], "big")
    rng = random_streams.stream(seed, random_streams.INITIAL_WEIGHTS, number)
    receptive_field = math.prod(shape[:-2])
    fans = receptive_field * (shape[-2] + shape[-1])
    if path.startswith("channelwise"):  # each channel has a dense layer of its own, between all places of its map
        fans = math.prod(shape[:2]) + math.prod(shape[2:4])
    limit = math.sqrt(6 / fans)
    kernel = (2 * rng.random(shape) - 1) * limit
    if path.startswith("deconv"):
        kernel = phases.equal_phases(kernel)
    return kernel.astype(np.float32)
