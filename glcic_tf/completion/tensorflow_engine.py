"""A completion network in TensorFlow, as the operations that its layers consist of.

Keras' layers would do the same, and take a second to build from a file.
"""

import math
import re

import keras
import tensorflow as tf
from keras import ops

from glcic_tf.common.errors import first_line
from glcic_tf.networks import model_zip, plain
from glcic_tf.networks.model_config import RefusedModel


class TensorFlowEngine:
    """See `engines.Engine`.

    Args:
        network: plain.Network, channels_last, of the layers that model files may hold.
        dtype: "float32", or "bfloat16": the hidden layers compute in it, as under Keras' mixed_bfloat16.

    Raises:
        ValueError: the network cannot be built.
    """

    def __init__(self, network, dtype="float32"):
        self._made_from, self.frame = (network, dtype), network.frame
        network, weights = plain.fold(network), {}

        def apply(layer, _, *inputs):
            if layer.kind not in _LAYERS:
                raise ValueError(f"layer {layer.name} is a {layer.kind}")
            own = tf.bfloat16 if dtype == "bfloat16" and re.fullmatch(plain.HIDDEN, layer.name) else tf.float32
            inputs = [tf.cast(x, own) for x in inputs]
            return _LAYERS[layer.kind](layer, weights[layer.name], *inputs)

        # One graph for every size: without the signature each new size of window would be traced anew.
        @tf.function(
            autograph=False,
            input_signature=[
                tf.TensorSpec([None, None, None, 3], tf.float32),
                tf.TensorSpec([None, None, None, 1], tf.float32),
            ],
        )
        def function(image, mask):
            return network.evaluate({"image": image, "mask": mask}, apply)

        for name, layer in network.layers.items():
            arrays = layer.norm() if layer.kind == "BatchNormalization" else layer.weights
            weights[name] = [tf.constant(w, tf.float32) for w in arrays]
        self.function = function
        output = function.get_concrete_function().outputs[0].shape
        if output.rank != 4 or output[-1] != 3:
            raise ValueError(f"its output is {output}")

    @classmethod
    def load(cls, path, dtype="float32"):
        """Load a model file; raises UserError as `plain.read`."""
        network = plain.read(path)
        try:
            return cls(network, dtype)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, tf.errors.OpError) as error:
            refused = RefusedModel(f"its layers do not fit together ({first_line(error)})")
            raise model_zip.user_error(path, refused) from error

    def __reduce__(self):
        return TensorFlowEngine, self._made_from

    def __call__(self, image, mask):
        """See `engines.Engine`."""
        try:
            return self.function(image, mask).numpy()
        except tf.errors.ResourceExhaustedError as error:
            raise MemoryError from error


def _convolution(layer, weights, x):
    o = layer.options
    kernel, *bias = (tf.cast(w, x.dtype) for w in weights)
    x = ops.conv(x, kernel, o["strides"], o["padding"], o["data_format"], o["dilation_rate"])
    return _activated(o, _with_bias(o, x, bias))


def _deconvolution(layer, weights, x):
    o = layer.options
    kernel, *bias = (tf.cast(w, x.dtype) for w in weights)
    x = ops.conv_transpose(
        x, kernel, o["strides"], o["padding"], o["output_padding"], o["data_format"], o["dilation_rate"]
    )
    return _activated(o, _with_bias(o, x, bias))


def _with_bias(options, x, bias):
    for b in bias:
        x += b if options["data_format"] == "channels_last" else tf.reshape(b, [-1, 1, 1])
    return x


def _activated(options, x):
    return keras.activations.get(options["activation"])(x)


def _batch_norm(layer, weights, x):
    gamma, beta, mean, variance = weights
    o, wide = layer.options, tf.cast(x, tf.float32)
    return tf.cast(ops.batch_normalization(wide, mean, variance, plain.axis(layer), beta, gamma, o["epsilon"]), x.dtype)


def _rescaling(layer, _, x):
    return x * tf.constant(layer.options["scale"], x.dtype) + tf.constant(layer.options["offset"], x.dtype)


def _zero_padding(layer, _, x):
    padding = [[0, 0], *layer.options["padding"]]
    padding.insert(3 if layer.options["data_format"] == "channels_last" else 1, [0, 0])
    return tf.pad(x, padding)


def _relu(layer, _, x):
    o = layer.options
    return ops.cast(
        keras.activations.relu(x, o["negative_slope"] or 0.0, o["max_value"], o["threshold"] or 0.0), x.dtype
    )


_LAYERS = {
    "Activation": lambda layer, _, x: _activated(layer.options, x),
    "Add": lambda layer, _, *xs: sum(xs[1:], xs[0]),
    "BatchNormalization": _batch_norm,
    "Concatenate": lambda layer, _, *xs: tf.concat(xs, plain.axis(layer)),
    "Conv2D": _convolution,
    "Conv2DTranspose": _deconvolution,
    "EinsumDense": lambda layer, weights, x: tf.einsum(layer.options["equation"], x, *weights),
    "Multiply": lambda layer, _, *xs: math.prod(xs[1:], start=xs[0]),
    "ReLU": _relu,
    "Rescaling": _rescaling,
    "ZeroPadding2D": _zero_padding,
}
