"""Photos and holes for the tests of the page."""

import numpy as np

from glcic_tf.imaging import images

HEIGHT, WIDTH = 31, 42


def pixels(seed=0, channels=3, dtype=np.uint8, shape=(HEIGHT, WIDTH)):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (*shape, channels), dtype, endpoint=True)


def hole(shape=(HEIGHT, WIDTH)):
    inside = np.zeros(shape, bool)
    inside[8:20, 10:30] = True
    return inside


def write(path, array):
    images.write_image(path, np.where(array, 255, 0).astype(np.uint8) if array.dtype == bool else array)
    return path
