"""What this machine's processor can do."""

import functools
import re
from pathlib import Path

_BFLOAT16 = {"avx512_bf16", "amx_bf16"}  # as Linux calls them; oneDNN, with which TensorFlow computes, uses these
_CPUINFO = Path("/proc/cpuinfo")


@functools.cache
def has_bfloat16():
    """Whether the CPU computes in bfloat16; where it does not, bfloat16 takes several times as long as float32.

    False where that cannot be read (it can on Linux alone).
    """
    try:
        text = _CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return any(_BFLOAT16 & set(flags.split()) for flags in re.findall(r"^flags\s*:(.*)$", text, re.MULTILINE))
