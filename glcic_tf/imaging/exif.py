"""EXIF read from untrusted bytes and written anew, as it may stand beside the same pixels turned upright.

EXIF often holds small copies of the photo, and those would still show what the user removed. So only its four
standard directories are written, without the thumbnail (which is in a fifth) and the maker note (where cameras keep a
preview, and which does not survive a move). Nothing here raises an error for what it is given, and nothing grows beyond
a small multiple of it.

A TIFF file is built the same way, with EXIF among its own directories: its EXIF is read and written here too.
"""

import struct

import numpy as np

_ORIENTATION, _EXIF, _GPS, _INTEROPERABILITY = 0x0112, 0x8769, 0x8825, 0xA005
_DIRECTORIES = {_EXIF: {_INTEROPERABILITY: {}}, _GPS: {}}  # directories in the first one, and those in them
_POINTERS = {_EXIF, _GPS, _INTEROPERABILITY}
# A turn by 90 degrees swaps ImageWidth with ImageLength, and PixelXDimension with PixelYDimension.
_SIDES = {0x0100: 0x0101, 0x0101: 0x0100, 0xA002: 0xA003, 0xA003: 0xA002}
# Places of pixels, of more directories and of a thumbnail; copies of XMP and ICC profile; Photoshop's resources
# (with a thumbnail), maker note, padding.
_DROPPED = {0x0111, 0x0117, 0x0144, 0x0145, 0x014A, 0x0201, 0x0202, 0x02BC, 0x8649, 0x8773, 0x927C, 0xEA1C}
# What describes a photo in a TIFF file's own directory; all else there describes how the file holds its pixels.
_OF_PHOTO = {0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x013C, 0x8298, _ORIENTATION, *_POINTERS}
_ITEM_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 129: 1}  # by type
_NUMBER_BYTES = _ITEM_BYTES | {5: 4, 10: 4}  # a rational is two numbers
_MAX_BYTES = 8_000_000  # the values of one directory
_SHORT, _LONG, _BYTES = 3, 4, 7
_IPTC = 0x83BB
_JPEG_START = b"\xff\xd8\xff"
_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}


def upright(exif):
    """Return what EXIF says about the turn, and EXIF that says that no turn is needed.

    Args:
        exif: bytes from the TIFF header on.

    Returns:
        (value of the orientation tag or None, bytes of EXIF anew or None if nothing can be read).
    """
    order, main = _read(exif)
    main.pop(_IPTC, None)  # with a life of its own
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
    return orientation, _file_bytes(order, main)


def of_tiff(tiff):
    """Return what a TIFF file's first page says of the photo, and not of how the file holds its pixels.

    Returns:
        (bytes of EXIF or None, bytes of IPTC or None).
    """
    order, main = _read(tiff)
    iptc = main.get(_IPTC, (0, 0, None))[2]
    main = {tag: entry for tag, entry in main.items() if tag in _OF_PHOTO}
    nothing = not main or main.keys() == {_ORIENTATION} and _integer(order, main[_ORIENTATION]) == 1
    return None if nothing else _file_bytes(order, main), iptc


def into_tiff(tiff, exif=None, iptc=None):
    """Return a TIFF file of one page with EXIF and IPTC in it; what the file says of its pixels stays.

    Args:
        tiff: bytes of a file as `image_encoding` writes it: it is trusted.
        exif: bytes that `upright` returned, or None.
        iptc: bytes, or None.
    """
    order = _ORDERS[tiff[:4]]
    exif_order, entries = _read(exif or b"")
    entries = entries if order == exif_order else _swap_bytes(entries)
    start = struct.unpack_from(order + "I", tiff, 4)[0]
    (count,) = struct.unpack_from(order + "H", tiff, start)
    own = [tiff[at : at + 12] for at in range(start + 2, start + 2 + 12 * count, 12)]
    own = {struct.unpack_from(order + "H", entry)[0]: entry for entry in own}
    place = len(tiff) + len(tiff) % 2
    new = {tag: entry for tag, entry in entries.items() if tag in _OF_PHOTO and tag not in own}
    if iptc:
        new[_IPTC] = _BYTES, len(iptc), iptc
    directory = _directory_bytes(order, new | own, place)
    return b"".join([tiff[:4], struct.pack(order + "I", place), tiff[8:], bytes(len(tiff) % 2), directory])


def _read(exif):
    """Return (byte order, entries of the first directory); the entries are empty if nothing can be read."""
    order = _ORDERS.get(exif[:4])
    if order is None or len(exif) < 8:
        return None, {}
    return order, _read_directory(exif, order, struct.unpack_from(order + "I", exif, 4)[0], _DIRECTORIES)


def _file_bytes(order, main):
    mark = next(mark for mark, known in _ORDERS.items() if known == order)
    return mark + struct.pack(order + "I", 8) + _directory_bytes(order, main, 8)


def _read_directory(exif, order, start, inner):
    """Return the sound entries of the TIFF directory at `start`: {tag: (type, count, value's bytes) or directory}."""
    entries, room = {}, min(len(exif), _MAX_BYTES)
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


def _swap_bytes(entries):
    """Return the entries of a directory in the other byte order."""
    swapped = {}
    for tag, entry in entries.items():
        if isinstance(entry, dict):
            swapped[tag] = _swap_bytes(entry)
        else:
            kind, items, value = entry
            numbers = np.frombuffer(value, np.dtype(f"u{_NUMBER_BYTES[kind]}"))
            swapped[tag] = kind, items, numbers.byteswap().tobytes()
    return swapped


def _swap_sides(entries):
    return {_SIDES.get(tag, tag): entry for tag, entry in entries.items()}


def _integer(order, entry):
    """Return the first number of an entry of 16 or 32 bit; 0 for one of another type."""
    kind, _, value = entry
    return struct.unpack_from(order + {_SHORT: "H", _LONG: "I"}[kind], value)[0] if kind in (_SHORT, _LONG) else 0


def _directory_bytes(order, entries, start):
    """Return a TIFF directory that stands at `start`, followed by its values and directories, and by no other.

    An entry is (type, count, value's bytes), a directory, or the 12 bytes that it has in the file already.
    """
    head, tail = bytearray(struct.pack(order + "H", len(entries))), bytearray()
    tail_start = start + 2 + 12 * len(entries) + 4
    for tag, entry in sorted(entries.items()):
        if isinstance(entry, bytes):
            head += entry
            continue
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
