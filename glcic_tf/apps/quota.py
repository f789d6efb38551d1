"""What visitors may do: how much they may send and have stored here, each of them and all together."""

import collections
import dataclasses
import threading
import time

from absl import flags


@dataclasses.dataclass(frozen=True)
class Limits:
    """What visitors may do.

    Attributes:
        max_upload_mb: refuse larger files.
        max_megapixels: refuse larger photos and masks before decoding them.
        max_queue: refuse completions while so many wait.
        max_stored_mb: refuse files while so much of visitors' files is kept, or a quarter of it of one visitor.
    """

    max_upload_mb: float = 100
    max_megapixels: float = 100
    max_queue: int = 16
    max_stored_mb: float = 4000

    @property
    def upload_bytes(self):
        """Bytes of a file."""
        return round(self.max_upload_mb * 1e6)

    @property
    def pixels(self):
        """Pixels of a photo."""
        return round(self.max_megapixels * 1e6)

    @property
    def stored_bytes(self):
        """Bytes of all visitors' files."""
        return round(self.max_stored_mb * 1e6)


def define_flags():
    """Define the flags that `limits_from` reads."""
    flags.DEFINE_float("max_upload_mb", 100, "Refuse larger files.", 1, 10_000)
    flags.DEFINE_float("max_megapixels", 100, "Refuse larger photos and masks before decoding them.", 0.01, 268)
    flags.DEFINE_integer("max_queue", 16, "Refuse completions while so many wait.", 1, 1000)
    text = "Refuse files while so many MB of visitors' files are kept, or a quarter of that of one visitor."
    flags.DEFINE_float("max_stored_mb", 4000, text, 1, 1_000_000)


def limits_from(args):
    """Return the Limits that flags name."""
    return Limits(args.max_upload_mb, args.max_megapixels, args.max_queue, args.max_stored_mb)


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
