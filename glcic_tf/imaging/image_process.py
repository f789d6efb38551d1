"""Decoding in a process of its own, which may crash, hang or take all memory without harm to this one.

The other process is not trusted afterwards either: what comes back from it is checked, and is data alone.
"""

import base64
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np

from glcic_tf.imaging import image_decoding, image_formats
from glcic_tf.imaging.image_decoding import BrokenImageError, Decoded

_TIMEOUT_S = 60
_BYTES_PER_PIXEL = 24
_BASE_BYTES = 2 * 2**30  # of address space, for the libraries; what is touched of it is a tenth
_MAX_HEAD_BYTES = 2**27
_DTYPES = {"uint8": np.uint8, "uint16": np.uint16}


def decode(data, max_pixels):
    """Do `image_decoding.decode` in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__, str(max_pixels)],
            input=data,
            env=environment,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BrokenImageError(f"takes more than {_TIMEOUT_S} s to decode; save it anew.") from error
    if done.returncode:
        raise BrokenImageError("is broken: its decoder ended without a result; get a whole copy.")
    try:
        return _received(done.stdout, max_pixels)
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        raise BrokenImageError("is broken: its decoder gave something other than an image.") from error


def _received(answer, max_pixels):
    (length,) = struct.unpack_from(">I", answer)
    head = json.loads(answer[4 : 4 + length])
    if "error" in head:
        raise BrokenImageError(str(head["error"]))
    height, width, channels = head["shape"]
    if height * width > max_pixels or channels not in (1, 3, 4):
        raise ValueError(f"an image of {height} x {width} x {channels}")
    pixels = np.frombuffer(bytearray(memoryview(answer)[4 + length :]), _DTYPES[head["dtype"]])
    carried = {
        name: base64.b64decode(value["bytes"]) if isinstance(value, dict) else value
        for name, value in head["carried"].items()
    }
    return Decoded(
        pixels.reshape(height, width, channels),
        next(f for f in image_formats.FORMATS if f.name == head["format"]),
        carried,
        bool(head["turned"]),
        int(head["pictures"]),
    )


def _sent(decoded):
    head = {
        "shape": decoded.pixels.shape,
        "dtype": str(decoded.pixels.dtype),
        "format": decoded.format.name,
        "turned": decoded.turned,
        "pictures": decoded.pictures,
        "carried": {
            name: {"bytes": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
            for name, value in decoded.carried.items()
        },
    }
    return head, decoded.pixels


def _main():
    max_pixels = int(sys.argv[1])
    _limit_memory(_BASE_BYTES + _BYTES_PER_PIXEL * max_pixels)
    try:
        head, pixels = _sent(image_decoding.decode(sys.stdin.buffer.read(), max_pixels, expendable=True))
    except BrokenImageError as error:
        head, pixels = {"error": str(error)}, b""
    head = json.dumps(head).encode()
    sys.stdout.buffer.write(struct.pack(">I", len(head)) + head)
    sys.stdout.buffer.write(pixels)


def _limit_memory(most):
    try:
        import resource  # where there is one
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))


if __name__ == "__main__":
    _main()
