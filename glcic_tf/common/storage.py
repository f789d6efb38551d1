"""Files that training reads, on this machine or behind a URL such as gs://bucket/photos.

TensorFlow's file systems (tf.io.gfile) read URLs. It is imported when the first URL is met: local paths do without it.
"""

import contextlib
import os
from pathlib import Path

from glcic_tf.common import files as local_files
from glcic_tf.common.errors import UserError, first_line


def is_remote(path):
    """Whether a path is a URL, which only TensorFlow can read."""
    return "://" in str(path)


def join(folder, name):
    """Path or URL of the file `name` in `folder`: a str for URLs, else a pathlib.Path."""
    return f"{str(folder).rstrip('/')}/{name}" if is_remote(folder) else Path(folder, name)


def is_folder(path):
    """Whether there is a folder of this name.

    Raises:
        UserError: a URL cannot be asked.
    """
    if not is_remote(path):
        return Path(path).is_dir()
    with _as_user_errors(path) as gfile:
        return gfile.isdir(str(path))


def exists(path):
    """Whether there is a file or a folder of this name.

    Raises:
        UserError: a URL cannot be asked.
    """
    if not is_remote(path):
        return Path(path).exists()
    with _as_user_errors(path) as gfile:
        return gfile.exists(str(path))


def size(path):
    """Length of a file in bytes.

    Raises:
        UserError: it is missing or cannot be read.
    """
    with _as_user_errors(path) as gfile:
        return gfile.stat(str(path)).length if gfile else os.stat(path).st_size


def read(path, start=0, length=None):
    """Read `length` bytes of a file from byte `start` on, or to its end; fewer come where it ends before.

    Raises:
        UserError: it is missing or cannot be read.
    """
    with _as_user_errors(path) as gfile:
        if gfile is None:
            with local_files.open_regular(path) as file:
                file.seek(start)
                return file.read(-1 if length is None else length)
        with gfile.GFile(str(path), "rb") as file:
            file.seek(start)
            return file.read(-1 if length is None else length)


def copy(path, target):
    """Copy a file to the local file `target`, which is replaced.

    Raises:
        UserError: it is missing or cannot be read, or `target` cannot be written.
    """
    with _as_user_errors(path) as gfile:
        if gfile:
            gfile.copy(str(path), str(target), overwrite=True)
        else:
            Path(target).write_bytes(Path(path).read_bytes())


def files(folder):
    """List the files and folders in a folder: {name: bytes}, where a URL's lengths are None (each would be a request).

    Raises:
        UserError: it is missing or cannot be listed.
    """
    with _as_user_errors(folder) as gfile:
        if gfile:
            return {name.rstrip("/"): None for name in gfile.listdir(str(folder))}
        return {entry.name: entry.stat().st_size for entry in os.scandir(folder)}


def walk(folder):
    """Walk down a folder, without names that start with a dot; links to folders are not followed.

    Yields:
        (relative, names): a folder's path from `folder` on, "" or "a/b/", and the names of the files in it.

    Raises:
        UserError: a folder is missing or cannot be listed.
    """
    with _as_user_errors(folder) as gfile:
        root = str(folder).rstrip("/")
        for parent, folders, names in gfile.walk(root, onerror=_raise) if gfile else os.walk(root, onerror=_raise):
            folders[:] = [name for name in folders if not name.startswith(".")]
            relative = str(parent)[len(root) :].strip("/")
            yield relative + "/" if relative else "", [name for name in names if not name.startswith(".")]


def _raise(error):
    raise error


@contextlib.contextmanager
def _as_user_errors(path):
    """Yield tf.io.gfile for a URL and None for a local path; whatever fails is raised as a UserError."""
    if not is_remote(path):
        try:
            yield None
        except OSError as error:
            raise UserError(
                f"{error.filename or path}: cannot be read ({error.strerror or error}); see that it is there and that "
                "its permissions allow it."
            ) from error
        return
    try:
        import tensorflow as tf
    except ImportError as error:
        raise UserError(f"{path}: reading a URL needs TensorFlow; install it, or copy the files here.") from error
    try:
        yield tf.io.gfile
    except (OSError, tf.errors.OpError) as error:
        raise UserError(
            f"{path}: cannot be read ({first_line(error)}); see that the URL is right and that you may read it."
        ) from error
