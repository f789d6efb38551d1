"""Which photos a run trains on and which it is watched on, and what is measured on them before it starts."""

import hashlib
import logging
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from glcic_tf import images
from glcic_tf.errors import UserError
from glcic_tf.examples import Photos

_logger = logging.getLogger(__name__)


def find(config, data_dir, val_dir, batch_size):
    """Find the photos to train on and those to watch training on.

    Args:
        config: the run's config, or any object that has its `seed`, `data.validation_photos` and `data.enlarge`.
        data_dir, val_dir: folders; without the second (None), some photos of the first are held out.
        batch_size: the largest one that there will be.

    Returns:
        (Photos, Photos or None), the second with at most `config.data.validation_photos`, None without any.

    Raises:
        UserError: a folder is missing or holds no photos, or there are fewer than one batch.
    """
    paths = images.find_photos(data_dir)
    if val_dir:
        val_paths = spread(images.find_photos(val_dir), config.data.validation_photos)
    else:
        paths, val_paths = split(paths, config.data.validation_photos, config.seed)
    if len(paths) < batch_size:
        raise UserError(
            f"--data_dir={data_dir}: {len(paths)} photos to train on, fewer than one batch of {batch_size}; "
            "add photos or lower config.batch_size."
        )
    _logger.info("%d photos to train on, %d to watch it on", len(paths), len(val_paths))
    return Photos(paths, config.data.enlarge), Photos(val_paths, max_failures=1.0) if val_paths else None


def split(paths, count, seed):
    """Hold out `count` of the photos, at most a tenth: (training paths, held out paths), each in its old order."""
    count = min(count, len(paths) // 10)
    held_out = set(np.random.default_rng(seed).permutation(len(paths))[:count].tolist())
    return (
        [path for i, path in enumerate(paths) if i not in held_out],
        [path for i, path in enumerate(paths) if i in held_out],
    )


def spread(paths, count):
    """Take `count` of the paths, evenly spread over the list; all of them if there are not more."""
    indices = np.linspace(0, len(paths) - 1, min(len(paths), count))
    return [paths[i] for i in indices.astype(int)]


def fingerprint(paths):
    """Hash of which photos there are, to see whether a run goes on with those it began with."""
    return hashlib.sha256("\n".join(path.name for path in paths).encode()).hexdigest()[:16]


def mean_pixel(photos, most, seed, progress=True):
    """Mean colour of the photos, each with the same weight whatever its size, as in training.

    Args:
        photos: a Photos.
        most: measure at most so many, drawn at random.
        seed: of that draw.
        progress: show a progress bar on a terminal.

    Returns:
        (r, g, b) in [0, 1].

    Raises:
        UserError: too many photos cannot be decoded, or all of them.
    """
    from tqdm import tqdm  # only here: whoever is given the mean needs no tqdm

    indices = np.random.default_rng(seed).permutation(len(photos.paths))[:most].tolist()

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
        raise UserError(f"none of {len(indices)} photos can be decoded; point --data_dir elsewhere.")
    return tuple(float(channel) for channel in np.mean(means, axis=0) / 255)
