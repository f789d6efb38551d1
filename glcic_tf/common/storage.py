"""Files that commands read and write, on this machine or behind a URL such as s3://bucket/photos.

URLs that TensorFlow's file systems know stay with these; others go through fsspec, without TensorFlow. Either is
imported when the first such URL is met: local paths do without.
"""

import contextlib
import tempfile
import time
from pathlib import Path

from glcic_tf.common import file_systems, web_folders
from glcic_tf.common import files as local_files
from glcic_tf.common.errors import UsageError, UserError, first_line, without_secrets
from glcic_tf.common.remote_path import WEB, RemotePath

_MAX_FILE_BYTES = 2**30  # of one photo or mask behind a URL
_TENSORFLOW = ("file", "gs", "ram")
_TRIES, _WAIT_SECONDS = 3, 1  # of a copy: one refusal must not cost a photo


class UnreachableError(UserError):
    """Storage did not answer as it should, which says nothing of the file: it may do next time."""


def is_remote(path):
    """Whether a path is a URL."""
    return isinstance(path, RemotePath) or "://" in str(path)


def as_path(path):
    """Path or URL as an object: a pathlib.Path, or a RemotePath where it is a URL."""
    return RemotePath(path) if is_remote(path) else Path(path)


def check_local(flag, path, advice):
    """Raise UsageError where a flag that takes a path of this machine alone is given a URL; `advice`: what to do."""
    if is_remote(path):
        raise UsageError(f"{flag}={without_secrets(path)}: is a URL; expected a path of this machine: {advice}.")


def join(folder, name):
    """Path or URL of the file `name` in `folder`: a RemotePath for URLs, else a pathlib.Path."""
    return as_path(folder) / name


def is_inside(path, folder):
    """Whether a path lies in a folder, or is it; links are followed."""
    path, folder = as_path(path), as_path(folder)
    if is_remote(path) or is_remote(folder):
        return isinstance(path, RemotePath) and path.is_relative_to(folder)
    return path.resolve().is_relative_to(folder.resolve())


def is_same(path, other):
    """Whether two paths are those of one folder or file; links are followed."""
    return is_inside(path, other) and is_inside(other, path)


def is_folder(path):
    """Whether there is a folder of this name.

    Raises:
        UserError: a URL cannot be asked.
    """
    with _file_system(path) as (system, path):
        return system.is_folder(path)


def exists(path):
    """Whether there is a file or a folder of this name.

    Raises:
        UserError: a URL cannot be asked.
    """
    with _file_system(path) as (system, path):
        return system.exists(path)


def existing(paths, folder):
    """Return which of the paths there are, as a set; a folder behind a URL is listed once for those in it.

    Raises:
        UserError: it cannot be listed.
    """
    if not is_remote(folder) or len(paths) == 1:
        return {path for path in paths if exists(path)}
    if not exists(folder):
        return set()
    there = {folder / (relative + name) for relative, _, names in walk(folder) for name in names}
    return there.intersection(paths)


def size(path):
    """Length of a file in bytes.

    Raises:
        UserError: it is missing or cannot be read.
    """
    with _file_system(path) as (system, path):
        return system.size(path)


def read(path, start, length):
    """Read `length` bytes of a file from byte `start` on; fewer come where it ends before.

    Raises:
        UserError: it is missing or cannot be read.
    """
    with _file_system(path) as (system, path):
        return system.read(path, start, length)


def files(folder):
    """List the files and folders in a folder: {name: bytes}, where bytes may be None (each would be a request).

    Raises:
        UserError: it is missing or cannot be listed.
    """
    with _file_system(folder) as (system, folder):
        return system.names(folder)


def walk(folder):
    """Walk down a folder, without names that start with a dot; links to folders are not followed.

    Yields:
        (relative, folders, names): a folder's path from `folder` on, "" or "a/b/", and the names of the folders and of
        the files in it; folders that the caller takes out of the list are not walked into.

    Raises:
        UserError: a folder is missing or cannot be listed, or holds more than can be walked through.
    """
    with _file_system(folder) as (system, folder):
        for relative, folders, names in system.walk(folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            yield relative + "/" if relative else "", folders, [name for name in names if not name.startswith(".")]


@contextlib.contextmanager
def local(path):
    """Yield a pathlib.Path to read a file from: its own, or that of a copy of what a URL gives.

    The copy is deleted afterwards. In a UserError that is raised meanwhile the URL stands in place of its name.

    Raises:
        UserError: the file behind a URL is missing, cannot be read or is too long.
    """
    if not is_remote(path):
        yield Path(path)
        return
    with _named_as(path, "read") as staged:
        for left in reversed(range(_TRIES)):
            try:
                with _file_system(path) as (system, url):
                    system.copy(url, staged, _MAX_FILE_BYTES)
                break
            except UnreachableError as error:
                if not left or isinstance(error.__cause__, (FileNotFoundError, PermissionError)):
                    raise
                time.sleep(_WAIT_SECONDS)
        yield staged


@contextlib.contextmanager
def local_output(path, overwrite):
    """Yield a pathlib.Path to write a file to: its own, or one whose contents go to a URL if all went well.

    Raises:
        UserError: the URL cannot be written, or holds something already and `overwrite` is not set.
    """
    if not is_remote(path):
        yield Path(path)
        return
    if not overwrite and exists(path):
        raise UserError(f"{as_path(path)}: exists already; set overwrite to replace it.")
    with _named_as(path, "written") as staged:
        yield staged
        upload(staged, path)


@contextlib.contextmanager
def replacing_folder(output, overwrite, kind, mark, members):
    """`files.replacing_folder`, and for a URL likewise: its files are written when all went well, `mark` last.

    A folder behind a URL cannot change at once: a write that fails may leave some files of the old one.

    Raises:
        UserError: as that does.
    """
    if not is_remote(output):
        with local_files.replacing_folder(output, overwrite, kind, mark, members) as temporary:
            yield temporary
        return
    output = as_path(output)
    check_writable(output)
    if exists(output):
        names = sorted(files(output)) if is_folder(output) else None
        local_files.check_replaceable(output, names, overwrite, kind, mark, members)
    with tempfile.TemporaryDirectory(prefix="glcic-") as temporary:
        yield Path(temporary)
        for source in sorted(Path(temporary).iterdir(), key=lambda path: path.name == mark):
            upload(source, output / source.name)


def upload(source, path):
    """Copy a file of this machine to a URL.

    Raises:
        UserError: it cannot be written.
    """
    with _file_system(path, "written") as (system, path):
        system.check_writable(path)
        system.write(source, path)


def check_writable(path):
    """Raise UserError where a URL is of a kind that is never written to; whether it may be shows later."""
    if is_remote(path):
        with _file_system(path, "written") as (system, path):
            system.check_writable(path)


@contextlib.contextmanager
def _named_as(path, use):
    """Yield a temporary path; where a UserError names it, the URL takes its place."""
    path = as_path(path)
    suffix = path.suffix if use == "written" else ""  # that of an output names its format
    with tempfile.TemporaryDirectory(prefix="glcic-") as folder:
        staged = Path(folder, f"file{suffix}")
        try:
            yield staged
        except UserError as error:
            error.args = (str(error).replace(str(staged), str(path)),)
            raise


@contextlib.contextmanager
def _file_system(path, use="read"):
    """Yield what reads a path, and the path for it; whatever fails is raised as a UserError."""
    if not is_remote(path):
        try:
            yield file_systems.Local(), path
        except OSError as error:
            raise UserError(
                f"{error.filename or path}: cannot be {use} ({error.strerror or error}); see that it is there and that "
                "its permissions allow it."
            ) from error
        return
    path = as_path(path)
    system = _of(path)
    try:
        yield system, path
    except UserError:
        raise
    except Exception as error:  # each driver raises errors of its own
        reason = without_secrets(error).replace(path.url, str(path))
        missing = "there is nothing" if use == "read" else "there is no such bucket or folder"
        reason = missing if isinstance(error, FileNotFoundError) else first_line(reason or repr(error))
        raise UnreachableError(
            f"{path}: cannot be {use} ({reason}); see that the URL is right and that you may "
            f"{'read' if use == 'read' else 'write'} it."
        ) from error


def _of(path):
    """Choose what reads a URL; what is not installed is named."""
    if path.scheme in _TENSORFLOW:
        try:
            return file_systems.TensorFlow()
        except ImportError as error:
            raise UserError(f"{path}: reading a URL needs TensorFlow; install it, or copy the files here.") from error
    try:
        return web_folders.Web() if path.scheme in WEB else file_systems.Fsspec(path)
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("fsspec", "aiohttp"):
            from glcic_tf.common import cli  # not above: training data are read without absl too

            raise UserError(
                f"{path}: the package {package} is not installed; run: {cli.install_line('storage')}"
            ) from error
        raise UserError(f"{path}: a driver for {path.scheme}:// is not installed ({first_line(error)}).") from error
    except ValueError as error:
        known = "gs://, s3://, https:// and what else fsspec has drivers for"
        raise UserError(f"{path}: {path.scheme}:// is not known; expected {known}.") from error
