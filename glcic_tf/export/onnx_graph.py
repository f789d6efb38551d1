"""A Keras completion network written layer by layer as ONNX operators: no converter, a node or two for each layer.

ONNX's convolutions want [batch, channels, height, width], Keras' tensors are [batch, height, width, channels].
"""

import numpy as np
from keras import activations, layers

from glcic_tf.common.errors import UserError

OPSET = 18  # the first whose reductions all take their axes as an input; ONNX Runtime from 1.14 on has it
_AXIS = {0: 0, 1: 2, 2: 3, 3: 1}  # of [batch, height, width, channels] -> of [batch, channels, height, width]
_ACTIVATIONS = {
    activations.linear: None,
    activations.relu: ("Relu", {}),
    activations.sigmoid: ("Sigmoid", {}),
    activations.tanh: ("Tanh", {}),
    activations.elu: ("Elu", {"alpha": 1.0}),
    activations.leaky_relu: ("LeakyRelu", {"alpha": 0.2}),
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
        model.ir_version = self.onnx.helper.find_min_ir_version_for([opset])  # else older runtimes refuse it
        return model


def add_network(graph, model, inputs, dtype):
    """Append a functional Keras model in inference mode.

    Args:
        graph: `Graph`.
        model: functional Keras model of float32 and channels_last, of the layers that `model_file.load` lets pass.
        inputs: {name of an input of the model: name of a tensor [batch, channels, height, width] of `dtype`}.
        dtype: "float32" or "float16", the type of weights and computation.

    Returns:
        Name of the output, a tensor [batch, channels, height, width] of `dtype`.

    Raises:
        UserError: a layer has an option that is not supported here.
    """
    config = model.get_config()
    nodes_of = {layer["name"]: layer["inbound_nodes"] for layer in config["layers"]}
    done = {(name, 0): tensor for name, tensor in inputs.items()}
    (output,) = _tensors(config["output_layers"])

    waiting = [output]  # a stack, not recursion: a file may hold a long chain of layers
    while waiting:
        name, call = waiting[-1]
        sources = [] if (name, call) in done else _tensors(nodes_of[name][call]["args"])
        missing = [source for source in sources if source not in done]
        if not missing and (name, call) not in done:
            result_name = f"network/{name}" + (f"_{call}" if call else "")
            writer = _Layer(graph, model.get_layer(name), result_name, np.dtype(dtype))
            done[name, call] = writer.write([done[source] for source in sources])
        waiting.extend(missing)
        if not missing:
            waiting.pop()
    return done[output]


def _tensors(value):
    """Return (name of the layer, number of the call) for every tensor that a part of a model's config refers to."""
    if isinstance(value, dict):
        value = value["config"]["keras_history"] if value.get("class_name") == "__keras_tensor__" else [*value.values()]
    if isinstance(value, (list, tuple)):
        if len(value) == 3 and [type(v) for v in value] == [str, int, int]:
            return [(value[0], value[1])]
        return [tensor for item in value for tensor in _tensors(item)]
    return []


class _Layer:
    """One layer, about to be written to a graph under the name `result`."""

    def __init__(self, graph, layer, result, dtype):
        self.graph, self.layer, self.result, self.dtype = graph, layer, result, dtype

    def write(self, inputs):
        """Append the layer's nodes; return the name of the output."""
        writer = _WRITERS.get(type(self.layer))
        if writer is None:
            self.refuse(f"is a {type(self.layer).__name__}")
        if getattr(self.layer, "data_format", "channels_last") != "channels_last":
            self.refuse("is channels_first")
        return writer(self, *inputs)

    def refuse(self, problem):
        raise UserError(f"layer {self.layer.name}: {problem}, which ONNX export does not know; export a SavedModel.")

    def add(self, operator, *inputs, last=True, **attributes):
        """Append a node; the last one of a layer has the layer's name."""
        return self.graph.add(operator, *inputs, name=self.result if last else None, **attributes)

    def constant(self, value, name):
        """Return the name of a weight, which bears the layer's name and keeps to the computation's dtype."""
        return self.graph.constant(np.asarray(value), self.dtype, f"network/{self.layer.name}/{name}")

    def per_channel(self, value, name):
        value = np.asarray(value)
        return self.constant(value.reshape(1, -1, 1, 1) if value.ndim else value, name)

    def rescaling(self, x):
        x = self.add("Mul", x, self.per_channel(self.layer.scale, "scale"), last=False)
        return self.add("Add", x, self.per_channel(self.layer.offset, "offset"))

    def merge(self, operator, first, *others):
        for i, other in enumerate(others, 1):
            first = self.add(operator, first, other, last=i == len(others))
        return first

    def multiply(self, *inputs):
        return self.merge("Mul", *inputs)

    def add_up(self, *inputs):
        return self.merge("Add", *inputs)

    def concatenate(self, *inputs):
        return self.add("Concat", *inputs, axis=_AXIS[self.layer.axis % 4])

    def zero_padding(self, x):
        (top, bottom), (left, right) = self.layer.padding
        pads = np.array([0, 0, top, left, 0, 0, bottom, right])
        return self.add("Pad", x, pads, self.constant(0, "zero"))

    def batch_norm(self, x):
        norm = self.layer
        if norm.axis % 4 != 3:
            self.refuse("does not normalise the channels")
        size = np.shape(norm.moving_mean)
        gamma = norm.gamma if norm.scale else np.ones(size)
        beta = norm.beta if norm.center else np.zeros(size)
        weights = {"gamma": gamma, "beta": beta, "mean": norm.moving_mean, "variance": norm.moving_variance}
        weights = [self.constant(value, name) for name, value in weights.items()]
        return self.add("BatchNormalization", x, *weights, epsilon=float(norm.epsilon))

    def convolution(self, x):
        layer = self.layer
        kernel = np.asarray(layer.kernel)
        size, strides, dilations = layer.kernel_size, layer.strides, layer.dilation_rate
        attributes = {"group": layer.groups, "strides": strides, "dilations": dilations, "kernel_shape": size}
        if layer.padding == "same" and set(strides) == {1}:
            total = [(k - 1) * d for k, d in zip(size, dilations, strict=True)]
            attributes["pads"] = [t // 2 for t in total] + [t - t // 2 for t in total]
        elif layer.padding == "same" and set(dilations) == {1}:
            attributes["auto_pad"] = "SAME_UPPER"  # depends on the size
        elif layer.padding != "valid":
            self.refuse(f"has padding={layer.padding!r} with strides and dilation")
        return self.weighted("Conv", x, kernel.transpose(3, 2, 0, 1), attributes)

    def deconvolution(self, x):
        layer = self.layer
        size, strides = layer.kernel_size, layer.strides
        if set(layer.dilation_rate) != {1} or layer.output_padding is not None or min(np.subtract(size, strides)) < 0:
            self.refuse("has a dilation, output_padding, or strides larger than the kernel")
        # The size that Keras gives: strides times the input's, and without padding the rest of the kernel on top.
        total = [k - s if layer.padding == "same" else 0 for k, s in zip(size, strides, strict=True)]
        pads = [t // 2 for t in total] + [t - t // 2 for t in total]
        attributes = {"strides": strides, "kernel_shape": size, "pads": pads}
        return self.weighted("ConvTranspose", x, np.asarray(layer.kernel).transpose(3, 2, 0, 1), attributes)

    def weighted(self, operator, x, kernel, attributes):
        weights = [self.constant(kernel, "kernel")]
        if self.layer.use_bias:
            weights.append(self.constant(self.layer.bias, "bias"))
        linear = self.layer.activation is activations.linear
        x = self.add(operator, x, *weights, last=linear, **attributes)
        return x if linear else self.activation(x)

    def activation(self, x):
        function = self.layer.activation
        if function is activations.relu6:
            return self.add("Clip", x, self.constant(0, "least"), self.constant(6, "most"))
        if function not in _ACTIVATIONS:
            self.refuse(f"has the activation {getattr(function, '__name__', function)!r}")
        operator = _ACTIVATIONS[function]
        return self.add(operator[0], x, **operator[1]) if operator else self.add("Identity", x)

    def relu(self, x):
        layer = self.layer
        if layer.threshold:
            self.refuse("has a threshold")
        slope, most = float(layer.negative_slope or 0), layer.max_value
        x = self.add("LeakyRelu", x, alpha=slope, last=most is None) if slope else x
        if most is not None:
            least = [""] if slope else [self.constant(0, "least")]
            return self.add("Clip", x, *least, self.constant(most, "most"))
        return x if slope else self.add("Relu", x)


_WRITERS = {
    layers.Activation: _Layer.activation,
    layers.Add: _Layer.add_up,
    layers.BatchNormalization: _Layer.batch_norm,
    layers.Concatenate: _Layer.concatenate,
    layers.Conv2D: _Layer.convolution,
    layers.Conv2DTranspose: _Layer.deconvolution,
    layers.Multiply: _Layer.multiply,
    layers.ReLU: _Layer.relu,
    layers.Rescaling: _Layer.rescaling,
    layers.ZeroPadding2D: _Layer.zero_padding,
}
