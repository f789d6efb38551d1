"""LPIPS as published: version 0.1 on VGG16 (Zhang et al. 2018, The Unreasonable Effectiveness of Deep Features).

It is meant for comparison with figures of the literature, and measures the whole composite. Its weights are not part of
this project: the linear heads, which were fitted to people's judgements, come from the package `lpips` (BSD), and the
weights of VGG16 (528 MB) are torchvision's. `torch_checkpoint` reads both files; neither PyTorch nor any code of those
packages is run.
"""

import hashlib
import importlib.util
import os
from pathlib import Path

import numpy as np

from glcic_tf.common import files
from glcic_tf.common.errors import UserError
from glcic_tf.convert import torch_checkpoint

VGG_FILE = "vgg16-397923af.pth"  # at https://download.pytorch.org/models/; named by the start of its SHA-256
_HEADS_FILE = "weights/v0.1/vgg.pth"
# Convolutions of each part, by their place in torchvision's `features`; a part ends where LPIPS takes the activations.
_PARTS = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
_FILTERS = (64, 128, 256, 512, 512)
# What VGG16 sees of an image in [-1, 1]: (image - shift) / scale.
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_TINY = 1e-10


def find_vgg(path=None):
    """Find the weights of VGG16: the file given or, without one, that in PyTorch's cache.

    Returns:
        pathlib.Path.

    Raises:
        UserError: there is no such file, or it is a different one.
    """
    cache = Path(os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "torch")
    found = Path(path or files.with_home(cache / "hub" / "checkpoints" / VGG_FILE))
    if not found.is_file():
        flag = f"--vgg_weights={path}" if path else f"{found}"
        raise UserError(
            f"{flag}: there is no such file, but --lpips needs the weights of VGG16; download {VGG_FILE} (528 MB) from "
            f"https://download.pytorch.org/models/{VGG_FILE} and name it as --vgg_weights, or leave --lpips out."
        )
    with open(found, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    expected = VGG_FILE.split("-")[1].split(".")[0]
    if not digest.startswith(expected):
        raise UserError(
            f"{found}: --lpips needs torchvision's {VGG_FILE}, whose SHA-256 begins with {expected}; that of this file "
            f"begins with {digest[:8]}; download it again from https://download.pytorch.org/models/{VGG_FILE}."
        )
    return found


def find_heads():
    """Find the linear heads in the installed package `lpips`.

    Raises:
        UserError: it is not installed.
    """
    package = importlib.util.find_spec("lpips")  # found without importing it, which would need PyTorch
    places = package.submodule_search_locations if package else None
    if not places or not (Path(places[0]) / _HEADS_FILE).is_file():
        raise UserError(
            "--lpips: needs the package lpips for its linear heads; run: pip install --no-deps lpips (54 kB)."
        )
    return Path(places[0]) / _HEADS_FILE


def load(vgg=None):
    """Build the network that LPIPS compares images with.

    Args:
        vgg: file of VGG16's weights; None: the one in PyTorch's cache.

    Returns:
        keras.Model, as `build` describes.

    Raises:
        UserError: a file is missing or a different one.
    """
    path, heads = find_vgg(vgg), find_heads()
    return build(torch_checkpoint.read(path), torch_checkpoint.read(heads))


def build(vgg, heads):
    """Build the network from its weights.

    Args:
        vgg: {"features.0.weight": [out, in, height, width], "features.0.bias": [out], ...}, torchvision's; the
            classifier is not used.
        heads: {"lin0.model.1.weight": [1, channels, 1, 1], ...} of the five parts.

    Returns:
        keras.Model, two images [batch, height, width, 3] float32 RGB in [0, 255], sides of at least 16 px, ->
        [batch] float32: 0 for equal images.

    Raises:
        UserError: an array is missing or has another shape.
    """
    import keras
    from keras import layers, ops

    from glcic_tf.networks import blocks

    with blocks.defaults("float32"):
        image = keras.Input((None, None, 3))
        x = layers.Rescaling(
            [1 / (127.5 * scale) for scale in _SCALE],
            [-(1 + shift) / scale for shift, scale in zip(_SHIFT, _SCALE, strict=True)],
        )(image)
        units, channels = [], 3
        for part, filters in zip(_PARTS, _FILTERS, strict=True):
            if units:
                x = layers.MaxPooling2D(2)(x)
            for index in part:
                kernel = _take(vgg, f"features.{index}.weight", (filters, channels, 3, 3))
                bias = _take(vgg, f"features.{index}.bias", (filters,))
                convolution = layers.Conv2D(filters, 3, padding="same", activation="relu")
                x, channels = convolution(x), filters
                convolution.set_weights([kernel.transpose(2, 3, 1, 0), bias])
            units.append(x / (ops.sqrt(ops.sum(ops.square(x), axis=-1, keepdims=True)) + _TINY))
        features = keras.Model(image, units)

        images = keras.Input((None, None, 3), name="image"), keras.Input((None, None, 3), name="completed")
        distances = []
        for i, (a, b) in enumerate(zip(*map(features, images), strict=True)):
            weights = _take(heads, f"lin{i}.model.1.weight", (1, _FILTERS[i], 1, 1)).reshape(-1)
            distances.append(ops.mean(ops.sum(ops.square(a - b) * weights, axis=-1), axis=(1, 2)))
        return keras.Model(images, ops.sum(ops.stack(distances), axis=0), name="lpips")


def distance(image, completed, network):
    """Compute LPIPS of two images: [height, width, 3] uint8 RGB each; `network` from `load`.

    Returns:
        float, 0 or more; 0 for equal images, lower is better.

    Raises:
        ValueError: the images are not uint8 RGB of one size.
    """
    if image.shape != completed.shape or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"Expected two images [height, width, 3], found {image.shape}, {completed.shape}.")
    if image.dtype != np.uint8 or completed.dtype != np.uint8:
        raise ValueError(f"Expected uint8, found {image.dtype} and {completed.dtype}.")
    return float(network.predict_on_batch([image[None].astype(np.float32), completed[None].astype(np.float32)])[0])


def _take(state, name, shape):
    value = state.get(name)
    if np.shape(value) != shape or value is None:
        found = "nothing" if value is None else list(np.shape(value))
        raise UserError(f"The weights do not fit LPIPS on VGG16: {name} is {found}, not {list(shape)}.")
    return value
