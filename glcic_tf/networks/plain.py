"""A network as data: Keras' description of its layers and their weights in NumPy, without Keras and TensorFlow.

`read` takes it from a model file, `folding.as_plain` from a Keras model. `fold` removes batch normalisation for
inference: there it is a fixed factor and offset for each channel, and so can go into the kernel and the bias of a
convolution that it follows directly. After an activation it would have to go into the next convolution, whose zero
padding makes that inexact at the borders; there it stays.
"""

import dataclasses
import graphlib
import io
import typing
from collections import Counter

import numpy as np

from glcic_tf.common.errors import first_line
from glcic_tf.networks import frames, model_zip
from glcic_tf.networks.model_config import MAX_BYTES, RefusedModel

HIDDEN = r"(pad_)?(conv|deconv|bn|relu)(\d|1[0-6])"  # names of layers up to conv16, which may compute in bfloat16
# Layers with weights: the names of their groups in a file, to which Keras appends a number for all but the first.
_GROUPS = {"Conv2D": "conv2d", "Conv2DTranspose": "conv2d_transpose", "BatchNormalization": "batch_normalization"}
_GROUPS["EinsumDense"] = "einsum_dense"


class Layer(typing.NamedTuple):
    """A layer.

    Attributes:
        name: unique in the network.
        kind: name of its class in `keras.layers`; other classes have their module in front.
        options: dict, Keras' config of the layer.
        weights: list of arrays in Keras' order, as far as the options say that the layer has them: kernel and bias of
            convolutions; gamma, beta, mean and variance of batch normalisation.
        nodes: list with the arguments of each call: `args` and `kwargs`, as Keras describes them.
    """

    name: str
    kind: str
    options: dict
    weights: list
    nodes: list

    def norm(self):
        """Gamma, beta, mean and variance of a batch normalisation, each [channels]."""
        *learnt, mean, variance = self.weights
        gamma = learnt.pop(0) if self.options["scale"] else np.ones_like(mean)
        return gamma, learnt[0] if self.options["center"] else np.zeros_like(mean), mean, variance


@dataclasses.dataclass(frozen=True)
class Network:
    """A functional network.

    Attributes:
        layers: {name: Layer}.
        outputs: which tensors are its outputs, as Keras describes them.
    """

    layers: dict[str, Layer]
    outputs: typing.Any

    @classmethod
    def from_config(cls, config, weights):
        """Make it from the config of a Keras model and {name of a layer: list of arrays}."""
        layers = {}
        for layer in config["layers"]:
            kind = layer["class_name"]
            kind = kind if layer.get("module", "keras.layers") == "keras.layers" else f"{layer['module']}.{kind}"
            name = layer["name"]
            layers[name] = Layer(name, kind, layer["config"], weights.get(name, []), layer["inbound_nodes"])
        return cls(layers, config["output_layers"])

    @property
    def frame(self):
        """Its frames.Frame; None: it completes photos of any size."""
        return frames.of_image(self.layers["image"].options["batch_shape"])

    def evaluate(self, inputs, apply):
        """Go through the network, each layer after those that it reads.

        Args:
            inputs: {name of an input: its value}.
            apply: function of a Layer, the number of its call, and the values it reads; returns its value.

        Returns:
            The value of the network's one output.

        Raises:
            ValueError: layers read each other in a circle, or there is not exactly one output.
        """
        (output,) = tensors(self.outputs)
        sources, waiting = {}, [output]
        while waiting:
            name, call = tensor = waiting.pop()
            if tensor not in sources:
                own = self.layers[name]
                sources[tensor] = [] if own.kind == "InputLayer" else tensors(own.nodes[call]["args"])
                waiting += sources[tensor]
        values = {}
        for tensor in graphlib.TopologicalSorter(sources).static_order():  # its CycleError is a ValueError
            layer = self.layers[tensor[0]]
            given = [values[source] for source in sources[tensor]]
            values[tensor] = inputs[layer.name] if layer.kind == "InputLayer" else apply(layer, tensor[1], *given)
        return values[output]


def read(path):
    """Read the completion network of a `.keras` file that anybody may have made; no code in it is run.

    Args:
        path: file that `model_file.save`, or plain Keras, wrote.

    Raises:
        UserError: as `model_file.load`, as far as problems show before the network is used.
    """
    try:
        config = model_zip.check(path)["config"]
        try:
            inputs = [layer for layer in config["layers"] if layer["class_name"] == "InputLayer"]
            inputs = {layer["name"]: tuple(layer["config"]["batch_shape"]) for layer in inputs}
            if not frames.is_known(inputs) or len(tensors(config["output_layers"])) != 1:
                raise RefusedModel(f"its network does not turn {frames.inputs(None)} into one image")
            return Network.from_config(config, _read_weights(path, config["layers"]))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise RefusedModel(f"its config.json is malformed ({first_line(error)})") from error
    except RefusedModel as refused:
        raise model_zip.user_error(path, refused) from refused


def _read_weights(path, layers):
    """Read the arrays of all layers: {name: list}."""
    import h5py

    with model_zip.opened(path) as archive:
        content = archive.read("model.weights.h5")
    weights, seen, room = {}, Counter(), MAX_BYTES
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            for layer in layers:
                kind, options = layer["class_name"], layer["config"]
                if kind not in _GROUPS:
                    continue
                group = f"layers/{_GROUPS[kind]}" + (f"_{seen[kind]}" if seen[kind] else "") + "/vars"
                seen[kind] += 1
                arrays = weights[layer["name"]] = []
                for i, shape in enumerate(_shapes(kind, options)):
                    data = _dataset(file, f"{group}/{i}")
                    room -= 4 * data.size
                    fits = len(shape) == data.ndim and all(
                        s in (None, d) for s, d in zip(shape, data.shape, strict=True)
                    )
                    if not fits or data.dtype.kind != "f" or room < 0:
                        raise RefusedModel(f"the weights of layer {layer['name']} are {data.dtype} {list(data.shape)}")
                    arrays.append(data[()].astype(np.float32))
                    if not np.isfinite(arrays[-1]).all():
                        raise RefusedModel(f"its layer {layer['name']} holds numbers that are not finite")
    except (OSError, KeyError, RuntimeError) as error:  # what h5py raises
        raise RefusedModel(f"its weights cannot be read ({first_line(error)})") from error
    return weights


def _dataset(file, path):
    """Find an array in the file itself: links may lead to other files."""
    import h5py

    place = file
    for name in path.split("/"):
        if not isinstance(place.get(name, getlink=True), h5py.HardLink):
            raise KeyError(f"{path} is missing")
        place = place[name]
    if not isinstance(place, h5py.Dataset) or place.external or place.is_virtual:
        raise KeyError(f"{path} is not an array")
    return place


def _fits(shape, expected):
    return len(shape) == len(expected) and all(b in (None, a) for a, b in zip(shape, expected, strict=True))


def _shapes(kind, options):
    """Shapes of a layer's weights, None for what the layer before decides."""
    if kind == "BatchNormalization":
        return [(None,)] * (2 + bool(options["scale"]) + bool(options["center"]))
    if kind == "EinsumDense":
        return [(None, None, *options["output_shape"])]
    filters = options["filters"]
    ends = (filters, None) if kind == "Conv2DTranspose" else (None, filters)
    return [(*options["kernel_size"], *ends)] + [(filters,)] * bool(options["use_bias"])


def fold(network):
    """Return a network with batch normalisation folded into convolutions where possible, see `foldable`.

    It is equal to the given one in inference mode up to the rounding of float32.
    """
    convolution_of = foldable(network)
    norm_of = {convolution: norm for norm, convolution in convolution_of.items()}
    layers = {}
    for name, layer in network.layers.items():
        if name in norm_of:
            weights = [w.astype(np.float32) for w in folded_weights(layer, network.layers[norm_of[name]])]
            layer = layer._replace(weights=weights, options=layer.options | {"use_bias": True})
        if name not in convolution_of:
            layers[name] = layer._replace(nodes=_renamed(layer.nodes, convolution_of))
    return Network(layers, _renamed(network.outputs, convolution_of))


def foldable(network):
    """Return {name of a batch normalisation: name of the convolution before it} for those that can be folded.

    A BatchNormalization can be folded if its input is a Conv2D or Conv2DTranspose without an activation, nothing else
    reads that convolution's output, and both are called once.
    """
    layers, convolution_of = network.layers, {}
    nodes_of = {name: layer.nodes for name, layer in layers.items()}
    times_read = Counter(name for name, _ in tensors([*nodes_of.values(), network.outputs]))
    for name, norm in layers.items():
        sources = tensors(norm.nodes)
        if norm.kind != "BatchNormalization" or len(sources) != 1:
            continue
        always_of_batch = norm.nodes[0]["kwargs"].get("training")  # it uses the batch's statistics in inference too
        if len(norm.nodes[0]["args"]) != 1 or always_of_batch:
            continue
        source = layers[sources[0][0]]
        if (
            source.kind in ("Conv2D", "Conv2DTranspose")
            and source.options["activation"] == "linear"
            and len(source.nodes) == 1
            and times_read[source.name] == 1
            and axis(norm) == (3 if source.options["data_format"] == "channels_last" else 1)
        ):
            convolution_of[name] = source.name
    return convolution_of


def folded_weights(convolution, norm):
    """Return [kernel, bias], float64, that do what a convolution and its batch normalisation do together."""
    gamma, beta, mean, variance = map(np.float64, norm.norm())
    scale = gamma / np.sqrt(variance + norm.options["epsilon"])
    kernel, *bias = map(np.float64, convolution.weights)
    # [height, width, in, out], but [height, width, out, in] in a deconvolution
    transposed = convolution.kind == "Conv2DTranspose"
    kernel = kernel * (scale[:, None] if transposed else scale)
    return [kernel, (bias[0] if bias else 0) * scale + beta - mean * scale]


def axis(layer):
    """The axis of [batch, height, width, channels] that a layer normalises or joins along: 0 to 3."""
    value = layer.options["axis"]
    return (value[0] if isinstance(value, (list, tuple)) else value) % 4


def tensors(value):
    """Return (name of the layer, number of the call) for every tensor that a part of a model's config refers to."""
    if is_reference(value):
        return [(value[0], value[1])]
    if isinstance(value, dict):
        value = list(value.values())
    return [tensor for item in value for tensor in tensors(item)] if isinstance(value, (list, tuple)) else []


def _renamed(value, names):
    """Copy a part of a config that reads the layers {name: other name} instead."""
    if is_reference(value):
        return [names.get(value[0], value[0]), *value[1:]]
    if isinstance(value, dict):
        return {key: _renamed(item, names) for key, item in value.items()}
    return [_renamed(item, names) for item in value] if isinstance(value, (list, tuple)) else value


def is_reference(value):
    """Whether a part of a config is a tensor's [name of its layer, number of the call, number of the output]."""
    return isinstance(value, (list, tuple)) and len(value) == 3 and [type(v) for v in value] == [str, int, int]
