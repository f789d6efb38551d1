"""The folder of everything temporary: what visitors upload, what they get, and when it is deleted."""

import contextlib
import os
import secrets
import shutil
import tempfile
import threading
import time
from pathlib import Path

from glcic_tf.common.errors import UserError

_SWEEP_S = 60
_OWN, _KEPT = "own", "kept"
_PREFIX, _LOCK = "glcic-app-", ".lock"
_making = threading.Lock()


@contextlib.contextmanager
def own_folder():
    """Yield an empty folder, and delete it in the end, with those of servers that ended without doing so."""
    with contextlib.ExitStack() as held:
        with _making:  # else another thread could take one that has no lock yet for one that was left
            for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
                if _is_ours(left) and (lock := _locked(left / _LOCK, "r")):
                    with lock:
                        shutil.rmtree(left, ignore_errors=True)
            folder = held.enter_context(tempfile.TemporaryDirectory(prefix=_PREFIX))
            lock = _locked(Path(folder) / _LOCK, "w")
            if lock:
                held.enter_context(lock)
        yield folder


def _is_ours(folder):
    try:
        return not folder.is_symlink() and folder.is_dir() and folder.stat().st_uid == os.getuid()
    except (OSError, AttributeError):
        return False


def _locked(path, mode):
    """Open a file that nobody else holds a lock on, with a lock; None if somebody does, or there are no locks here."""
    try:
        import fcntl

        file = path.open(mode)
    except (ImportError, OSError):
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


class Folder:
    """Temporary files of the page.

    Gradio puts uploads right into it, in folders named by a salted hash; the browser sends the canvas anew with every
    button, so they are kept for a shorter time.

    Args:
        path: empty folder; its owner deletes it in the end.
        uploads_s, own_s: how long uploads and files made here are kept.
        max_bytes: of all files in it; above it, there is no room for more.

    Attributes:
        path: pathlib.Path, absolute, without links.
    """

    def __init__(self, path, uploads_s, own_s, max_bytes=float("inf")):
        self.path = Path(path).resolve()
        self._ages = {self.path: uploads_s, self.path / _OWN: own_s}
        self._max_bytes, self._bytes = max_bytes, 0
        self._swept, self._lock = time.monotonic(), threading.Lock()
        for name in (_OWN, _KEPT):
            (self.path / name).mkdir(exist_ok=True)

    def new(self):
        """Return a new folder that nobody can guess the name of: who knows a file's path may read it.

        Raises:
            UserError: there is no room.
        """
        if not self.has_room():
            raise UserError("There is no room for more files just now: try again in a while.")
        return self._make(_OWN)

    def kept(self):
        """Return a new folder that is never deleted."""
        return self._make(_KEPT)

    def keep(self, path):
        """Count the age of a file that `new` had a folder for from now on; nothing happens if it is gone."""
        if Path(path).exists():
            os.utime(Path(path).parent)

    def owns(self, path):
        """Whether a path, as a visitor gives it, is that of a file in the folder."""
        try:
            path = Path(path)
            return path.is_absolute() and path.resolve().is_relative_to(self.path) and path.is_file()
        except (OSError, ValueError):  # too long, or with a zero
            return False

    def has_room(self):
        """Whether more may be put into it; what is too old is deleted first."""
        self._sweep()
        return self._bytes < self._max_bytes

    @contextlib.contextmanager
    def sweeping(self):
        """Delete what is too old time and again, also when nobody comes."""
        ended = threading.Event()

        def sweep():
            while not ended.wait(_SWEEP_S):
                self._sweep()

        thread = threading.Thread(target=sweep, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _make(self, parent):
        folder = self.path / parent / secrets.token_hex(16)
        folder.mkdir()
        return folder

    def _sweep(self):
        with self._lock:
            if time.monotonic() - self._swept < _SWEEP_S / 2:
                return
            self._swept = time.monotonic()
        now = time.time()
        for parent, age_s in self._ages.items():
            for entry in parent.iterdir():
                try:
                    old = entry.name not in (_OWN, _KEPT, _LOCK) and now - entry.stat().st_mtime > age_s
                    if old and entry.is_dir():
                        shutil.rmtree(entry, ignore_errors=True)
                    elif old:
                        entry.unlink()
                except FileNotFoundError:  # Gradio was quicker
                    pass
        self._bytes = sum(_size(Path(parent, name)) for parent, _, names in os.walk(self.path) for name in names)


def _size(path):
    try:
        return path.stat().st_size
    except OSError:
        return 0
