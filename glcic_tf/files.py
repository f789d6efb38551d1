"""Folders to write to, and files that appear under their name only when they are complete."""

import contextlib
import os
import threading
from pathlib import Path

from glcic_tf.errors import UserError


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
