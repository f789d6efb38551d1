"""The mean pixel of the photos that a run trains on, which the networks fill holes with."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from glcic_tf.common.errors import UserError
from glcic_tf.data.shards import PhotoSequence


def measure(photos, most, seed, progress=True):
    """Measure the mean colour of the photos, each with the same weight whatever its size, as in training.

    Args:
        photos: a Photos.
        most: how many are measured at most, drawn at random.
        seed: decides that draw.
        progress: show a progress bar on a terminal.

    Returns:
        (r, g, b) in [0, 1].

    Raises:
        UserError: too many photos, or all of them, cannot be decoded.
    """
    from tqdm import tqdm  # only here, as a run that is given the mean needs no tqdm

    indices = np.random.default_rng(seed).permutation(len(photos.paths))[:most]
    if isinstance(photos.paths, PhotoSequence):  # measured when the shards were made
        return tuple(float(channel) for channel in np.mean(photos.paths.means(indices), axis=0) / 255)
    indices = indices.tolist()

    def mean(index):
        photo = photos.read(index)
        return None if photo is None else cv2.mean(photo)[:3]

    with ThreadPoolExecutor() as pool:
        bar = tqdm(
            pool.map(mean, indices),
            total=len(indices),
            desc="mean pixel",
            unit="photo",
            disable=None if progress else True,
        )
        means = [m for m in bar if m is not None]
    if not means:
        raise UserError(f"none of {len(indices)} photos can be decoded; choose another --data_dir.")
    return tuple(float(channel) for channel in np.mean(means, axis=0) / 255)
