"""What a `.keras` file may ask Keras to build, checked before Keras builds anything from it.

Only the standard layers of completion networks pass, with limits close to what the paper's network needs: otherwise a
file of a few kB could claim all of the memory, or take minutes.
"""

import json
import math

import numpy as np

from glcic_tf.common.errors import first_line

MAX_BYTES = 2**29  # of the unpacked zip, and of the weights that the layers claim; 24 MB at paper width
_LAYERS = {
    *("Activation", "Add", "BatchNormalization", "Concatenate", "Conv2D", "Conv2DTranspose", "EinsumDense"),
    *("InputLayer", "Multiply", "ReLU", "Rescaling", "ZeroPadding2D"),
}
_INITIALIZERS = {"Constant", "GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "Ones", "Zeros"}
_INITIALIZERS |= {"RandomNormal", "RandomUniform", "TruncatedNormal", "VarianceScaling"}
_ALLOWED = {("keras", "DTypePolicy"), (None, "__keras_tensor__")}
_ALLOWED |= {("keras.layers", name) for name in _LAYERS} | {("keras.initializers", name) for name in _INITIALIZERS}
_ROOT = ("keras.src.models.functional", "Functional")  # as Keras writes a functional model, without a public name
_MAX_LAYERS = 200
# The most that each number of a convolution may be. The paper's are 256, 5, 2 and 16.
_MOST = {"filters": 1024, "kernel_size": 7, "strides": 2, "dilation_rate": 32, "groups": 1}
_MAX_PADDING_PX = 32
_MAX_STRIDED = 9  # Context Encoder's; the paper's has 4
# The only kind of EinsumDense that passes, a dense layer for each channel: [batch, height, width, channels] in and out.
CHANNELWISE = "bhwc,hwijc->bijc"
_MAX_MAP_PX = 8  # side of its input and output maps


class RefusedModel(Exception):
    """Why a file is not loaded, as the middle of a sentence."""


def check_config(config):
    """Raise RefusedModel unless Keras may build what a file's config.json, a dict, describes."""
    root = (config.get("module"), config.get("class_name"))
    if root != _ROOT or config.get("registered_name") not in (None, "Functional"):
        raise RefusedModel(f"it holds a {_name(*root)}, not a functional Keras model")
    objects = []
    try:
        # Keras does not build what `compile_config` describes, since `load` passes compile=False.
        _collect_objects([config.get("config"), config.get("build_config")], objects)
        _check_layers(objects)
        size = 4 * _most_weights(objects)
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise RefusedModel(f"its config.json is malformed ({first_line(error)})") from error
    if size > MAX_BYTES:
        raise RefusedModel(
            f"its layers ask for up to {size / 1e6:.0f} MB of weights, more than {MAX_BYTES / 1e6:.0f} MB"
        )


def _collect_objects(value, objects):
    """Append every dict in a config that stands for an object, after checking it against the allow-list."""
    if isinstance(value, list):
        for item in value:
            _collect_objects(item, objects)
    elif isinstance(value, dict):
        if "class_name" in value:
            found = (value.get("module"), value["class_name"])
            if found not in _ALLOWED or value.get("registered_name") is not None:
                raise RefusedModel(
                    f"it holds a {_name(*found)}, which is not among the standard layers that may be loaded"
                )
            objects.append(value)
        for item in value.values():
            _collect_objects(item, objects)


def _check_layers(objects):
    """Raise RefusedModel if a layer is beyond the bounds; ValueError and the like if it is malformed."""
    found = [layer for layer in objects if layer.get("module") == "keras.layers"]
    if len(found) > _MAX_LAYERS:
        raise RefusedModel(f"it has {len(found)} layers; expected at most {_MAX_LAYERS}")
    strided = 0
    for layer in found:
        config = layer["config"]
        name = str(config["name"])[:40]
        for field, most in _MOST.items():
            numbers = np.ravel(config.get(field, 1)).tolist()
            if not 0 < len(numbers) <= 2 or not all(type(number) is int for number in numbers):
                raise ValueError(f"{field} of {name} is {str(config[field])[:40]}")
            if not all(0 < number <= most for number in numbers):
                raise RefusedModel(f"its layer {name} has {field} {config[field]}; expected 1 to {most}")
        strided += np.max(config.get("strides", 1)) > 1
        padding = np.ravel(config["padding"]) if layer["class_name"] == "ZeroPadding2D" else np.zeros(1, int)
        if padding.dtype.kind != "i" or padding.min() < 0 or padding.max() > _MAX_PADDING_PX:
            raise RefusedModel(f"its layer {name} has padding {config['padding']}; expected 0 to {_MAX_PADDING_PX}")
        if layer["class_name"] == "EinsumDense":
            _check_channelwise(name, config, layer["build_config"]["input_shape"])
    if strided > _MAX_STRIDED:
        raise RefusedModel(f"it has {strided} layers with strides; expected at most {_MAX_STRIDED}")


def _check_channelwise(name, config, before):
    """Raise RefusedModel unless an EinsumDense is a dense layer for each channel, between small maps.

    Keras makes the kernel of the shape that the file says it was built for, before the network is put together.
    """
    behind = config["output_shape"]
    plain = (config["equation"], config["activation"], config["bias_axes"]) == (CHANNELWISE, "linear", None)
    if not plain or [len(before), len(behind)] != [4, 3] or before[3] != behind[2]:
        raise RefusedModel(f"its layer {name} is not a dense layer for each channel ({CHANNELWISE})")
    sides = [*before[1:3], *behind[:2]]
    if not all(type(side) is int and 0 < side <= _MAX_MAP_PX for side in sides):
        raise RefusedModel(f"its layer {name} joins maps of {sides} px; expected 1 to {_MAX_MAP_PX}")


def _most_weights(objects):
    """Return a bound on the number of weights, so that a small file cannot claim all of the memory."""
    configs = {name: [o["config"] for o in objects if o["class_name"] == name] for name in _LAYERS}
    convolutions = configs["Conv2D"] + configs["Conv2DTranspose"]
    # Keras makes weights of the shapes that the file says its layers were built for, so these count too.
    built = [side for o in objects for side in _numbers(o.get("build_config"))]
    channels = max([4, *(c["filters"] for c in convolutions), *built])
    for layer in objects:
        if layer["class_name"] == "Concatenate":  # may multiply the channels each time it is called
            for node in layer["inbound_nodes"]:
                channels *= max(1, json.dumps(node).count("__keras_tensor__"))
    kernels = [c["filters"] * math.prod(np.broadcast_to(c["kernel_size"], 2).tolist()) for c in convolutions]
    maps = _MAX_MAP_PX**4 * len(configs["EinsumDense"])
    return channels * (sum(kernels) + maps + 4 * len(configs["BatchNormalization"]))


def _numbers(value):
    """All numbers in a part of a config."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for item in value for number in _numbers(item)]
    return [value] if isinstance(value, int | float) else []


def _name(module, class_name):
    return f"{module}.{class_name}"[:100] if module else str(class_name)[:100]
