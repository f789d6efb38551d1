"""Faster Keras models for inference: batch normalisation is folded into the convolutions before it.

`plain`, which does the same for networks without Keras, decides what is folded, and computes the weights.
"""

import re

from glcic_tf.networks import plain
from glcic_tf.networks.training_layers import as_keras_own


def fold_batch_norm(model):
    """Return a float32 copy of a model for inference, with batch normalisation folded into convolutions where possible.

    Layers that cannot be folded (see `plain.foldable`), and all others, keep their names.

    Args:
        model: functional Keras model, of any dtype policy; it stays as it is.

    Returns:
        New functional Keras model with the inputs and outputs of `model`, equal to it in inference mode up to the
        rounding of float32. It is not meant to be trained: the statistics are gone.
    """
    config, network = model.get_config(), as_plain(model)
    convolution_of = plain.foldable(network)
    norm_of = {convolution: norm for norm, convolution in convolution_of.items()}

    config = _for_inference(config, convolution_of)
    config["layers"] = [layer for layer in config["layers"] if layer["name"] not in convolution_of]
    for layer in config["layers"]:
        if layer["name"] in norm_of:
            layer["config"]["use_bias"] = True
    folded = model.__class__.from_config(config)

    for layer in folded.layers:
        original = network.layers[layer.name]
        if layer.name in norm_of:
            layer.set_weights(plain.folded_weights(original, network.layers[norm_of[layer.name]]))
        else:
            layer.set_weights(original.weights)
    return folded


def as_plain(model):
    """Return a functional Keras model as plain.Network, whose weights are copies."""
    config = model.get_config()
    config["layers"] = [as_keras_own(layer) for layer in config["layers"]]
    return plain.Network.from_config(config, {layer.name: layer.get_weights() for layer in model.layers})


def compute_in_bfloat16(model):
    """Return a copy of a completion network with hidden layers in bfloat16: half the time on CPUs that have it.

    Args:
        model: float32 functional Keras model with the layer names of `completion.completion_network`, folded or not.

    Returns:
        New model with the same weights; input and output, and the last convolution, stay float32.
    """
    config = model.get_config()
    for layer in config["layers"]:
        if re.fullmatch(plain.HIDDEN, layer["name"]):
            layer["config"]["dtype"] = "mixed_bfloat16"
    copy = model.__class__.from_config(config)
    copy.set_weights(model.get_weights())
    return copy


def _for_inference(value, renamed):
    """Copy a part of a config: layers compute in float32, unsynchronised, and read the layers that `renamed` names."""
    if plain.is_reference(value):
        return [renamed.get(value[0], value[0]), *value[1:]]
    if isinstance(value, (list, tuple)):
        return type(value)(_for_inference(item, renamed) for item in value)
    if not isinstance(value, dict):
        return value
    copy = {key: _for_inference(item, renamed) for key, item in as_keras_own(value).items()}
    if isinstance(copy.get("dtype"), dict):  # a policy; the dtype of an input is a string and stays
        copy["dtype"] = "float32"
    if "synchronized" in copy:
        copy["synchronized"] = False
    return copy
