"""Which photos a run trains on, and which it is watched on.

They come from a folder of photos or from one of shards, on this machine or behind a URL.
"""

import hashlib
import logging

import numpy as np

from glcic_tf.common import storage
from glcic_tf.common.errors import UserError
from glcic_tf.data.examples import Photos
from glcic_tf.data.photos import PhotoFile
from glcic_tf.data.shards import PhotoSequence, Shards, is_shards
from glcic_tf.imaging import image_formats, photo_folders

_logger = logging.getLogger(__name__)


def find(config, data_dir, val_dir, batch_size):
    """Find the photos to train on and those to watch training on.

    Args:
        config: the run's config, or any object that has its `seed` and, in `data`, `validation_photos`, `enlarge` and
            `reduced_decode`.
        data_dir, val_dir: folders of photos, as for `find_photos`; without the second (None), some photos of the first
            are held out.
        batch_size: the largest one that there will be.

    Returns:
        (Photos, Photos or None), the second with at most `config.data.validation_photos`, None without any.

    Raises:
        UserError: a folder is missing, damaged or holds no photos, or there are fewer than one batch.
    """
    paths = find_photos(data_dir)
    if val_dir:
        val_paths = spread(find_photos(val_dir), config.data.validation_photos)
    else:
        paths, val_paths = split(paths, config.data.validation_photos, config.seed)
    if len(paths) < batch_size:
        raise UserError(
            f"--data_dir={data_dir}: {len(paths)} photos to train on, fewer than one batch of {batch_size}; "
            "add photos or lower config.batch_size."
        )
    _logger.info("%d photos to train on, %d to watch it on", len(paths), len(val_paths))
    photos = Photos(paths, config.data.enlarge, reduced_decode=config.data.reduced_decode)
    return photos, Photos(val_paths, max_failures=1.0) if val_paths else None


def find_photos(source):
    """Find the photos of a folder of photos or of shards, in the same order on every machine.

    Args:
        source: path or URL; without shards, photos are found at any depth, as by `photo_folders.find_photos`.

    Returns:
        A shards.PhotoSequence, or a list of photos.PhotoFile. Not empty.

    Raises:
        UserError: the folder is missing, damaged, cannot be listed or holds no photo.
    """
    if is_shards(source):
        return Shards(source).photos()
    if storage.is_remote(source):
        return [PhotoFile(storage.join(source, name).url) for name in photo_names(source)]
    return [PhotoFile(str(path)) for path in photo_folders.find_photos(source)]


def photo_names(folder):
    """List the photos in a folder or behind a URL as `photo_folders.find_photos` does: what it lists, in its order.

    Returns:
        Sorted list of paths from the folder on, as str with slashes. Not empty.

    Raises:
        UserError: as `photo_folders.find_photos`.
    """
    if not storage.is_folder(folder):
        found = "something else" if storage.exists(folder) else "nothing"
        raise UserError(f"{folder}: expected a folder of photos, found {found}; name a folder that exists.")
    names = []
    for relative, folders, files in storage.walk(folder):
        folders[:] = [name for name in folders if name not in photo_folders.THUMBNAIL_FOLDERS]
        names += [relative + name for name in files if name.lower().endswith(image_formats.PHOTO_SUFFIXES)]
    if not names:
        raise UserError(
            f"{folder}: holds no photo; expected files that end in {', '.join(image_formats.PHOTO_SUFFIXES)}."
        )
    names.sort(key=name_order)
    return names


def name_order(name):
    """Sorting key of a path with slashes: folder by folder, as those of pathlib.Path are sorted."""
    return name.replace("/", "\0")


def split(paths, count, seed):
    """Hold out `count` of the photos, at most a tenth: (training paths, held out paths), each in its old order."""
    count = min(count, len(paths) // 10)
    held_out = np.zeros(len(paths), bool)
    held_out[np.random.default_rng(seed).permutation(len(paths))[:count]] = True
    return _select(paths, np.flatnonzero(~held_out)), _select(paths, np.flatnonzero(held_out))


def spread(paths, count):
    """Take `count` of the paths, evenly spread over the list; all of them if there are not more."""
    return _select(paths, np.linspace(0, len(paths) - 1, min(len(paths), count)).astype(int))


def _select(paths, indices):
    if isinstance(paths, PhotoSequence):
        return paths.select(indices)
    return [paths[i] for i in indices]


def fingerprint(paths):
    """Hash of which photos there are, to see whether a run goes on with those it began with.

    It depends on their file names and order alone: a folder and the shards made of it have the same, if all photos of
    the folder are in the shards.
    """
    digest, between = hashlib.sha256(), b""
    if isinstance(paths, PhotoSequence):
        lists = paths.file_names()
    else:
        lists = [[path.name.encode("utf-8", "surrogateescape") for path in paths]]
    for names in lists:
        digest.update(between + b"\n".join(names))
        between = b"\n"
    return digest.hexdigest()[:16]
