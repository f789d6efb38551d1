"""Context Encoder (Pathak et al., CVPR 2016), the rival that the paper starts from, as Keras functional models.

The paper's text and its authors' release differ. Here the encoder and decoder are those of the release for inpainting
128 x 128 px (4 x 4 convolutions of stride 2 without biases, which the release sets to 0 before each step). Between them
is what the text describes: the channel-wise fully connected layer and a stride-1 convolution, at 4 x 4 px. The release
has a bottleneck of 4000 numbers there, and with it 71 million weights instead of 6.

The network completes the central 64 x 64 px, of which it knows nothing. The release shows it 4 px of them, and weighs
their error tenfold; here it sees what every other network sees.
"""

import keras
import numpy as np
from keras import layers

from glcic_tf.networks.blocks import (
    BATCH_NORM_EPSILON,
    defaults,
    masked_photo,
    norm_and_relu,
    scaled,
)
from glcic_tf.networks.frames import CENTRE
from glcic_tf.networks.model_config import CHANNELWISE

_LEAKY_RELU = "leaky_relu"  # with a slope of 0.2 in Keras, as in the release


def context_encoder(width=1.0, mean_pixel=(0.5, 0.5, 0.5), synchronized=False, dtype=None):
    """Build the Context Encoder, which stands in for C, with C's inputs and output.

    Args:
        width: factor on the number of channels of every layer but the last; with 1.0 it has 5,969,920 weights in
            convolutions and the channel-wise layer.
        mean_pixel, synchronized, dtype: as in `completion.completion_network`.

    Returns:
        Model with inputs `image` [batch, 128, 128, 3] float32 RGB in [0, 1] and `mask` [batch, 128, 128, 1] float32
        (1 = hole, which has to cover the central 64 x 64 px), and output [batch, 128, 128, 3] float32 in [0, 1], which
        is 0 outside the middle.
    """
    policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
    full = keras.config.floatx()
    with defaults(full):
        image, mask, filled, mean = masked_photo(side=CENTRE.image_px)
        x = layers.Rescaling(2.0, offset=-1.0, name="rescaled_photo")(filled)

    with defaults(policy):

        def normalised(x, index, activation):
            return norm_and_relu(x, "", index, False, BATCH_NORM_EPSILON, synchronized, activation)

        def conv(x, index, filters, kernel_size=4, strides=2):
            x = _convolution(scaled(filters, width), kernel_size, strides, f"conv{index}")(x)
            return layers.Activation(_LEAKY_RELU, name="relu1")(x) if index == 1 else normalised(x, index, _LEAKY_RELU)

        def deconv(x, index, filters):
            return normalised(_deconvolution(scaled(filters, width), f"deconv{index}")(x), index, "relu")

        x = conv(x, 1, 64)
        x = conv(x, 2, 64)
        x = conv(x, 3, 128)
        x = conv(x, 4, 256)
        x = conv(x, 5, 512)
        # Each channel has a dense layer of its own, which connects all places of its map to all places.
        x = layers.EinsumDense(CHANNELWISE, output_shape=x.shape[1:], name="channelwise")(x)
        x = conv(x, 6, 512, kernel_size=1, strides=1)
        x = deconv(x, 7, 256)
        x = deconv(x, 8, 128)
        x = deconv(x, 9, 64)
    with defaults(full):
        x = _deconvolution(3, "deconv_out")(x)
        x = layers.Activation("tanh", name="predicted")(x)
        x = layers.Rescaling(0.5, offset=0.5, name="rescaled_prediction")(x)
        completed = layers.ZeroPadding2D((CENTRE.image_px - CENTRE.hole_px) // 2, name="completed")(x)
    model = keras.Model({"image": image, "mask": mask}, completed, name="context_encoder")
    mean.set_weights([np.reshape(np.asarray(mean_pixel, np.float32), (1, 1, 1, 3))])
    return model


def context_encoder_arguments(model):
    """Return the arguments that `context_encoder` built a network with: all but mean, replicas and dtype.

    Raises:
        ValueError: a layer is missing.
    """
    model.get_layer("channelwise")
    return {"width": model.get_layer("conv4").filters / 256}


def centre_discriminator(width=1.0, synchronized=False, dtype=None):
    """Build the Context Encoder's discriminator (DCGAN's), which only sees the central 64 x 64 px.

    Args:
        width: factor on the number of channels; with 1.0 it has 2,763,776 weights outside of batch normalisation.
        synchronized, dtype: as in `completion.completion_network`.

    Returns:
        Model with the input `patch` [batch, 64, 64, 3] float32 RGB in [0, 1], and output [batch, 1] float32: the logit
        of the probability that it is real.
    """
    policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
    patch = keras.Input((CENTRE.hole_px, CENTRE.hole_px, 3), name="patch", dtype=keras.config.floatx())
    with defaults(policy):
        x = layers.Rescaling(2.0, offset=-1.0, name="rescaled_patch")(patch)
        for index, filters in enumerate((64, 128, 256, 512), 1):
            x = _convolution(scaled(filters, width), 4, 2, f"patch_conv{index}")(x)
            if index == 1:
                x = layers.Activation(_LEAKY_RELU, name="patch_relu1")(x)
            else:
                x = norm_and_relu(x, "patch_", index, False, BATCH_NORM_EPSILON, synchronized, _LEAKY_RELU)
        x = layers.Flatten(name="patch_flatten")(x)  # a 4 x 4 convolution of the whole map, as a dense layer
    logit = layers.Dense(1, use_bias=False, name="logit", dtype=keras.config.floatx())(x)
    return keras.Model({"patch": patch}, logit, name="centre_discriminator")


def _convolution(filters, kernel_size, strides, name):
    return layers.Conv2D(filters, kernel_size, strides=strides, padding="same", use_bias=False, name=name)


def _deconvolution(filters, name):
    return layers.Conv2DTranspose(filters, 4, strides=2, padding="same", use_bias=False, name=name)
