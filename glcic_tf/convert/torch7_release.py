"""The authors' release: an nn.Sequential of Torch7 with the mean pixel beside it.

The mean is subtracted from the image first, and the hole filled with 0.
"""

import math
import re

import numpy as np

from glcic_tf.convert.tensors import (
    DECONVOLUTIONS,
    LAST,
    STATISTICS,
    LayoutError,
    Tensors,
    assign,
    completion_weights,
    describe,
    width_of,
)
from glcic_tf.networks.completion import completion_network

_DILATIONS = {7: 2, 8: 4, 9: 8, 10: 16}
_STRIDES = {2: 2, 4: 2, 13: 2, 15: 2}


def completion(content):
    """Build C from what `torch7.read` returned.

    Raises:
        LayoutError: it is not the authors' network.
    """
    modules, mean = _modules(content), content.get("mean")
    if not isinstance(mean, np.ndarray) or mean.size != 3 or not np.isfinite(mean).all():
        raise LayoutError("it lacks the mean pixel, a tensor of three finite numbers called mean")
    mean = [float(x) for x in mean.ravel()]
    epsilon = _number(modules[1], "eps", 1e-5)
    width = width_of(_number(modules[9], "nOutputPlane", 0), 256)
    model = completion_network(
        width, (0.0, 0.0, 0.0), epsilon=epsilon, input_offset=[-x for x in mean], dtype="float32"
    )

    def take_kernel(index, name, shape):
        module = modules[3 * (index - 1)]
        stride, dilation = _STRIDES.get(index, 1), _DILATIONS.get(index, 1)
        size = shape[-1]
        padding = 1 if index in DECONVOLUTIONS else dilation * (size // 2)
        expected = {"kW": size, "kH": size, "dW": stride, "dH": stride, "padW": padding, "padH": padding}
        expected |= {"dilationW": dilation, "dilationH": dilation, "adjW": 0, "adjH": 0}
        for field, value in expected.items():
            if _number(module, field, value) != value:
                found = module.fields[field]
                raise LayoutError(f"module {3 * index - 2} ({module.class_name}) has {field} {found}, expected {value}")
        tensors = Tensors(module.fields, place=f"module {3 * index - 2} ")
        return tensors.take("weight", shape), tensors.take("bias", (model.get_layer(name).filters,))

    def take_norm(index, channels):
        module = modules[3 * (index - 1) + 1]
        if _number(module, "eps", 1e-5) != epsilon:
            raise LayoutError(f"module {3 * index - 1} has eps {module.fields['eps']}, the first has {epsilon}")
        fields = dict(module.fields)
        if "running_std" in fields and "running_var" not in fields:  # before 2015: 1 / sqrt(variance + eps)
            if not isinstance(fields["running_std"], np.ndarray):
                raise LayoutError(f"module {3 * index - 1} running_std is {describe(fields['running_std'])}")
            fields["running_var"] = np.float64(fields["running_std"]) ** -2 - epsilon
        tensors = Tensors(fields, place=f"module {3 * index - 1} ")
        return [tensors.take(name, (channels,)) for name in STATISTICS]

    weights = completion_weights(model, take_kernel, take_norm)
    assign(model, weights | {"mean_pixel": [np.zeros((1, 1, 1, 3), np.float32)]})
    return model


def _modules(content):
    """The modules of the authors' nn.Sequential, checked for their classes."""
    model = content["model"]
    listed = model.fields.get("modules") if model.class_name == "nn.Sequential" else None
    if not isinstance(listed, dict) or set(listed) != set(range(1, len(listed) + 1)):
        raise LayoutError(f"its model is a {model.class_name}, expected nn.Sequential with a list of modules")
    modules = [listed[number] for number in range(1, len(listed) + 1)]  # Lua writes a table in any order
    expected = []
    for index in range(1, LAST + 1):
        convolution = r"SpatialFullConvolution" if index in DECONVOLUTIONS else r"Spatial(Dilated)?Convolution"
        expected += [convolution, "SpatialBatchNormalization", "ReLU"] if index < LAST else [convolution, "Sigmoid"]
    found = [getattr(module, "class_name", type(module).__name__) for module in modules]
    if len(found) != len(expected):
        raise LayoutError(f"its model has {len(found)} modules, expected {len(expected)}")
    for number, (name, pattern) in enumerate(zip(found, expected, strict=True), 1):
        if not re.fullmatch(rf"(nn|cudnn)\.{pattern}", name) or not isinstance(modules[number - 1].fields, dict):
            raise LayoutError(f"module {number} is {name}, expected nn.{pattern.split('(')[0]}")
    return modules


def _number(module, field, default):
    value = module.fields.get(field, default)
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise LayoutError(f"{field} of {module.class_name} is {describe(value)}, expected a number")
    return value
