"""How much visitors may have stored here: each of them, and all together."""

import collections
import threading
import time


class Quota:
    """Counts bytes that are kept for a time. May be used from several threads.

    Args:
        max_bytes: of all visitors together.
        each_bytes: of one.
        keep_s: how long what was sent is kept, and counts.
    """

    def __init__(self, max_bytes, each_bytes, keep_s):
        self._max_bytes, self._each_bytes, self._keep_s = max_bytes, each_bytes, keep_s
        self._taken = collections.deque()  # (time, visitor, bytes), oldest first
        self._held = collections.Counter()
        self._lock = threading.Lock()

    def take(self, visitor, count):
        """Count `count` bytes of a visitor, a hashable.

        Returns:
            None, or "each" or "all": what would be exceeded; then nothing is counted.
        """
        now = time.monotonic()
        with self._lock:
            while self._taken and now - self._taken[0][0] > self._keep_s:
                _, old, given_back = self._taken.popleft()
                self._held[old] -= given_back
                if not self._held[old]:
                    del self._held[old]
            if self._held[visitor] + count > self._each_bytes:
                return "each"
            if self._held.total() + count > self._max_bytes:
                return "all"
            self._taken.append((now, visitor, count))
            self._held[visitor] += count
            return None
