"""What stands around the pixels of an image file: its size, and EXIF, ICC profile and XMP to hand on to the output.

What comes from a file is not trusted: nothing here raises for it, however broken, and nothing grows beyond a small
multiple of it. Metadata often holds small copies of the photo, and those would still show what the user removed; so
EXIF is written anew from its four standard directories, without thumbnail (that is a fifth) and maker note (where
cameras keep a preview, and which does not survive a move), and XMP that holds a picture is dropped.
"""

import dataclasses
import re
import struct
import zlib

_MAX_BYTES = 8_000_000  # of one kind of metadata; libpng reads no more either
_ICC_SPACES = {1: b"GRAY", 3: b"RGB ", 4: b"RGB "}  # by channels

_ORIENTATION, _EXIF, _GPS, _INTEROPERABILITY = 0x0112, 0x8769, 0x8825, 0xA005
_DIRECTORIES = {_EXIF: {_INTEROPERABILITY: {}}, _GPS: {}}  # directories in the first one, and those in them
_POINTERS = {_EXIF, _GPS, _INTEROPERABILITY}
# A turn by 90 degrees swaps ImageWidth with ImageLength, and PixelXDimension with PixelYDimension.
_SIDES = {0x0100: 0x0101, 0x0101: 0x0100, 0xA002: 0xA003, 0xA003: 0xA002}
# Places of pixels, of more directories and of a thumbnail; copies of XMP and ICC profile; Photoshop's resources (with
# a thumbnail), maker note, padding.
_DROPPED = {0x0111, 0x0117, 0x0144, 0x0145, 0x014A, 0x0201, 0x0202, 0x02BC, 0x8649, 0x8773, 0x927C, 0xEA1C}
_ITEM_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 129: 1}  # by type
_SHORT, _LONG = 3, 4
_JPEG_START = b"\xff\xd8\xff"

_XMP_IN_JPEG = b"http://ns.adobe.com/xap/1.0/\0"
_XMP_ORIENTATION = re.compile(rb"(<tiff:Orientation>|tiff:Orientation\s*=\s*[\"'])\s*\d+\s*")
_BASE64_PICTURES = (b"/9j/", b"iVBORw0KGgo", b"UklGR")  # how JPEG, PNG and WebP begin


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What a photo carries beside its pixels, fit to stand beside pixels that are upright.

    Attributes:
        exif: bytes from the TIFF header on, or None.
        icc: bytes of a colour profile, or None.
        xmp: bytes of UTF-8, or None.
    """

    exif: bytes | None = None
    icc: bytes | None = None
    xmp: bytes | None = None

    def fitting(self, channels):
        """Return a copy for an image of 1, 3 or 4 channels: without a profile that is for another colour space."""
        fits = self.icc is not None and self.icc[16:20] == _ICC_SPACES[channels]
        return self if fits else dataclasses.replace(self, icc=None)


def size(data):
    """Return (height, width) in px as the header of a JPEG, PNG, BMP or WebP claims, before any turn, else None."""
    try:
        return _size(data)
    except (struct.error, IndexError):  # the file ends inside its header
        return None


def clean(exif=None, icc=None, xmp=None):
    """Return what a file carries as it may be written beside the same pixels turned upright.

    Args:
        exif, icc, xmp: bytes as they stand in the file, or None.

    Returns:
        (orientation, Metadata): EXIF's 1 to 8, 1 being upright already. In the metadata it is 1, the pictures that are
        hidden in it are gone, and what is broken or larger than 8 MB is None.
    """
    exif, icc, xmp = (blob if blob and len(blob) <= _MAX_BYTES else None for blob in (exif, icc, xmp))
    orientation, exif = _upright_exif(exif.removeprefix(b"Exif\0\0")) if exif else (None, None)
    if xmp:
        xmp = xmp.removeprefix(_XMP_IN_JPEG).rstrip(b"\0")
        if b"\0" in xmp or not _is_utf8(xmp) or any(start in xmp for start in _BASE64_PICTURES):
            xmp = None
        elif orientation is not None:  # as everywhere, XMP's own is not followed: alone it says what it said before
            xmp = _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)
    turn = orientation if orientation in range(1, 9) else 1
    return turn, Metadata(exif, _whole_profile(icc) if icc else None, xmp or None)


def insert(data, metadata):
    """Put metadata into an encoded JPEG or PNG that has none; what a JPEG has no room for is left out.

    OpenCV could do it too, but fails for profiles above 64 kB in JPEG and for those that libpng finds fault with.

    Args:
        data: bytes or uint8 [length].
        metadata: Metadata that fits the channels of the image.

    Returns:
        List of buffers to be written one after the other; the image is not copied.
    """
    data = memoryview(data).cast("B")
    if data[:2] == b"\xff\xd8":
        start = 2 + (2 + int.from_bytes(data[4:6]) if data[2:4] == b"\xff\xe0" else 0)  # JFIF stays the first
        pieces = list(_jpeg_segments(metadata))
    else:
        start = 33  # after the signature and IHDR
        pieces = list(_png_chunks(metadata))
    return [data[:start], *pieces, data[start:]]


def _size(data):
    if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR":
        return struct.unpack(">II", data[16:24])[::-1]
    if data.startswith(b"BM"):
        if struct.unpack("<I", data[14:18])[0] == 12:  # the header of OS/2
            return struct.unpack("<HH", data[18:22])[::-1]
        width, height = struct.unpack("<ii", data[18:26])
        return abs(height), abs(width)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        kind = data[12:16]
        if kind == b"VP8X":
            return tuple(1 + int.from_bytes(data[i : i + 3], "little") for i in (27, 24))
        if kind == b"VP8L":
            bits = struct.unpack("<I", data[21:25])[0]
            return 1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF)
        if kind == b"VP8 ":
            return tuple(side & 0x3FFF for side in struct.unpack("<HH", data[26:30])[::-1])
    if data.startswith(_JPEG_START):
        position = 2
        for _ in range(4096):  # segments before the image; an ICC profile alone may take 255
            if data[position] != 0xFF:
                break
            marker = data[position + 1]
            if marker == 0xFF:  # a fill byte
                position += 1
            elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
                return struct.unpack(">HH", data[position + 5 : position + 9])
            else:
                position += 2 + struct.unpack(">H", data[position + 2 : position + 4])[0]
    return None


def _upright_exif(exif):
    """Return (value of the orientation tag or None, EXIF anew with orientation 1 or None if nothing can be read)."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None or len(exif) < 8:
        return None, None
    main = _read_directory(exif, order, struct.unpack_from(order + "I", exif, 4)[0], _DIRECTORIES)
    if not main:
        return None, None
    orientation = None
    if _ORIENTATION in main:
        orientation = _integer(order, main[_ORIENTATION])
        main[_ORIENTATION] = _SHORT, 1, struct.pack(order + "H", 1)
    if orientation in (5, 6, 7, 8):
        for tag in {_EXIF} & main.keys():
            main[tag] = _swap_sides(main[tag])
        main = _swap_sides(main)
    return orientation, exif[:4] + struct.pack(order + "I", 8) + _directory_bytes(order, main, 8)


def _read_directory(exif, order, start, inner):
    """Return the sound entries of the TIFF directory at `start`: {tag: (type, count, value's bytes) or directory}."""
    entries, room = {}, len(exif)
    try:
        (count,) = struct.unpack_from(order + "H", exif, start)
        for at in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, items = struct.unpack_from(order + "HHI", exif, at)
            length = items * _ITEM_BYTES.get(kind, 0)
            # All values together are no longer than the file, or a small file could claim its whole length many times.
            if tag in _DROPPED or not 0 < length <= room:
                continue
            room -= length
            place = at + 8 if length <= 4 else struct.unpack_from(order + "I", exif, at + 8)[0]
            value = exif[place : place + length]
            if len(value) == length and _JPEG_START not in value:
                entries[tag] = kind, items, value
    except struct.error:  # the file ends inside the directory
        pass
    for tag in _POINTERS & entries.keys():
        place = _integer(order, entries.pop(tag))
        directory = _read_directory(exif, order, place, inner[tag]) if tag in inner and place >= 8 else None
        if directory:
            entries[tag] = directory
    return entries


def _swap_sides(entries):
    return {_SIDES.get(tag, tag): entry for tag, entry in entries.items()}


def _integer(order, entry):
    """Return the first number of an entry of 16 or 32 bit; 0 for one of another type."""
    kind, _, value = entry
    return struct.unpack_from(order + {_SHORT: "H", _LONG: "I"}[kind], value)[0] if kind in (_SHORT, _LONG) else 0


def _directory_bytes(order, entries, start):
    """Return a TIFF directory that stands at `start`, followed by its values and directories, and by no other."""
    head, tail = bytearray(struct.pack(order + "H", len(entries))), bytearray()
    tail_start = start + 2 + 12 * len(entries) + 4
    for tag, entry in sorted(entries.items()):
        place = tail_start + len(tail)
        if isinstance(entry, dict):
            tail += _directory_bytes(order, entry, place)
            entry = _LONG, 1, struct.pack(order + "I", place)
        kind, items, value = entry
        if len(value) > 4:
            tail += value + b"\0" * (len(value) % 2)
            value = struct.pack(order + "I", place)
        head += struct.pack(order + "HHI", tag, kind, items) + value.ljust(4, b"\0")
    return bytes(head + bytes(4) + tail)


def _whole_profile(icc):
    """Return an ICC profile cut to the length that it claims, or None if it is broken."""
    length = int.from_bytes(icc[:4])
    return icc[:length] if 132 <= length <= len(icc) and icc[36:40] == b"acsp" else None


def _is_utf8(data):
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _jpeg_segments(metadata):
    contents = []
    if metadata.exif:
        contents.append((b"\xff\xe1", b"Exif\0\0" + metadata.exif))
    if metadata.xmp:
        contents.append((b"\xff\xe1", _XMP_IN_JPEG + metadata.xmp))
    icc = metadata.icc or b""
    parts = [icc[i : i + 65519] for i in range(0, len(icc), 65519)]
    if len(parts) <= 255:
        numbered = [bytes([number, len(parts)]) + part for number, part in enumerate(parts, 1)]
        contents += [(b"\xff\xe2", b"ICC_PROFILE\0" + part) for part in numbered]
    for marker, content in contents:
        if len(content) <= 65533:  # the length of a segment, with its own two bytes, has 16 bit
            yield marker + struct.pack(">H", 2 + len(content)) + content


def _png_chunks(metadata):
    contents = []
    if metadata.icc:
        contents.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)))
    if metadata.exif:
        contents.append((b"eXIf", metadata.exif))
    if metadata.xmp:
        contents.append((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + metadata.xmp))
    for kind, content in contents:
        yield struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
