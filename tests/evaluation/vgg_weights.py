"""Random weights of VGG16 in torchvision's layout, and images, shared by test_lpips.py and its goldens."""

import numpy as np

SIZES = ((64, 64), (50, 71))
_FILTERS = {0: 64, 2: 64, 5: 128, 7: 128, 10: 256, 12: 256, 14: 256, 17: 512, 19: 512, 21: 512, 24: 512, 26: 512}


def vgg16():
    """State dict without the classifier; the variance of the activations stays as it is."""
    rng, channels, state = np.random.default_rng(16), 3, {}
    for index, filters in (_FILTERS | {28: 512}).items():
        kernel = rng.standard_normal((filters, channels, 3, 3), np.float32) * np.float32(np.sqrt(2 / (9 * channels)))
        state[f"features.{index}.weight"], channels = kernel, filters
        state[f"features.{index}.bias"] = rng.standard_normal(filters, np.float32) * np.float32(0.1)
    return state


def images(height, width):
    """Two images [height, width, 3] uint8: noise, and the same with another half."""
    rng = np.random.default_rng(height)
    image, other = rng.integers(0, 256, (2, height, width, 3), np.uint8)
    other[: height // 2] = image[: height // 2]
    return image, other
