"""The folder of everything temporary: what visitors upload, what they get, and when it is deleted."""

import os
import secrets
import shutil
import threading
import time
from pathlib import Path

_SWEEP_S = 60  # at most so often
_OWN, _KEPT = "own", "kept"


class Folder:
    """Temporary files of the page.

    Gradio puts uploads right into it, in folders named by a salted hash; the browser sends the canvas anew with every
    button, so they are kept for a shorter time.

    Args:
        path: empty folder; its owner deletes it in the end.
        uploads_s, own_s: how long uploads and files made here are kept.

    Attributes:
        path: pathlib.Path, absolute, without links.
    """

    def __init__(self, path, uploads_s, own_s):
        self.path = Path(path).resolve()
        self._ages = {self.path: uploads_s, self.path / _OWN: own_s}
        self._swept, self._lock = time.monotonic(), threading.Lock()
        for name in (_OWN, _KEPT):
            (self.path / name).mkdir(exist_ok=True)

    def new(self):
        """Return a new folder that nobody can guess the name of: who knows a file's path may read it."""
        self._sweep()
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

    def _make(self, parent):
        folder = self.path / parent / secrets.token_hex(16)
        folder.mkdir()
        return folder

    def _sweep(self):
        with self._lock:
            if time.monotonic() - self._swept < _SWEEP_S:
                return
            self._swept = time.monotonic()
        now = time.time()
        for parent, age_s in self._ages.items():
            for entry in parent.iterdir():
                try:
                    old = entry.name not in (_OWN, _KEPT) and now - entry.stat().st_mtime > age_s
                    if old and entry.is_dir():
                        shutil.rmtree(entry, ignore_errors=True)
                    elif old:
                        entry.unlink()
                except FileNotFoundError:  # Gradio was quicker
                    pass
