"""Folders to write to, and files that appear under their name only when they are complete."""

import contextlib
import os
import shutil
import threading
from pathlib import Path

from glcic_tf.common.errors import UserError


def make_folder(folder):
    """Create a folder, with those above it; nothing happens if it is there.

    Raises:
        UserError: it cannot be created.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be created ({error.strerror}); choose another place.") from error


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


def printable(name):
    """Return a file's name as text that can be written anywhere: bytes that are no UTF-8 as escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


@contextlib.contextmanager
def replacing_folder(output, overwrite, kind, mark, members):
    """Yield an empty folder beside `output`, and rename it to `output` if all went well; else nothing is left of it.

    Args:
        output: folder; those above it are created. One that is there is replaced if it is empty, or if `overwrite` and
            it holds `mark` and nothing but `members`, so that never something else of the user's is deleted.
        overwrite: whether the user asked for it.
        kind: what such a folder is, for messages: "a SavedModel".
        mark: name of a file that tells such a folder.
        members: names of all files and folders that may be in it.

    Raises:
        UserError: `output` may not be replaced, or the place cannot be written.
    """
    target = Path(output).resolve()  # through links and "."
    temporary = target.parent / f".{os.getpid()}-{threading.get_ident()}.part"
    old = temporary.with_suffix(".old")
    try:
        if target.exists():
            _check_replaceable(output, target, overwrite, kind, mark, members)
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


def _check_replaceable(output, target, overwrite, kind, mark, members):
    if not target.is_dir():
        raise UserError(f"{output}: is a file; expected the name of a folder to write; choose another.")
    names = sorted(path.name for path in target.iterdir())
    if names and not overwrite:
        raise UserError(f"{output}: exists already; add --overwrite to replace it, or choose another --output.")
    if names and not {mark} <= set(names) <= set(members):
        raise UserError(
            f"{output}: holds {', '.join(names[:3])} and is more than {kind}, or none; choose another --output."
        )
