"""Where files can lie: this machine, what TensorFlow reads, and what fsspec and its drivers read.

`storage` chooses among these by the path and is what the rest of the package calls. All three have the same methods,
and raise whatever their libraries do. `web_folders` is the fourth.
"""

import contextlib
import logging
import os
import stat

from glcic_tf.common import files as local_files
from glcic_tf.common.errors import UserError

_MAX_FOLDERS, _MAX_DEPTH, _MAX_NAMES = 100_000, 64, 20_000_000  # of a walk: a server could make up more for ever
_CHUNK_BYTES = 2**20
_ATOMIC = ("gs", "gcs", "s3", "s3a", "abfs", "abfss", "az")  # object stores: what was not sent whole is not there


class Local:
    """Files of this machine, by paths."""

    def is_folder(self, path):
        """Whether there is a folder of this name."""
        return stat.S_ISDIR(self._mode(path))

    def exists(self, path):
        """Whether there is a file or a folder of this name."""
        return bool(self._mode(path))

    def _mode(self, path):
        """A path's mode; 0 if there is nothing."""
        try:
            return os.stat(path).st_mode
        except PermissionError as error:  # there may be something
            raise UserError(local_files.told_of_permission(error)) from error
        except (OSError, ValueError):  # ValueError: a NUL in the name
            return 0

    def size(self, path):
        """Length of a file in bytes."""
        return os.stat(path).st_size

    def read(self, path, start, length):
        """Read `length` bytes from byte `start` on."""
        with local_files.open_regular(path) as file:
            file.seek(start)
            return file.read(length)

    def names(self, folder):
        """{name: bytes} of what is right in a folder."""
        return {entry.name: entry.stat().st_size for entry in os.scandir(folder)}

    def walk(self, folder):
        """Yield (folder from `folder` on, names of its folders, which may be changed, names of its files)."""
        root = str(folder).rstrip("/")
        for parent, folders, names in os.walk(root, onerror=_raise):
            yield parent[len(root) :].strip("/"), folders, names


class TensorFlow:
    """URLs that tf.io.gfile reads. See `Local` for the methods."""

    def __init__(self):
        import tensorflow as tf

        self._gfile, self._beyond_end = tf.io.gfile, tf.errors.OutOfRangeError

    def is_folder(self, path):  # noqa: D102
        return self._gfile.isdir(path.url)

    def exists(self, path):  # noqa: D102
        return self._gfile.exists(path.url)

    def size(self, path):  # noqa: D102
        return self._gfile.stat(path.url).length

    def read(self, path, start, length):  # noqa: D102
        with self._gfile.GFile(path.url, "rb") as file:
            try:
                file.seek(start)
            except self._beyond_end:
                return b""
            return file.read(length)

    def copy(self, path, target, max_bytes):
        """Copy to the local file `target`."""
        check_length(path, self.size(path), max_bytes)
        self._gfile.copy(path.url, str(target), overwrite=True)

    def names(self, folder):  # noqa: D102
        return {name.rstrip("/"): None for name in self._gfile.listdir(folder.url)}

    def walk(self, folder):  # noqa: D102
        root = folder.url.rstrip("/")
        for parent, folders, names in self._gfile.walk(root, onerror=_raise):
            yield str(parent)[len(root) :].strip("/"), folders, names

    def check_writable(self, path):
        """Raise UserError where nothing can ever be written."""

    def write(self, source, path):
        """Copy the local file `source` to a URL, where it appears complete; the folder need not exist."""
        self._gfile.makedirs(path.parent.url)
        if path.scheme in _ATOMIC:
            self._gfile.copy(str(source), path.url, overwrite=True)
            return
        part = path.parent / f".{path.name}.part"
        try:
            self._gfile.copy(str(source), part.url, overwrite=True)
            self._gfile.rename(part.url, path.url, overwrite=True)
        except BaseException:
            with contextlib.suppress(Exception):
                self._gfile.remove(part.url)
            raise


class Fsspec:
    """URLs that fsspec or one of its drivers reads. See `Local` and `TensorFlow` for the methods."""

    def __init__(self, path):
        from fsspec.core import url_to_fs

        for driver in ("aiobotocore", "botocore"):  # they tell where they found an account
            logging.getLogger(driver).setLevel(logging.WARNING)
        self._url_to_fs = url_to_fs
        self._opened(path)  # is there a driver?

    def _opened(self, path):
        return self._url_to_fs(path.url)  # fsspec keeps one file system for each process and account

    def is_folder(self, path):  # noqa: D102
        fs, name = self._opened(path)
        return fs.isdir(name)

    def exists(self, path):  # noqa: D102
        fs, name = self._opened(path)
        return fs.exists(name)

    def size(self, path):  # noqa: D102
        fs, name = self._opened(path)
        return fs.info(name)["size"]

    def read(self, path, start, length):  # noqa: D102
        fs, name = self._opened(path)
        end = min(start + length, fs.info(name)["size"])
        return fs.cat_file(name, start, end) if start < end else b""

    def copy(self, path, target, max_bytes):  # noqa: D102
        fs, name = self._opened(path)
        size = fs.info(name)["size"]
        check_length(path, size, max_bytes)
        with fs.open(name, "rb") as source:
            save(path, source, target, size, max_bytes)

    def names(self, folder):  # noqa: D102
        return {name: size for name, _, size in self.listed(folder)}

    def walk(self, folder):  # noqa: D102
        return walk(self, folder)

    def listed(self, folder):
        """List a folder: [(name, whether it is a folder, bytes or None)]."""
        fs, name = self._opened(folder)
        above = name.strip("/") + "/" if name.strip("/") else ""
        found = []
        for entry in fs.ls(name, detail=True):
            inside = entry["name"].strip("/")
            if inside + "/" == above:  # the folder itself, as an empty object
                continue
            check_name(folder, inside.removeprefix(above))
            found.append((inside.removeprefix(above), entry["type"] == "directory", entry.get("size")))
        return found

    def check_writable(self, path):  # noqa: D102
        pass

    def write(self, source, path):  # noqa: D102
        if path.scheme in _ATOMIC:
            self._put(source, path)
            return
        part = path.parent / f".{path.name}.part"
        (fs, part_name), (_, name) = self._opened(part), self._opened(path)
        try:
            self._put(source, part)
            fs.mv(part_name, name)
        except BaseException:
            with contextlib.suppress(Exception):
                fs.rm_file(part_name)
            raise

    def _put(self, source, path):
        fs, name = self._opened(path)
        try:
            fs.put_file(str(source), name)
        except FileNotFoundError:  # where folders are more than names; a bucket that is not there is a slip
            if not fs.exists(name[: name.find("/", 1)]):
                raise
            fs.makedirs(self._opened(path.parent)[1], exist_ok=True)
            fs.put_file(str(source), name)


def walk(file_system, folder):
    """Walk down a folder as `Local.walk` does, by `file_system.listed`; what was made up for ever is refused."""
    waiting, folders_left, names_left = [("", 0)], _MAX_FOLDERS, _MAX_NAMES
    while waiting:
        relative, depth = waiting.pop()
        listed = file_system.listed(folder / relative if relative else folder)
        folders = [name for name, is_folder, _ in listed if is_folder]
        folders_left, names_left = folders_left - 1, names_left - len(listed)
        if folders_left < 0 or names_left < 0 or depth > _MAX_DEPTH:
            raise UserError(
                f"{folder}: holds more than {_MAX_FOLDERS} folders, {_MAX_NAMES} names or {_MAX_DEPTH} levels; name a "
                "part of it."
            )
        yield relative, folders, [name for name, is_folder, _ in listed if not is_folder]
        waiting += [(f"{relative}/{name}" if relative else name, depth + 1) for name in folders]


def check_name(folder, name):
    """Raise UserError where a listing gives a name that would lead out of the folder."""
    if name in ("", ".", "..") or "/" in name or "\0" in name or "::" in name:
        raise UserError(f"{folder}: lists {name[:100]!r}, which is not a name of a file in it; remove or rename that.")


def check_length(path, length, max_bytes):
    """Raise UserError where a file is longer than it may be; nothing where its length is not known (None)."""
    if length is not None and length > max_bytes:
        raise UserError(f"{path}: has {length} bytes; expected a file of at most {max_bytes}.")


def save(path, source, target, length, max_bytes):
    """Write what a file object gives to a local file: no more than it may have, no less than it should have."""
    written = 0
    with open(target, "wb") as file:
        while chunk := source.read(_CHUNK_BYTES):
            written += len(chunk)
            check_length(path, written, max_bytes)
            file.write(chunk)
    if length not in (None, written):
        raise OSError(f"gave {written} bytes instead of {length}")


def _raise(error):
    raise error
