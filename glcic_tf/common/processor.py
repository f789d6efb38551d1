"""What this machine's processor can do."""

import functools
import re
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")


@functools.cache
def gains_by_bfloat16():
    """Whether the CPU computes faster in bfloat16 than in float32, by oneDNN's kernels, with which TensorFlow computes.

    It does with AMX, and with AVX-512 BF16 on AMD's processors (Zen 4 and later). Intel's have AVX-512 BF16 beside AMX;
    where a virtual machine hides AMX, a step took 1.5 times as long in bfloat16 as in float32. Without either, bfloat16
    is emulated and takes several times as long. False where that cannot be read (it can on Linux alone).
    """
    try:
        text = _CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags = {flag for line in re.findall(r"^flags\s*:(.*)$", text, re.MULTILINE) for flag in line.split()}
    intel = re.search(r"^vendor_id\s*:\s*GenuineIntel$", text, re.MULTILINE)
    return "amx_bf16" in flags or ("avx512_bf16" in flags and not intel)
