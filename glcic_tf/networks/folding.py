"""Batch normalisation folded into the convolutions before it: the same network in inference mode, with less work.

In inference mode batch normalisation is a fixed factor and offset for each channel, so it can go into the kernel and
the bias of a convolution that it follows directly. Behind an activation it would have to go into the convolution that
comes next, whose zero padding makes that inexact at the borders; there it stays.
"""

import re
from collections import Counter

import keras
import numpy as np
from keras import layers

from glcic_tf.networks.batch_norm import SyncBatchNormalization, as_keras_own

_HIDDEN = re.compile(r"(pad_)?(conv|deconv|bn|relu)(\d|1[0-6])")  # all up to conv16


def fold_batch_norm(model):
    """Return a float32 copy of a model for inference, with batch normalisation folded into convolutions where possible.

    A BatchNormalization is folded if its input is a Conv2D or Conv2DTranspose without an activation, nothing else reads
    that convolution's output, and both are called once. All other layers stay, under their own names.

    Args:
        model: functional Keras model, of any dtype policy; it stays as it is.

    Returns:
        New functional Keras model with the inputs and outputs of `model`, equal to it in inference mode up to the
        rounding of float32. It is not meant to be trained: the statistics are gone.
    """
    config = model.get_config()
    convolution_of = _foldable(model, config)
    norm_of = {convolution: norm for norm, convolution in convolution_of.items()}

    config = _for_inference(config, convolution_of)
    config["layers"] = [layer for layer in config["layers"] if layer["name"] not in convolution_of]
    for layer in config["layers"]:
        if layer["name"] in norm_of:
            layer["config"]["use_bias"] = True
    folded = model.__class__.from_config(config)

    for layer in folded.layers:
        original = model.get_layer(layer.name)
        if layer.name in norm_of:
            layer.set_weights(_folded_weights(original, model.get_layer(norm_of[layer.name])))
        else:
            layer.set_weights(original.get_weights())
    return folded


def compute_in_bfloat16(model):
    """Return a copy of a completion network whose hidden layers compute in bfloat16: half the time where CPUs have it.

    Args:
        model: float32 functional Keras model with the layer names of `completion.completion_network`, folded or not.

    Returns:
        New model with the same weights; input and output, and the last convolution, stay float32.
    """
    config = model.get_config()
    for layer in config["layers"]:
        if _HIDDEN.fullmatch(layer["name"]):
            layer["config"]["dtype"] = "mixed_bfloat16"
    copy = model.__class__.from_config(config)
    copy.set_weights(model.get_weights())
    return copy


def _foldable(model, config):
    """Return {name of a batch normalisation: name of the convolution before it} for those that can be folded."""
    nodes_of = {layer["name"]: layer["inbound_nodes"] for layer in config["layers"]}  # a node for each call
    times_read = Counter(_names_read([*nodes_of.values(), config["output_layers"]]))
    convolution_of = {}
    for name, nodes in nodes_of.items():
        norm, sources = model.get_layer(name), list(_names_read(nodes))
        if type(norm) not in (layers.BatchNormalization, SyncBatchNormalization) or len(sources) != 1:
            continue
        if len(nodes[0]["args"]) != 1 or nodes[0]["kwargs"].get("training"):  # statistics of the batch, always
            continue
        source = model.get_layer(sources[0])
        if (
            type(source) in (layers.Conv2D, layers.Conv2DTranspose)
            and source.activation is keras.activations.linear
            and len(nodes_of[source.name]) == 1
            and times_read[source.name] == 1
            and norm.axis % 4 == (3 if source.data_format == "channels_last" else 1)
        ):
            convolution_of[name] = source.name
    return convolution_of


def _folded_weights(convolution, norm):
    """Return [kernel, bias], float64, that do what a convolution and its batch normalisation do together."""
    mean, variance = np.float64(norm.moving_mean), np.float64(norm.moving_variance)
    scale = (np.float64(norm.gamma) if norm.scale else 1) / np.sqrt(variance + norm.epsilon)
    shift = (np.float64(norm.beta) if norm.center else 0) - mean * scale
    kernel = np.float64(convolution.kernel)
    bias = np.float64(convolution.bias) if convolution.use_bias else 0
    # [height, width, in, out], but [height, width, out, in] in a deconvolution
    transposed = isinstance(convolution, layers.Conv2DTranspose)
    return [kernel * (scale[:, None] if transposed else scale), bias * scale + shift]


def _for_inference(value, renamed):
    """Copy a part of a config: layers in float32, not synchronised, reading {name: other name} instead."""
    if _is_reference(value):
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


def _names_read(value):
    """Yield the name of the layer for every tensor that a part of a config refers to."""
    if _is_reference(value):
        yield value[0]
    elif isinstance(value, (list, tuple, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _names_read(item)


def _is_reference(value):
    """Whether a part of a config is a tensor's [name of its layer, number of the call, number of the output]."""
    return isinstance(value, (list, tuple)) and len(value) == 3 and [type(v) for v in value] == [str, int, int]
