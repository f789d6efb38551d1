"""Random numbers that are a function of (seed, purpose, number) alone, on every machine: NumPy's Philox.

Philox turns a key and a counter into bits; (seed, purpose) is the key, and the number the counter's upper half. So no
two streams ever share a bit, by construction and not by luck. NumPy guarantees Philox's bits for all versions and
platforms, but not what `Generator` makes of them; so nothing but `Generator.random` is used, which is no more than 53
of the bits, divided.
"""

import numpy as np

# What numbers are drawn for. A purpose keeps its number for ever: other numbers are another run.
PHOTO_ORDER, CROP, HOLE, REAL_HOLE, VALIDATION_HOLE, INITIAL_WEIGHTS = range(6)


def stream(seed, purpose, number):
    """Make the numpy.random.Generator of one stream.

    Args:
        seed: the run's seed, from 0 to below 2**64.
        purpose: one of this module's constants.
        number: which example, epoch or photo it is for, from 0 to below 2**64.
    """
    key, counter = np.array([seed, purpose], np.uint64), np.array([0, 0, number, 0], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def to_integers(uniform, low, high):
    """Turn numbers in [0, 1) into integers from `low` to `high`, both ends included; arrays are broadcast; int32."""
    span = np.asarray(high, np.int64) - low + 1
    return (low + np.floor(uniform * span)).astype(np.int32)


def permutation(rng, count):
    """Draw an order of `count` things: uint32 [count], each number from 0 to below `count` once."""
    # By sorting and not by Generator.permutation, whose algorithm may change. 8 million take about a second.
    return rng.random(count).argsort(kind="stable").astype(np.uint32)
