"""Turn one photo file into what a shard holds of it: the work of one process among many."""

import dataclasses
import hashlib
import os
import typing
import zlib

import cv2
import numpy as np

from glcic_tf.common import storage
from glcic_tf.common.errors import UserError
from glcic_tf.data import shards
from glcic_tf.data.examples import MAX_ASPECT
from glcic_tf.data.prepare import tfrecords
from glcic_tf.imaging import images

DIGEST_BYTES = 16
_MAX_EXTRA_BYTES = 2**16  # a JPEG is kept as it is with no more than its raw pixels and this


class Settings(typing.NamedTuple):
    """What decides how a photo goes into a shard.

    Attributes:
        short_side_px: longest that a shorter edge may be; longer ones are shrunk to it, none is enlarged.
        jpeg_quality: the quality of JPEGs that are written, 1 to 100.
        keep_progressive: keep small progressive JPEGs as they are, as baseline ones are: their pixels stay equal, and
            decoding them takes more than twice the time.
        max_pixels: skip photos that are larger.
    """

    short_side_px: int = 384
    jpeg_quality: int = 95
    keep_progressive: bool = False
    max_pixels: int = images.MAX_PIXELS


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A photo as it goes into a shard.

    Attributes:
        record: bytes of its TFRecord, which end with the JPEG and records.FOOTER_BYTES.
        length, crc32: length and checksum of the JPEG.
        height, width: px, of the JPEG.
        mean: its mean colour, (r, g, b), 0 to 255.
        digest: hash of the file's decoded pixels before any resizing, the same for photos that look the same.
        copied: whether the JPEG is the file itself.
    """

    record: bytes
    length: int
    crc32: int
    height: int
    width: int
    mean: tuple
    digest: bytes
    copied: bool


def prepare_all(folder, names, settings):
    """Do `prepare` for some photos of a folder.

    Returns:
        List with a Prepared or, where one cannot be used, the reason as one line.

    Raises:
        UnreachableError: storage behind a URL does not answer.
    """
    return [_prepare_or_reason(folder, name, settings) for name in names]


def _prepare_or_reason(folder, name, settings):
    path = storage.join(folder, name)
    try:
        with storage.local(path) as local:
            return prepare(local, os.fsencode(name), settings)
    except storage.UnreachableError:  # says nothing of the photo
        raise
    except UserError as error:  # without the folder: the same on every machine
        return str(error).removeprefix(f"{path}: ")


def prepare(path, name, settings):
    """Make what a shard holds of a photo.

    Args:
        path: the file.
        name: bytes, what it is called in the shard.
        settings: Settings.

    Returns:
        Prepared.

    Raises:
        UserError: the file cannot be read or used.
    """
    photo = images.read_photo(path, settings.max_pixels)
    height, width = photo.shape[:2]
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise UserError(f"{path}: is a strip of {width} x {height} px; expected at most {MAX_ASPECT}:1; leave it out.")
    digest = hashlib.blake2b(np.array(photo.shape, "<u4").tobytes(), digest_size=DIGEST_BYTES)
    digest.update(photo)
    small = min(height, width) <= settings.short_side_px
    jpeg = _as_it_is(path, photo, settings.keep_progressive) if small else None
    copied, pixels = jpeg is not None, photo
    if not copied:
        jpeg = _encode(_shrink(photo, settings.short_side_px), settings.jpeg_quality)
        pixels = shards.decode(jpeg) if jpeg else None
        if pixels is None:
            raise UserError(f"{path}: has {width} x {height} px, more than a JPEG can hold; leave it out.")
    height, width = pixels.shape[:2]
    return Prepared(
        record=tfrecords.record(name, jpeg, height, width),
        length=len(jpeg),
        crc32=zlib.crc32(jpeg),
        height=height,
        width=width,
        mean=cv2.mean(pixels)[:3],
        digest=digest.digest(),
        copied=copied,
    )


def _as_it_is(path, photo, keep_progressive):
    """Return the file's bytes if a shard may hold them: a plain JPEG whose pixels are the photo's; else None."""
    data = path.read_bytes()
    if not is_plain_jpeg(data, keep_progressive) or len(data) > photo.nbytes + _MAX_EXTRA_BYTES:
        return None
    if b"Exif" not in data:
        return data
    pixels = shards.decode(data)  # EXIF's turn is not followed in shards: what is turned is encoded anew
    return data if pixels is not None and np.array_equal(pixels, photo) else None


def is_plain_jpeg(data, progressive=False):
    """Whether bytes begin as a baseline JPEG of three components of 8 bit, or such a progressive one if allowed."""
    position = 2
    if data[:2] != b"\xff\xd8":
        return False
    while position + 10 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            return (
                marker in (0xC0, 0xC2 if progressive else 0xC0) and data[position + 4] == 8 and data[position + 9] == 3
            )
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4])
    return False


def _shrink(photo, short_side):
    height, width = photo.shape[:2]
    shorter = min(height, width)
    if shorter <= short_side:
        return photo
    height, width = (max(short_side, round(side * short_side / shorter)) for side in (height, width))
    return cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA)


def _encode(photo, quality):
    """Return bytes of a JPEG, or None if it is too large for one."""
    try:
        done, data = cv2.imencode(".jpg", cv2.cvtColor(photo, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    except cv2.error:
        return None
    return data.tobytes() if done else None
