"""The photos that are at work, each known by a token that only its own visitor's session holds."""

import contextlib
import secrets
import threading
import time

from glcic_tf.common.errors import UserError


class Photos:
    """Photos at work, of several visitors.

    Args:
        max_bytes: refuse a photo when those at work take so much memory.
        idle_s: forget a photo that nothing was done with for so long.
    """

    def __init__(self, max_bytes, idle_s):
        self._max_bytes, self._idle_s = max_bytes, idle_s
        self._photos = {}  # token -> [photo, time of its last use]
        self._lock = threading.Lock()

    def check_room(self):
        """Raise a UserError if no more photo can be taken now."""
        with self._lock:
            now = time.monotonic()
            self._photos = {t: entry for t, entry in self._photos.items() if now - entry[1] < self._idle_s}
            if sum(photo.nbytes for photo, _ in self._photos.values()) >= self._max_bytes:
                raise UserError("Too many photos are open on this page just now: try again in a while.")

    def add(self, photo):
        """Take a photo and return its token."""
        token = secrets.token_urlsafe(16)
        with self._lock:
            self._photos[token] = [photo, time.monotonic()]
        return token

    @contextlib.contextmanager
    def using(self, token):
        """Yield a photo that nobody else uses meanwhile.

        Raises:
            UserError: it was forgotten.
        """
        with self._lock:
            entry = self._photos.get(token)
            if entry is None:
                raise UserError("This photo is no longer open, as after hours without use: load it again.")
            entry[1] = time.monotonic()
        with entry[0].lock:
            yield entry[0]

    def drop(self, token):
        """Forget a photo; nothing happens if there is none."""
        with self._lock:
            self._photos.pop(token, None)
