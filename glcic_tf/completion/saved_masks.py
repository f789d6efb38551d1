"""Masks that were used, as PNG files beside the results: `glcic complete --save_mask`."""

import contextlib
import shutil
from pathlib import Path

import numpy as np

from glcic_tf.common import files, storage
from glcic_tf.common.errors import UsageError, UserError
from glcic_tf.completion import mask_pairs
from glcic_tf.imaging import images

SUFFIX = ".png"


def paths(place, image, jobs):
    """Return where the masks of some photos go.

    Args:
        place: --save_mask, pathlib.Path or RemotePath: a PNG file or a folder that exists; for a folder, a folder.
        image: the photo, or the folder of the photos.
        jobs: list of (photo, mask, output).

    Returns:
        List of paths.

    Raises:
        UserError: `place` is a file, but `image` a folder.
        UsageError: a mask would take the place of a photo, a mask or a result, or be taken for a photo in the next run;
            or the file is not named as a PNG.
    """
    storage.check_writable(place)
    if not storage.is_folder(image):
        found = [place / _names([Path(image.name)])[0] if storage.is_folder(place) else place]
        _check_suffix(found[0])
    elif storage.exists(place) and not storage.is_folder(place):
        raise UserError(f"--save_mask={place}: is a file, but --image={image} is a folder; name a folder.")
    elif storage.is_same(place, image):
        raise UsageError(f"--save_mask={place}: is the folder of the photos; name another.")
    else:
        found = [place / name for name in _names([photo.relative_to(image) for photo, *_ in jobs])]
    others = {_resolved(path): path for job in jobs for path in job if path}
    taken = next((path for path in found if _resolved(path) in others), None)
    if taken:
        raise UsageError(f"--save_mask={place}: {taken} is a photo, a mask or an output of this run; name another.")
    return found


def _resolved(path):
    return path if storage.is_remote(path) else Path(path).resolve()


def _check_suffix(path):
    """Raise UsageError if a path is not named as a PNG: other formats may not give back what was written."""
    if path.suffix.lower() != SUFFIX:
        found = repr(path.suffix) if path.suffix else "no suffix"
        raise UsageError(f"--save_mask={path}: found {found}; expected a name that ends in {SUFFIX}, or a folder.")


def _names(photos):
    """Name the masks of a folder's photos so that `mask_pairs.pair` finds each again.

    Args:
        photos: relative pathlib.Path, as `mask_pairs.pair` takes them.

    Returns:
        List of relative pathlib.Path: photo.png, or photo.jpg.png for all where a short name would do for two photos.
    """
    short = [photo.with_suffix(SUFFIX) for photo in photos]
    try:
        found = mask_pairs.pair(photos, short) if len(set(short)) == len(short) else None
    except UserError:
        found = None
    return short if found == short else [photo.with_name(photo.name + SUFFIX) for photo in photos]


@contextlib.contextmanager
def saved(path, hole):
    """Write a hole as a mask while its result is written; if that fails, a mask that was not there goes again.

    A file that holds the same mask is left alone: a run that was stopped between a mask and its result goes on.

    Args:
        path: PNG file to write or replace; its folder is created. None: nothing is written.
        hole: bool [height, width].

    Raises:
        UserError: it cannot be written.
    """
    if path is None or _holds(path, hole):
        yield
        return
    there = path.exists()
    files.make_folder(path.parent)
    images.write_image(path, np.where(hole, np.uint8(255), np.uint8(0)))
    try:
        yield
    except BaseException:
        if not there:
            path.unlink(missing_ok=True)
        raise


def check_free(path, hole, overwrite):
    """Raise UserError if a file of another content than a hole's mask is in the way of it; None is no path."""
    if path is not None and path.exists() and not overwrite and not _holds(path, hole):
        raise UserError(f"{path}: exists already, and is not the mask that is used; set overwrite to replace it.")


def _holds(path, hole):
    try:
        return path.exists() and np.array_equal(images.read_mask(path, max(hole.size, 1)), hole)
    except UserError:
        return False


@contextlib.contextmanager
def local_output(path, overwrite):
    """`storage.local_output` of a mask; without `overwrite`, what a URL holds already is brought to that path.

    None is no path.
    """
    if path is None:
        yield None
        return
    with storage.local_output(path, overwrite=True) as here:
        if storage.is_remote(path) and not overwrite and storage.exists(path):
            with storage.local(path) as there:
                shutil.copy(there, here)
        yield Path(here)
