"""A smooth picture, and how the tests save pictures with Pillow."""

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 19, 33


def smooth(channels=3):
    """uint8 [HEIGHT, WIDTH, channels], smooth so that JPEG changes little, different in every corner and channel."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    planes = [20 + 5 * y + 3 * x, 230 - 4 * y - 2 * x, 90 + 4 * x - 2 * y, 40 + 6 * x]
    return np.clip(np.stack(planes[:channels], axis=-1), 0, 255).astype(np.uint8)


def saved(path, picture, **settings):
    if path.suffix.lower() == ".webp":
        settings = {"lossless": True, "exact": True, **settings}
    picture.save(path, **settings)
    return path


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags
