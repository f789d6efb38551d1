"""Pixels of every depth and kind, and the float RGB that the network takes."""

import numpy as np


def as_pixels(image):
    """Check an image of any kind and give it a channel axis: [height, width, 1|3|4]."""
    image = np.asarray(image)
    pixels = image[..., None] if image.ndim == 2 else image
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or 0 in pixels.shape:
        raise ValueError(f"image: expected [height, width] or [height, width, 1|3|4], found {list(image.shape)}.")
    if pixels.dtype not in (np.uint8, np.uint16) and pixels.dtype.kind != "f":
        raise ValueError(f"image: expected uint8, uint16 or float in [0, 1], found {image.dtype}.")
    return pixels


def to_rgb(pixels, hole):
    """Turn [height, width, 1|3|4] of any dtype into float32 [height, width, 3] in [0, 1], 0 in the hole."""
    colour = pixels[..., :3]
    rgb = np.empty((*hole.shape, 3), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # in a hole stands anything
        rgb[...] = colour
    rgb[hole] = 0  # cheaper than to pick out what is known, which is most
    if colour.dtype.kind != "f":
        rgb /= np.float32(np.iinfo(colour.dtype).max)
    # Rounding may leave [0, 1] a little; images in [0, 255] and NaN go further.
    elif rgb.size and not (rgb.min() >= -1 / 255 and rgb.max() <= 1 + 1 / 255):
        known = colour[~hole]
        raise ValueError(f"image: known pixels from {known.min()} to {known.max()}; expected float in [0, 1].")
    return rgb


def from_rgb(rgb, channels, dtype):
    """Turn float32 [count, 3] in [0, 1] into [count, channels] of an image's dtype."""
    if channels == 1:
        rgb = rgb.mean(axis=1, keepdims=True)
    if channels == 4:
        rgb = np.concatenate([rgb, np.ones_like(rgb[:, :1])], axis=1)
    return rgb.astype(dtype) if dtype.kind == "f" else np.rint(rgb * np.iinfo(dtype).max).astype(dtype)
