"""The blocks that both networks are made of, and how their arguments are read off a network.

Padding is Torch's, as in the authors' release: symmetric zeros. Keras' `same` is identical for stride 1 (dilated too)
and for the 4 x 4 deconvolution, but pads the other side for stride 2, so those layers pad explicitly.
"""

import contextlib

import keras
import numpy as np
from keras import layers

from glcic_tf.networks.training_layers import SyncBatchNormalization

BATCH_NORM_EPSILON = 1e-5  # Torch's; Keras' own default is 1e-3
BATCH_NORM_MOMENTUM = 0.9  # Torch calls it 0.1; with Keras' 0.99 inference mode is useless for thousands of steps


def scaled(filters, width):
    """Channels of a layer that has `filters` in the paper."""
    return max(1, round(filters * width))


def norm_and_relu(x, prefix, index, relu_first, epsilon, synchronized, activation="relu"):
    """Batch normalisation and ReLU (or a leaky one) after a convolution, in this order or the other."""
    kind = SyncBatchNormalization if synchronized else layers.BatchNormalization
    norm = kind(momentum=BATCH_NORM_MOMENTUM, epsilon=epsilon, synchronized=synchronized, name=f"{prefix}bn{index}")
    relu = layers.Activation(activation, name=f"{prefix}relu{index}")
    return norm(relu(x)) if relu_first else relu(norm(x))


def masked_photo(side=None, scale=1.0, offset=(0.0, 0.0, 0.0)):
    """Build the first layers of a completion network, which fill the photo's hole with the mean.

    Args:
        side: height and width, px; None: any.
        scale, offset: applied to the known pixels, see `rescaled`.

    Returns:
        The inputs image and mask, the filled photo, and the layer whose one weight [1, 1, 1, 3] is the mean.
    """
    full = keras.config.floatx()
    image = keras.Input((side, side, 3), name="image", dtype=full)
    mask = keras.Input((side, side, 1), name="mask", dtype=full)
    known = layers.Rescaling(-1.0, offset=1.0, name="known")(mask)
    seen = rescaled(image, scale, offset, "rescaled_image")
    known_pixels = layers.Multiply(name="known_pixels")([seen, known])
    mean = layers.Conv2D(3, 1, use_bias=False, trainable=False, name="mean_pixel")
    filled = layers.Add(name="filled")([known_pixels, mean(mask)])
    return image, mask, filled, mean


def rescaled(image, scale, offset, name):
    """Multiply an image in [0, 1] by `scale` and add `offset`; adds no layer if that changes nothing."""
    offset = np.broadcast_to(offset, 3).tolist()
    if scale == 1 and not any(offset):
        return image
    return layers.Rescaling(scale, offset=offset, name=name)(image)


def downsample(x, filters, kernel_size, name, kind=layers.Conv2D):
    """Halve the size by a convolution with Torch's symmetric padding: [.., H, W, ..] -> [.., H / 2, W / 2, filters]."""
    x = layers.ZeroPadding2D(kernel_size // 2, name=f"pad_{name}")(x)
    return kind(filters, kernel_size, strides=2, padding="valid", name=name)(x)


def variation(model, prefix, rescaling):
    """Return how a network differs from the authors' form, as a dict of JSON values."""
    norm, relu = model.get_layer(f"{prefix}bn1"), model.get_layer(f"{prefix}relu1")
    names = [layer.name for layer in model.layers]
    layer = model.get_layer(rescaling) if rescaling in names else None
    return {
        "relu_first": norm.input is relu.output,
        "epsilon": float(norm.epsilon),
        "input_scale": float(layer.scale) if layer else 1.0,
        "input_offset": [float(x) for x in np.broadcast_to(layer.offset, 3)] if layer else [0.0, 0.0, 0.0],
    }


@contextlib.contextmanager
def defaults(policy):
    """Set the dtype policy of layers built inside, so that they need not repeat it, whatever the user's keras.json."""
    previous = keras.config.dtype_policy(), keras.config.image_data_format()
    keras.config.set_dtype_policy(policy)
    keras.config.set_image_data_format("channels_last")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(previous[0])
        keras.config.set_image_data_format(previous[1])
