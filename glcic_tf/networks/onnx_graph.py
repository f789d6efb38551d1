"""A completion network written layer by layer as ONNX operators: no converter, a node or two for each layer.

ONNX's convolutions take [batch, channels, height, width], while Keras' tensors are [batch, height, width, channels].
This needs the package `onnx`, but neither Keras nor TensorFlow.
"""

import numpy as np

from glcic_tf.common.errors import UserError
from glcic_tf.networks import plain

OPSET = 18  # the first whose reductions all take their axes as an input; ONNX Runtime from 1.14 on has it
_AXIS = {0: 0, 1: 2, 2: 3, 3: 1}  # of [batch, height, width, channels] -> of [batch, channels, height, width]
_ACTIVATIONS = {
    "linear": None,
    "relu": ("Relu", {}),
    "sigmoid": ("Sigmoid", {}),
    "tanh": ("Tanh", {}),
    "elu": ("Elu", {"alpha": 1.0}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.2}),
}


class Graph:
    """Nodes and constants of an ONNX graph, gathered one by one.

    Args:
        onnx: the package `onnx`.
    """

    def __init__(self, onnx):
        self.onnx = onnx
        self.nodes, self.constants = [], {}

    def constant(self, value, dtype=None, name=None):
        """Return the name of a constant; `value` is an array or a number."""
        value = np.asarray(value, dtype)
        name = name or f"constant_{value.dtype}_{'_'.join(map(str, value.ravel().tolist()))}_{value.ndim}"
        self.constants[name] = self.onnx.numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name)
        return name

    def add(self, operator, *inputs, name=None, **attributes):
        """Append a node with one output; return the output's name.

        Args:
            operator: name of the ONNX operator.
            inputs: names of tensors; numbers and arrays become constants (integers of int64).
            name: the output's name; made up if it is left out.
            attributes: the operator's attributes.
        """
        inputs = [x if isinstance(x, str) else self.constant(x) for x in inputs]
        name = name or f"{operator}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def model(self, name, inputs, outputs):
        """Return the ModelProto; inputs and outputs are lists of ValueInfoProto."""
        graph = self.onnx.helper.make_graph(self.nodes, name, inputs, outputs, list(self.constants.values()))
        opset = self.onnx.helper.make_opsetid("", OPSET)
        model = self.onnx.helper.make_model(graph, opset_imports=[opset], producer_name="glcic_tf")
        model.ir_version = self.onnx.helper.find_min_ir_version_for([opset])  # older runtimes refuse newer versions
        return model


def add_network(graph, network, inputs, dtype):
    """Append a network in inference mode.

    Args:
        graph: `Graph`.
        network: plain.Network, channels_last, of the layers that model files may hold.
        inputs: {name of an input of the network: name of a tensor [batch, channels, height, width] of `dtype`}.
        dtype: "float32" or "float16", of the weights and the computation.

    Returns:
        Name of the output, a tensor [batch, channels, height, width] of `dtype`.

    Raises:
        UserError: a layer has an option that is not supported here.
    """

    def write(layer, call, *sources):
        name = f"network/{layer.name}" + (f"_{call}" if call else "")
        return _Layer(graph, layer, name, np.dtype(dtype)).write(sources)

    return network.evaluate(inputs, write)


class _Layer:
    """One layer, about to be written to a graph under the name `result`."""

    def __init__(self, graph, layer, result, dtype):
        self.graph, self.layer, self.result, self.dtype = graph, layer, result, dtype
        self.options = layer.options

    def write(self, inputs):
        """Append the layer's nodes; return the name of the output."""
        writer = _WRITERS.get(self.layer.kind)
        if writer is None:
            self.refuse(f"is a {self.layer.kind}")
        if self.options.get("data_format", "channels_last") != "channels_last":
            self.refuse("is channels_first")
        return writer(self, *inputs)

    def refuse(self, problem):
        raise UserError(
            f"layer {self.layer.name}: {problem}, which cannot be written as ONNX here; use TensorFlow instead "
            "(--format=savedmodel, --engine=tensorflow)."
        )

    def add(self, operator, *inputs, last=True, **attributes):
        """Append a node; the last one of a layer has the layer's name."""
        return self.graph.add(operator, *inputs, name=self.result if last else None, **attributes)

    def constant(self, value, name):
        """Return the name of a weight, which contains the layer's name; it gets the computation's dtype."""
        return self.graph.constant(np.asarray(value), self.dtype, f"network/{self.layer.name}/{name}")

    def per_channel(self, value, name):
        value = np.asarray(value)
        return self.constant(value.reshape(1, -1, 1, 1) if value.ndim else value, name)

    def rescaling(self, x):
        x = self.add("Mul", x, self.per_channel(self.options["scale"], "scale"), last=False)
        return self.add("Add", x, self.per_channel(self.options["offset"], "offset"))

    def merge(self, operator, first, *others):
        for i, other in enumerate(others, 1):
            first = self.add(operator, first, other, last=i == len(others))
        return first

    def multiply(self, *inputs):
        return self.merge("Mul", *inputs)

    def add_up(self, *inputs):
        return self.merge("Add", *inputs)

    def concatenate(self, *inputs):
        return self.add("Concat", *inputs, axis=_AXIS[plain.axis(self.layer)])

    def zero_padding(self, x):
        (top, bottom), (left, right) = self.options["padding"]
        pads = np.array([0, 0, top, left, 0, 0, bottom, right])
        return self.add("Pad", x, pads, self.constant(0, "zero"))

    def batch_norm(self, x):
        if plain.axis(self.layer) != 3:
            self.refuse("does not normalise the channels")
        names = ("gamma", "beta", "mean", "variance")
        weights = [self.constant(value, name) for name, value in zip(names, self.layer.norm(), strict=True)]
        return self.add("BatchNormalization", x, *weights, epsilon=float(self.options["epsilon"]))

    def convolution(self, x):
        size, strides, dilations, padding = (
            self.options[name] for name in ("kernel_size", "strides", "dilation_rate", "padding")
        )
        attributes = {"group": self.options["groups"], "strides": strides, "dilations": dilations, "kernel_shape": size}
        if padding == "same" and set(strides) == {1}:
            total = [(k - 1) * d for k, d in zip(size, dilations, strict=True)]
            attributes["pads"] = [t // 2 for t in total] + [t - t // 2 for t in total]
        elif padding == "same" and set(dilations) == {1}:
            attributes["auto_pad"] = "SAME_UPPER"  # depends on the size
        elif padding != "valid":
            self.refuse(f"has padding={padding!r} with strides and dilation")
        return self.weighted("Conv", x, attributes)

    def deconvolution(self, x):
        size, strides = self.options["kernel_size"], self.options["strides"]
        output_padding, dilations = self.options["output_padding"], self.options["dilation_rate"]
        if set(dilations) != {1} or output_padding is not None or min(np.subtract(size, strides)) < 0:
            self.refuse("has a dilation, output_padding, or strides larger than the kernel")
        # Keras' output size: strides times the input's and, without padding, the rest of the kernel on top.
        total = [k - s if self.options["padding"] == "same" else 0 for k, s in zip(size, strides, strict=True)]
        pads = [t // 2 for t in total] + [t - t // 2 for t in total]
        return self.weighted("ConvTranspose", x, {"strides": strides, "kernel_shape": size, "pads": pads})

    def weighted(self, operator, x, attributes):
        kernel, *bias = self.layer.weights
        weights = [self.constant(kernel.transpose(3, 2, 0, 1), "kernel"), *(self.constant(b, "bias") for b in bias)]
        linear = self.options["activation"] == "linear"
        x = self.add(operator, x, *weights, last=linear, **attributes)
        return x if linear else self.activation(x)

    def activation(self, x):
        function = self.options["activation"]
        if function == "relu6":
            return self.add("Clip", x, self.constant(0, "least"), self.constant(6, "most"))
        if not isinstance(function, str) or function not in _ACTIVATIONS:
            self.refuse(f"has the activation {function!r}")
        operator = _ACTIVATIONS[function]
        return self.add(operator[0], x, **operator[1]) if operator else self.add("Identity", x)

    def relu(self, x):
        if self.options["threshold"]:
            self.refuse("has a threshold")
        slope, most = float(self.options["negative_slope"] or 0), self.options["max_value"]
        x = self.add("LeakyRelu", x, alpha=slope, last=most is None) if slope else x
        if most is not None:
            least = [""] if slope else [self.constant(0, "least")]
            return self.add("Clip", x, *least, self.constant(most, "most"))
        return x if slope else self.add("Relu", x)


_WRITERS = {
    "Activation": _Layer.activation,
    "Add": _Layer.add_up,
    "BatchNormalization": _Layer.batch_norm,
    "Concatenate": _Layer.concatenate,
    "Conv2D": _Layer.convolution,
    "Conv2DTranspose": _Layer.deconvolution,
    "Multiply": _Layer.multiply,
    "ReLU": _Layer.relu,
    "Rescaling": _Layer.rescaling,
    "ZeroPadding2D": _Layer.zero_padding,
}
