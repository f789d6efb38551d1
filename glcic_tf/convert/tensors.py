"""Code that the layouts share: tensors by name with their shapes checked, and weights by layer.

Torch's kernels are [out, in, height, width], or [in, out, height, width] in a deconvolution; Keras' are
[height, width, in, out] and [height, width, out, in].
"""

import math

import numpy as np

from glcic_tf.networks.discriminator import context_discriminator

DECONVOLUTIONS = (13, 15)
LAST = 17  # C's convolution without batch normalisation
STATISTICS = ("weight", "bias", "running_mean", "running_var")  # of batch normalisation, as Keras orders them
RGB_TO_BGR = [2, 1, 0]
_MAX_WIDTH = 2  # times the paper's channels: limits the memory that a small file can claim


class LayoutError(Exception):
    """A file does not have the layout that it was taken for; the message is the middle of a sentence about the file."""


class Tensors:
    """Named tensors below a prefix, handed out once each, with their shapes checked.

    `place` goes before the names in messages; by default the prefix.
    """

    def __init__(self, state, prefix="", place=None):
        self._tensors = {
            name.removeprefix(prefix): value
            for name, value in state.items()
            if isinstance(name, str) and name.startswith(prefix) and not name.endswith("num_batches_tracked")
        }
        self._prefix = prefix if place is None else place

    def __contains__(self, name):
        return name in self._tensors

    def shape(self, name, rank):
        """Shape of a tensor, without handing it out."""
        tensor = self._tensors.get(name)
        if tensor is None:
            raise LayoutError(f"it lacks {self._prefix}{name}")
        if not isinstance(tensor, np.ndarray) or tensor.ndim != rank:
            raise LayoutError(f"its {self._prefix}{name} is {describe(tensor)}, expected a tensor of rank {rank}")
        return tensor.shape

    def take(self, name, shape):
        """Hand out a tensor as float32."""
        if self.shape(name, len(shape)) != tuple(shape):
            found = describe(self._tensors[name])
            raise LayoutError(f"its {self._prefix}{name} is {found}, expected {list(shape)}")
        return np.asarray(self._tensors.pop(name), np.float32)

    def end(self):
        """Raise LayoutError if a tensor was not handed out: then it is another network."""
        if self._tensors:
            name = next(iter(self._tensors))
            raise LayoutError(f"it holds {self._prefix}{name}, and maybe more, which this network does not have")


def describe(value):
    """Describe a value for messages: the shape of a tensor, the type of anything else."""
    return str(list(value.shape)) if isinstance(value, np.ndarray) else f"a {type(value).__name__}"


def assign(model, weights):
    """Set the weights of layers by name; all layers that have weights must be there.

    Raises:
        LayoutError: a number is not finite.
    """
    for layer in model.layers:
        if layer.get_weights():
            values = weights.pop(layer.name)
            if not all(np.isfinite(value).all() for value in values):
                raise LayoutError(f"the weights of its {layer.name} are not all finite numbers")
            layer.set_weights(values)
    if weights:
        raise ValueError(f"Weights of no layer: {sorted(weights)}.")


def width_of(out, expected):
    """The factor on the channels, from the channels of one convolution."""
    if not 0 < out <= expected * _MAX_WIDTH:
        raise LayoutError(f"a convolution has {out} channels, expected about {expected}")
    return out / expected


def completion_weights(model, take_kernel, take_norm):
    """Weights of C's layers: `take_kernel(index, name, shape)` in Torch's shape, and `take_norm(index, channels)`."""
    weights = {}
    for index in range(1, LAST + 1):
        name = f"deconv{index}" if index in DECONVOLUTIONS else f"conv{index}"
        layer = model.get_layer(name)
        height, width, *channels = layer.kernel.shape
        # Keras' [.., in, out] is Torch's [out, in, ..]; for a deconvolution, [.., out, in] is [in, out, ..].
        kernel, bias = take_kernel(index, name, (*channels[::-1], height, width))
        weights[name] = [kernel.transpose(2, 3, 1, 0), bias]
        if index < LAST:
            weights[f"bn{index}"] = take_norm(index, layer.filters)
    return weights


def tower(tensors, prefix, convolution, norm, dense, bias):
    """Take the weights of one of D's towers.

    Args:
        tensors: `Tensors`.
        prefix: beginning of the names of all the tower's tensors.
        convolution, norm: patterns of the layers' names, with {} for the number, counted from 1.
        dense: name of the fully connected layer.
        bias: whether convolutions have one.

    Returns:
        ({name of a layer without its tower: weights}, depth, side of the tower's input in px, filters of the first).
    """
    depth = 0
    while f"{prefix}{convolution.format(depth + 1)}.weight" in tensors:
        depth += 1
    if not 0 < depth <= 12:
        raise LayoutError(f"it lacks {prefix}{convolution.format(1)}.weight")
    weights, channels = {}, 3
    for i in range(1, depth + 1):
        name = prefix + convolution.format(i)
        filters = tensors.shape(f"{name}.weight", 4)[0]
        kernel = tensors.take(f"{name}.weight", (filters, channels, 5, 5)).transpose(2, 3, 1, 0)
        zeros = np.zeros(filters, np.float32)
        weights[f"conv{i}"] = [kernel, tensors.take(f"{name}.bias", (filters,)) if bias else zeros]
        weights[f"bn{i}"] = [tensors.take(f"{prefix}{norm.format(i)}.{s}", (filters,)) for s in STATISTICS]
        channels = filters
    features = tensors.shape(f"{prefix}{dense}.weight", 2)[1]
    side = math.isqrt(features // channels)
    if side * side * channels != features or not side:
        raise LayoutError(
            f"its {prefix}{dense}.weight takes {features} features, which do not make {channels} square maps"
        )
    kernel = tensors.take(f"{prefix}{dense}.weight", (1024, features))
    # Torch flattens [channels, height, width], Keras [height, width, channels].
    kernel = kernel.reshape(1024, channels, side, side).transpose(2, 3, 1, 0).reshape(features, 1024)
    weights["dense"] = [kernel, tensors.take(f"{prefix}{dense}.bias", (1024,))]
    return weights, depth, side * 2**depth, weights["conv1"][0].shape[-1]


def build_discriminator(towers, logit, **arguments):
    """Build D from `tower`'s results for the whole image and the patch, and the logit's weights [2048, 1] and [1]."""
    (_, image_depth, image_size, filters), (_, patch_depth, patch_size, _) = towers
    model = context_discriminator(
        image_size,
        patch_size,
        width=width_of(filters, 64),
        global_convolutions=image_depth,
        local_convolutions=patch_depth,
        dtype="float32",
        **arguments,
    )
    weights = {"logit": logit}
    for name, (tower, *_) in zip(("image", "patch"), towers, strict=True):
        weights |= {f"{name}_{layer}": values for layer, values in tower.items()}
    for layer in model.layers:
        shapes = [tuple(value.shape) for value in layer.get_weights()]
        if shapes and [value.shape for value in weights[layer.name]] != shapes:
            raise LayoutError(f"its {layer.name} has the shapes {[v.shape for v in weights[layer.name]]}, not {shapes}")
    assign(model, weights)
    return model
