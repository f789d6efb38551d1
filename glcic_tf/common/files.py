"""Files that are safe to open, folders to write to, and files that appear only when they are complete."""

import contextlib
import os
import shutil
import stat
import threading
from pathlib import Path

from glcic_tf.common.errors import UserError

START_BYTES = 4096


def make_folder(folder):
    """Create a folder, with those above it; nothing happens if it is there.

    Raises:
        UserError: it cannot be created.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be created ({error.strerror}); choose another place.") from error


def with_home(path):
    """Return a path with the home folder in place of "~" at its beginning; a str.

    Raises:
        UserError: there is no such home folder.
    """
    expanded = os.path.expanduser(path)
    if str(expanded).startswith("~"):
        raise UserError(f"{path}: there is no home folder for ~ to stand for; write the whole path.")
    return expanded


def cache_folder(kind):
    """Return the folder of this package's in the user's cache that files of one kind are kept in; it need not exist.

    Raises:
        UserError: there is no home folder that it could be in.
    """
    import platformdirs

    folder = platformdirs.user_cache_path("glcic_tf", appauthor=False) / kind
    if not folder.is_absolute():
        raise UserError(f"there is no home folder to keep {kind} in; set XDG_CACHE_HOME, or name a file.")
    return folder


def open_regular(path, expected="a file"):
    """Open a file for reading, binary, if it is one: devices, pipes and sockets could be read for ever, or wait.

    Args:
        path: the file's path.
        expected: what it should be, for messages: "an image file".

    Returns:
        A binary file object, to be closed by the caller.

    Raises:
        UserError: it is missing, cannot be read, or is not a regular file.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UserError(f"{path}: is {_kind(os.stat(path).st_mode)}; expected {expected}.")
        # What the name stands for may have changed meanwhile: this waits for nobody, and looks again.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        file = os.fdopen(descriptor, "rb")
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            file.close()
            raise UserError(f"{path}: is not a regular file; expected {expected}.")
        return file
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or "there is no such name"
        raise UserError(f"{printable(path)}: cannot be read ({reason}); expected {expected}.") from error


def total_bytes(path):
    """Return how many bytes a file has, or all files of a folder together."""
    path = Path(path)
    return sum(p.stat().st_size for p in ([path] if path.is_file() else path.rglob("*")) if p.is_file())


def check_regular(path, expected="a file"):
    """Check that a path that a library is to open is one that `open_regular` would open. Raises as that does."""
    open_regular(path, expected).close()


def read_bytes(path, max_bytes, expected="a file", check_start=None):
    """Read a file whole.

    Args:
        path, expected: as for `open_regular`.
        max_bytes: the most that it may have.
        check_start: function of its first START_BYTES, which raises before the rest is read.

    Raises:
        UserError: as `open_regular`, or it is longer.
    """
    with open_regular(path, expected) as file:
        try:
            start, length = file.read(START_BYTES), os.fstat(file.fileno()).st_size
            if start and check_start:
                check_start(start)
            if length > max_bytes:
                raise UserError(f"{path}: has {length} bytes; expected {expected} of at most {max_bytes}.")
            data = start + file.read(max(length - len(start), 0) + 1)
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); expected {expected}.") from error
    if len(data) > max(length, START_BYTES):  # as what the kernel makes up, perhaps for ever
        raise UserError(f"{path}: grows while it is read; expected {expected}.")
    return data


def _kind(mode):
    kinds = {stat.S_ISDIR: "a folder", stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket"}
    return next((name for test, name in kinds.items() if test(mode)), "a device")


@contextlib.contextmanager
def replacing(path):
    """Yield a temporary path beside `path`, with the same suffix, and rename it to `path` if all went well.

    Raises:
        UserError: the place cannot be written. Whatever happens, no temporary file is left.
    """
    path = Path(path)
    temporary = path.parent / f".{os.getpid()}-{threading.get_ident()}.part{path.suffix}"
    try:
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error}); choose another place.") from error


def told_of_permission(error):
    """Return the line for a PermissionError that names a path: what must be allowed, the folder above it, or itself."""
    path = Path(os.fsdecode(error.filename))
    effective = os.access in os.supports_effective_ids
    for folder in reversed(path.parents):
        if not os.access(folder, os.X_OK, effective_ids=effective):
            return f"{printable(folder)}: cannot be searched ({error.strerror}); see that its permissions allow it."
    return f"{printable(path)}: cannot be used ({error.strerror}); see that its permissions allow it."


def printable(name):
    """Return a file's name as text that can be written anywhere: bytes that are not UTF-8 become escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


@contextlib.contextmanager
def replacing_folder(output, overwrite, kind, mark, members):
    """Yield an empty folder beside `output`, and rename it to `output` if all went well; else nothing is left of it.

    Args:
        output: folder; those above it are created. One that is there is replaced if it is empty, or if `overwrite` and
            it holds `mark` and nothing but `members`, so that nothing else of the user's is ever deleted.
        overwrite: whether the user asked for it.
        kind: what such a folder is, for messages: "a SavedModel".
        mark: name of a file by which such a folder is known.
        members: names of all files and folders that may be in it.

    Raises:
        UserError: `output` may not be replaced, or the place cannot be written.
    """
    target = Path(output).resolve()  # through links and "."
    temporary = target.parent / f".{os.getpid()}-{threading.get_ident()}.part"
    old = temporary.with_suffix(".old")
    try:
        if target.exists():
            names = sorted(path.name for path in target.iterdir()) if target.is_dir() else None
            check_replaceable(output, names, overwrite, kind, mark, members)
        make_folder(target.parent)
        temporary.mkdir()
        try:
            yield temporary
            if target.exists():
                target.rename(old)
            temporary.rename(target)
        finally:
            if old.exists() and not target.exists():
                old.rename(target)
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise UserError(f"{output}: cannot be written ({error.strerror or error}); choose another place.") from error


def check_replaceable(output, names, overwrite, kind, mark, members):
    """Check that a folder that exists may be replaced, as `replacing_folder` says.

    Args:
        output, overwrite, kind, mark, members: as there.
        names: list of what is in it; None: it is a file.

    Raises:
        UserError: it may not.
    """
    if names is None:
        raise UserError(f"{output}: is a file; expected the name of a folder to write; choose another.")
    if names and not overwrite:
        raise UserError(f"{output}: exists already; add --overwrite to replace it, or choose another --output.")
    if names and not {mark} <= set(names) <= set(members):
        raise UserError(f"{output}: holds {', '.join(names[:3])} and is not {kind} alone; choose another --output.")
