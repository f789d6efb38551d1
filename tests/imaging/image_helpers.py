"""Pictures, JPEG and PNG files made by hand."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 96, 128


def ramp(height, width):
    y, x = np.mgrid[0:height, 0:width]
    return np.clip(np.stack([20 + 6 * x, 230 - 8 * y, 90 + 2 * x + 2 * y], axis=-1), 0, 255).astype(np.uint8)


def textured():
    """uint8 [HEIGHT, WIDTH, 3]: smooth, with noise, so that every block has something to encode."""
    return np.clip(ramp(HEIGHT, WIDTH) // 2 + np.random.default_rng(0).integers(0, 60, (HEIGHT, WIDTH, 3)), 0, 255)


def jpeg(picture=None, **settings):
    file = io.BytesIO()
    picture = Image.fromarray(textured().astype(np.uint8)) if picture is None else picture
    picture.save(file, "JPEG", **{"quality": 90, **settings})
    return file.getvalue()


def by_pillow(path):
    return Image.open(io.BytesIO(path.read_bytes()))


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(*chunks, size=(WIDTH, HEIGHT), kind=2):
    """A PNG of `textured()`, in colour (kind 2) or grey (0), with chunks before its pixels."""
    pixels = textured().astype(np.uint8) if kind == 2 else textured().astype(np.uint8)[..., 0]
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def turned(orientation):
    tags = Image.Exif()
    tags[0x0112], tags[0x010F] = orientation, "Maker"
    tags[0x8769] = {0x9003: "2024:05:06 07:08:09", 0xA002: WIDTH, 0xA003: HEIGHT}
    tags[0x8825] = {1: "N", 2: (52.0, 31.0, 12.25)}
    return tags
