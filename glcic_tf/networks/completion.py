"""The completion network C as a Keras functional model.

Shapes are written [batch, height, width, channels]. Layer names are stable, since weights are addressed by them.

Published weights were trained with small variations of the network. The builder takes them as arguments, with the
authors' form as the default, and `completion_arguments` reads them off a network.
"""

import keras
import numpy as np
from keras import layers

from glcic_tf.networks.blocks import (
    BATCH_NORM_EPSILON,
    defaults,
    downsample,
    masked_photo,
    norm_and_relu,
    scaled,
    variation,
)
from glcic_tf.networks.training_layers import DilatedConv2D, PaddedConv2D


def completion_network(
    width=1.0,
    mean_pixel=(0.5, 0.5, 0.5),
    synchronized=False,
    dtype=None,
    relu_first=False,
    epsilon=BATCH_NORM_EPSILON,
    input_scale=1.0,
    input_offset=(0.0, 0.0, 0.0),
    output="sigmoid",
):
    """Build the completion network C (paper, section 3.2, table 1).

    Args:
        width: factor on the number of channels of every layer but the last; 1.0 is the paper's network, with
            6,072,131 trainable parameters.
        mean_pixel: RGB that the hole is filled with at the input, after `input_scale` and `input_offset`: the mean of
            the training photos, in [0, 1]. It is a weight of the layer `mean_pixel`, so it travels inside the model
            file.
        synchronized: for training: batch statistics over all replicas, computed faster on one, see `training_layers`.
        dtype: Keras dtype policy of the hidden layers, the global policy if None. Input and output are always float32.
        relu_first: ReLU comes before batch normalisation, as in GLCIC-PyTorch.
        epsilon: what batch normalisation adds to the variance.
        input_scale, input_offset: known pixels are first multiplied by the one, then the other (RGB) is added: the
            authors' release subtracts the mean and fills with 0, MMagic works on [-1, 1].
        output: "sigmoid", or "clip" to [0, 1].

    Returns:
        Model with inputs `image` [batch, height, width, 3] float32 RGB in [0, 1] (pixels in the hole are ignored)
        and `mask` [batch, height, width, 1] float32 (1 = hole), and output [batch, height, width, 3] float32 in [0, 1].
        Height and width are any multiples of 4. Only the values inside the hole are meant to be used.
    """
    policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
    full = keras.config.floatx()  # input, mean and output are float32 under every policy

    with defaults(full):
        image, mask, filled, mean = masked_photo(scale=input_scale, offset=input_offset)
        x = layers.Concatenate(name="masked_input")([filled, mask])

    with defaults(policy):

        def conv(x, index, filters, kernel_size=3, strides=1, dilation_rate=1):
            filters, name = scaled(filters, width), f"conv{index}"
            if strides == 2:
                x = downsample(x, filters, kernel_size, name, PaddedConv2D if synchronized else layers.Conv2D)
            else:
                kind = DilatedConv2D if synchronized and dilation_rate > 1 else layers.Conv2D
                x = kind(filters, kernel_size, padding="same", dilation_rate=dilation_rate, name=name)(x)
            return norm_and_relu(x, "", index, relu_first, epsilon, synchronized)

        def deconv(x, index, filters):
            name = f"deconv{index}"
            x = layers.Conv2DTranspose(scaled(filters, width), 4, strides=2, padding="same", name=name)(x)
            return norm_and_relu(x, "", index, relu_first, epsilon, synchronized)

        x = conv(x, 1, 64, kernel_size=5)
        x = conv(x, 2, 128, strides=2)
        x = conv(x, 3, 128)
        x = conv(x, 4, 256, strides=2)
        x = conv(x, 5, 256)
        x = conv(x, 6, 256)
        x = conv(x, 7, 256, dilation_rate=2)
        x = conv(x, 8, 256, dilation_rate=4)
        x = conv(x, 9, 256, dilation_rate=8)
        x = conv(x, 10, 256, dilation_rate=16)
        x = conv(x, 11, 256)
        x = conv(x, 12, 256)
        x = deconv(x, 13, 128)
        x = conv(x, 14, 128)
        x = deconv(x, 15, 64)
        x = conv(x, 16, 32)
    with defaults(full):
        x = layers.Conv2D(3, 3, padding="same", name="conv17")(x)
        if output == "clip":
            completed = layers.ReLU(max_value=1.0, name="completed")(x)
        else:
            completed = layers.Activation(output, name="completed")(x)

    model = keras.Model({"image": image, "mask": mask}, completed, name="completion_network")
    mean.set_weights([np.reshape(np.asarray(mean_pixel, np.float32), (1, 1, 1, 3))])
    return model


def completion_arguments(model):
    """Return the arguments that `completion_network` built a network with: all but mean, replicas and dtype.

    Args:
        model: Keras model with the layer names of `completion_network`.

    Returns:
        dict of JSON values: `width`, `relu_first`, `epsilon`, `input_scale`, `input_offset` and `output`.

    Raises:
        ValueError: a layer is missing or of another kind.
    """
    completed = model.get_layer("completed")
    return {
        "width": model.get_layer("conv4").filters / 256,
        **variation(model, "", "rescaled_image"),
        "output": "clip" if isinstance(completed, layers.ReLU) else completed.activation.__name__,
    }
