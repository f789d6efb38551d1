"""Photos and holes for the tests of infer.py."""

import numpy as np

from glcic_tf.imaging import images

HEIGHT, WIDTH = 31, 42


def photo(seed=0, channels=3, dtype=np.uint8):
    rng = np.random.default_rng(seed)
    return rng.integers(0, np.iinfo(dtype).max, (HEIGHT, WIDTH, channels), dtype, endpoint=True)


def hole():
    inside = np.zeros((HEIGHT, WIDTH), bool)
    inside[8:20, 10:30] = True
    return inside


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    images.write_image(path, np.where(array, 255, 0).astype(np.uint8) if array.dtype == bool else array)
    return path


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
