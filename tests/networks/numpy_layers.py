"""Torch's layers in NumPy, and networks with random weights."""

import keras
import numpy as np


def torch_conv(x, kernel, bias, stride=1, dilation=1):
    """Cross-correlation of x [b, h, w, i] with kernel [kh, kw, i, o], zero padding of dilation * (kernel // 2)."""
    size = kernel.shape[0]
    pad = dilation * (size // 2)
    height, width = (n + 2 * pad - dilation * (size - 1) for n in x.shape[1:3])
    x = np.pad(x, [(0, 0), (pad, pad), (pad, pad), (0, 0)])
    y = 0
    for i in range(size):
        for j in range(size):
            rows, cols = i * dilation, j * dilation
            y = y + x[:, rows : rows + height : stride, cols : cols + width : stride] @ kernel[i, j]
    return y + bias


def torch_norm_relu(x, gamma, beta, mean, variance):
    return np.maximum((x - mean) / np.sqrt(variance + 1e-5) * gamma + beta, 0)


def weights_of(model, name):
    return [w.astype(np.float64) for w in model.get_layer(name).get_weights()]


def randomise(model, seed):
    """Random weights and BN statistics that keep the signal's scale; every tenth variance is as small as 1e-3."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            channels = layer.moving_mean.shape[0]
            variance = rng.uniform(0.5, 2, channels)
            variance[::10] = 1e-3
            mean = rng.normal(0, 0.3, channels)
            # Channels of small variance get a gamma in proportion, so that they do not drown all others.
            gamma = rng.uniform(0.7, 1.5, channels) * np.minimum(1, np.sqrt(variance))
            layer.set_weights([gamma, rng.normal(0, 0.3, channels), mean, variance])
        elif layer.name != "mean_pixel" and layer.get_weights():
            kernel, bias = layer.get_weights()
            fan_in = np.prod(kernel.shape) / bias.shape[0]
            if isinstance(layer, keras.layers.Conv2DTranspose):
                fan_in /= 4  # at stride 2, 4 of the 16 taps meet in one output pixel
            layer.set_weights([rng.normal(0, np.sqrt(2 / fan_in), kernel.shape), rng.normal(0, 0.1, bias.shape)])


def photo_and_mask(height, width, batch=1, seed=0):
    """Noise in [0, 1] that a hole of a third of the sides is cut into, another one for each example."""
    rng = np.random.default_rng(seed)
    image = rng.random((batch, height, width, 3), np.float32)
    mask = np.zeros((batch, height, width, 1), np.float32)
    for example in mask:
        top, left = rng.integers(0, height - height // 3 + 1), rng.integers(0, width - width // 3 + 1)
        example[top : top + height // 3, left : left + width // 3] = 1
    return image, mask


def parameters(model):
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)
