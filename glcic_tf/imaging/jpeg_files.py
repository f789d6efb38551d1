"""JPEGs whole or broken: libjpeg fills in what is missing and only warns about it, so its warnings count here.

Time is bounded too: a progressive JPEG may have thousands of scans, each of which takes a pass over the picture.
"""

import re
import struct
import threading

import numpy as np
import pyvips

_MAX_SCANS = 100  # encoders make about 10
_SCAN = re.compile(rb"\xff\xda\x00(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")
_END = b"\xff\xd9"
# How many pictures an MPO holds: tag B001 of the list in its segment, in either order of bytes.
_PICTURES = re.compile(
    rb"MPF\0(?:II\*\0.{0,80}?\x01\xb0\x04\0\x01\0{3}(.)\0{3}|MM\0\*.{0,80}?\xb0\x01\0\x04\0{3}\x01\0{3}(.))", re.DOTALL
)
_libjpeg = threading.Lock()  # libvips has one place for what libjpeg notes, for all threads
_HEADER_BYTES = 2**18  # where segments are looked for
_FILLER_BYTES = 16  # so many zeros at the end may stand for a part that is missing
# What libjpeg warns of though it has nothing to do with the picture, and what to put in its place: the version of JFIF,
# the transform that Adobe's segment names, and the coefficients of a scan that is to have all of them.
_HARMLESS = (
    (re.compile(rb"(?<=\0\x10JFIF\0)[^\x01\x02].", re.DOTALL), b"\x01\x01"),
    (re.compile(rb"(\xff\xee\0\x0eAdobe.{6})[^\0-\x02]", re.DOTALL), b"\\g<1>\x01"),
    (re.compile(rb"(\xff\xda\0(?:\x08\x01..|\x0a\x02.{4}|\x0c\x03.{6}))(?!\0\x3f\0)...", re.DOTALL), b"\\g<1>\0\x3f\0"),
)


def open_header(data):
    """Return a JPEG as a pyvips.Image that is not decoded yet. Raises pyvips.Error."""
    with _libjpeg:
        return _open(data)


def _open(data):
    return pyvips.Operation.call("jpegload_buffer", data, access="sequential", fail_on="warning")


def has_one_scan(header):
    """Whether a JPEG has one scan only, as those have that are not progressive."""
    return "jpeg-multiscan" not in header.get_fields() or not header.get("jpeg-multiscan")


def too_many_scans(data):
    """Return why a JPEG would take too long to decode, or None."""
    if len(_SCAN.findall(data)) <= _MAX_SCANS:
        return None
    return f"is a JPEG of more than {_MAX_SCANS} scans, which takes too long; save it anew."


def decode(data):
    """Decode a JPEG if it has all of its pixels; the marker at its end may be missing.

    Args:
        data: bytes whose header can be read.

    Returns:
        uint8 [height, width, channels] in the colours of the file, or None if a part is missing or damaged.
    """
    end = data.removesuffix(_END)
    stripped = end.rstrip(b"\0")
    if len(end) - len(stripped) < _FILLER_BYTES or stripped.endswith(_END):
        return _decode(data if end is not data else data + _END)
    # libjpeg takes zeros for data. They are, if none of them is too many; or they only stand after the picture.
    pixels = _decode(stripped + _END)
    if pixels is None and _decode(end[:-1] + _END) is None:
        pixels = _decode(end + _END)
    return pixels


def may_lack_a_part(data, photo):
    """Whether a JPEG that was decoded without complaint may lack its lower part: a cheap look; yes when in doubt.

    Args:
        data: bytes of a JPEG of one scan.
        photo: uint8 [height, width, 3] RGB, as decoded, also at a part of the size.
    """
    if not _ends(data) or not any(data.removesuffix(_END)[-_FILLER_BYTES:]):
        return True
    return bool((np.abs(photo[-1, -1].astype(int) - 128) <= 1).all())  # what libjpeg puts where it has no data


def with_end(data):
    """Return a JPEG with the marker at its end, which may be missing; whatever follows it stays."""
    return data if _ends(data) else data + _END


def _ends(data):
    return _END in data[-64:]


def pictures(data):
    """Return how many pictures a JPEG holds: several, of which the first is read, if it is an MPO."""
    found = _PICTURES.search(data, 0, _HEADER_BYTES)
    return max(1, *(number[0] for number in found.groups() if number)) if found else 1


def chroma(data, header):
    """Return the sampling of a JPEG's colours: "4:2:0", "4:2:2", or "4:4:4" for all else.

    libvips tells only whether there are fewer samples of colour than pixels, so the frame is looked at by its size.
    """
    if header.bands != 3 or header.get("jpeg-chroma-subsample") == "4:4:4":
        return "4:4:4"
    frame = re.escape(b"\x08" + struct.pack(">HH", header.height, header.width))
    found = re.search(rb"\xff[\xc0-\xc2]\0\x11" + frame + rb"\x03.([\x21\x22])..\x11..\x11", data, re.DOTALL)
    return {b"\x22": "4:2:0", b"\x21": "4:2:2"}[found[1]] if found else "4:4:4"


def _decode(data):
    pixels = _decode_strictly(data)
    if pixels is not None:
        return pixels
    # libjpeg tells only its first warning: without the harmless ones, are there others?
    mended = data
    for pattern, replacement in _HARMLESS:
        mended = pattern.sub(replacement, mended, count=1)
    return None if mended == data else _decode_strictly(mended)


def _decode_strictly(data):
    with _libjpeg:
        pyvips.vips_lib.vips_error_clear()
        try:
            image = _open(data)
            pixels = np.frombuffer(image.write_to_memory(), np.uint8)
        except pyvips.Error:
            return None
        # libvips looks for warnings before it decodes the next rows: those about the last rows are only noted down.
        noted = pyvips.ffi.string(pyvips.vips_lib.vips_error_buffer())
        pyvips.vips_lib.vips_error_clear()
    return None if b"VipsJpeg" in noted else pixels.reshape(image.height, image.width, image.bands)
