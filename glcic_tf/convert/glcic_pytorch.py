"""GLCIC-PyTorch (otenim): ReLU before batch normalisation, and the hole filled with the mean pixel of config.json."""

import numpy as np

from glcic_tf.convert.tensors import (
    STATISTICS,
    LayoutError,
    assign,
    build_discriminator,
    completion_weights,
    tower,
    width_of,
)
from glcic_tf.networks.completion import completion_network

_MAX_MEAN = 255  # NaN is refused as well, since comparing with it gives False


def completion(tensors, settings):
    """Build C from the tensors of model_cn and the settings of config.json, a dict or None.

    Raises:
        LayoutError: they belong to another network, or the mean pixel is missing.
    """
    mean = (settings or {}).get("mpv")
    if (
        not isinstance(mean, list | tuple)
        or len(mean) != 3
        or not all(isinstance(x, int | float) and abs(x) <= _MAX_MEAN for x in mean)
    ):
        raise LayoutError(
            "it does not hold the mean pixel, which is mpv in the config.json beside it: name that file with --config"
        )
    width = width_of(tensors.shape("conv4.weight", 4)[0], 256)
    model = completion_network(width, relu_first=True, dtype="float32")

    def take_kernel(index, name, shape):
        filters = model.get_layer(name).filters
        return tensors.take(f"{name}.weight", shape), tensors.take(f"{name}.bias", (filters,))

    def take_norm(index, channels):
        return [tensors.take(f"bn{index}.{name}", (channels,)) for name in STATISTICS]

    weights = completion_weights(model, take_kernel, take_norm)
    tensors.end()
    assign(model, weights | {"mean_pixel": [np.reshape(np.float32(mean), (1, 1, 1, 3))]})
    return model


def discriminator(tensors):
    """Build D from the tensors of model_cd.

    Raises:
        LayoutError: they belong to another network.
    """
    towers = []
    for prefix in ("model_gd.", "model_ld."):
        dense = "linear7" if f"{prefix}linear7.weight" in tensors else "linear6"
        towers.append(tower(tensors, prefix, "conv{}", "bn{}", dense, bias=True))
    kernel = tensors.take("linear1.weight", (1, 2048)).T
    kernel = np.concatenate([kernel[1024:], kernel[:1024]])  # local, global -> global, local
    bias = tensors.take("linear1.bias", (1,))
    tensors.end()
    return build_discriminator(towers, [kernel, bias], relu_first=True)
