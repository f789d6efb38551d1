"""MMagic's global_local (OpenMMLab): BGR in [-1, 1], holes of 0, convolutions without bias, output cut to [-1, 1]."""

import numpy as np

from glcic_tf.convert.tensors import (
    LAST,
    RGB_TO_BGR,
    STATISTICS,
    assign,
    build_discriminator,
    completion_weights,
    tower,
    width_of,
)
from glcic_tf.networks.completion import completion_network

_LAYERS = (
    *(f"encoder.enc{i}" for i in range(1, 7)),
    *(f"dilation_neck.dilation_convs.{i}" for i in range(4)),
    *(f"decoder.dec{i}" for i in range(1, 8)),
)


def completion(tensors):
    """Build C from the tensors below `generator.`.

    Raises:
        LayoutError: they are of another network.
    """
    width = width_of(tensors.shape(f"{_LAYERS[3]}.conv.weight", 4)[0], 256)
    model = completion_network(width, input_scale=2.0, input_offset=(-1.0, -1.0, -1.0), output="clip", dtype="float32")

    def take_kernel(index, name, shape):
        layer = _LAYERS[index - 1]
        kernel = tensors.take(f"{layer}.conv.weight", shape)
        if index == 1:
            kernel = kernel[:, [*RGB_TO_BGR, 3]]
        if index < LAST:
            return kernel, np.zeros(model.get_layer(name).filters, np.float32)
        bias = tensors.take(f"{layer}.conv.bias", (3,))
        return kernel[RGB_TO_BGR] / 2, (bias[RGB_TO_BGR] + 1) / 2  # [-1, 1] -> [0, 1]

    def take_norm(index, channels):
        return [tensors.take(f"{_LAYERS[index - 1]}.bn.{name}", (channels,)) for name in STATISTICS]

    weights = completion_weights(model, take_kernel, take_norm)
    tensors.end()
    assign(model, weights | {"mean_pixel": [np.zeros((1, 1, 1, 3), np.float32)]})
    return model


def discriminator(tensors):
    """Build D from the tensors below `disc.`.

    Raises:
        LayoutError: they are of another network.
    """
    towers = []
    for prefix in ("global_disc.", "local_disc."):
        weights, *shape = tower(tensors, prefix, "conv{}.conv", "conv{}.bn", "fc.linear", bias=False)
        weights["conv1"][0] = weights["conv1"][0][:, :, RGB_TO_BGR]
        towers.append((weights, *shape))
    logit = [tensors.take("fc.weight", (1, 2048)).T, tensors.take("fc.bias", (1,))]
    tensors.end()
    return build_discriminator(towers, logit, input_scale=2.0, input_offset=(-1.0, -1.0, -1.0))
