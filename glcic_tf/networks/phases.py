"""Deconvolutions that draw no grid: kernels whose phases have equal sums.

A 4 x 4 deconvolution of stride 2 computes output pixels in odd and even rows and columns from four interleaved parts of
its kernel, its phases, of 2 x 2 taps each. If their sums differ, even an input of one colour comes out with a pattern
of period 2, which a second deconvolution turns into one of periods 2 and 4. Aitken et al. 2017 ("Checkerboard artifact
free sub-pixel convolution") start with equal phases for the same reason.
"""

import numpy as np


def equal_phases(kernel, xp=np):
    """Return the nearest kernel whose four phases have equal sums, for every pair of channels.

    Args:
        kernel: [4, 4, channels, channels] float.
        xp: the module that computes: `numpy`, or `tensorflow.experimental.numpy` for tensors.

    Returns:
        The orthogonal projection of the kernel, with its shape and dtype.
    """
    size = tuple(kernel.shape)
    phases = xp.reshape(kernel, (2, 2, 2, 2, *size[2:]))  # [row of the tap, of the phase, column of the tap, ...]
    sums = xp.sum(phases, axis=(0, 2), keepdims=True)
    missing = xp.mean(sums, axis=(1, 3), keepdims=True) - sums
    return xp.reshape(phases + missing / xp.asarray(4, kernel.dtype), size)
