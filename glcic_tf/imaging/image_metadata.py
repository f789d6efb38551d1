"""What an image file carries beside its pixels, made fit to be handed on to the output.

It comes from anybody: nothing here raises an error for it, however broken it is, and nothing grows beyond a
small multiple of it. What is handed on must stay true: pixels come out upright and completed, and without what stood
behind the photo in its file. So XMP loses what promises a gain map, a motion video or another appended item, and
pictures, which would still show what the user removed.
"""

import dataclasses
import re
import struct
from xml.dom import minidom
from xml.parsers.expat import ExpatError

from glcic_tf.imaging import exif as exif_module

_MAX_BYTES = 8_000_000  # for one kind of metadata; libpng does not read more either
_MAX_PARSED_BYTES = 2**18  # for XMP, whose tree takes a hundred times the memory
_ICC_SPACES = {1: b"GRAY", 3: b"RGB ", 4: b"RGB "}  # by channels
_XMP_IN_JPEG = b"http://ns.adobe.com/xap/1.0/\0"
_XMP_ORIENTATION = re.compile(rb"(<tiff:Orientation>|tiff:Orientation\s*=\s*[\"'])\s*\d+\s*")
_PICTURES = (b"/9j/", b"iVBORw0KGgo", b"UklGR")  # how JPEG, PNG and WebP begin in base64
_JPEG_START = b"\xff\xd8\xff"
# Namespace -> how the names of those properties begin that promise what the output lacks.
_PROMISES = {
    "http://ns.adobe.com/hdr-gain-map/1.0/": "",
    "http://ns.apple.com/HDRGainMap/1.0/": "",
    "http://ns.apple.com/pixeldatainfo/1.0/": "",
    "http://ns.google.com/photos/1.0/camera/": ("MotionPhoto", "MicroVideo"),
    "http://ns.google.com/photos/1.0/container/": "",
    "http://ns.google.com/photos/1.0/depthmap/": "",
    "http://ns.google.com/photos/1.0/image/": "",
    "http://ns.google.com/photos/1.0/audio/": "",
    "http://ns.google.com/photos/dd/1.0/device/": "",
    "http://ns.xiaomi.com/photos/1.0/camera/": "",
    "http://ns.adobe.com/xmp/note/": "HasExtendedXMP",
    "http://ns.adobe.com/xap/1.0/": "Thumbnails",
}


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What a photo carries beside its pixels, fit to stand beside pixels that are upright.

    Attributes:
        exif: bytes from the TIFF header on, or None.
        icc: bytes of a colour profile, or None.
        xmp: bytes of UTF-8, or None.
        iptc: bytes of IPTC's records (IIM), or None.
        text: tuple of (keyword, text): the texts of a PNG.
        dpi: resolution, (x, y) in dots per inch, where the file has one of its own beside EXIF's; or None.
        cicp: the 4 bytes with which a PNG says that it is HDR, which no profile can; or None.
        chroma: sampling of a JPEG's colours: "4:2:0", "4:2:2" or "4:4:4"; None if the photo was not a JPEG.
    """

    exif: bytes | None = None
    icc: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    text: tuple = ()
    dpi: tuple | None = None
    cicp: bytes | None = None
    chroma: str | None = None

    def fitting(self, channels):
        """Return a copy for an image of 1, 3 or 4 channels: without a profile that is for another colour space."""
        fits = self.icc is not None and self.icc[16:20] == _ICC_SPACES[channels]
        return self if fits else dataclasses.replace(self, icc=None)


def clean(exif=None, icc=None, xmp=None, iptc=None, text=(), **others):
    """Return what a file carries as it may be written beside the same pixels turned upright.

    Args:
        exif, icc, xmp: bytes as they stand in the file, or None.
        iptc: bytes of IPTC's records, or of Photoshop's resources around them, or None.
        text: pairs of keyword and text.
        **others: the other attributes of Metadata.

    Returns:
        (orientation, Metadata): EXIF's 1 to 8, 1 being upright already. In the metadata it is 1, the pictures that are
        hidden in it are gone, and what is broken or larger than 8 MB is None.
    """
    blobs = exif, icc, xmp, iptc
    exif, icc, xmp, iptc = (blob if blob and len(blob) <= _MAX_BYTES else None for blob in blobs)
    orientation, exif = exif_module.upright(exif.removeprefix(b"Exif\0\0")) if exif else (None, None)
    turn = orientation if orientation in range(1, 9) else 1
    return turn, Metadata(
        exif=exif,
        icc=_whole_profile(icc) if icc else None,
        xmp=_true_xmp(xmp, orientation is not None) if xmp else None,
        iptc=_iptc_records(iptc) if iptc else None,
        text=_texts(text),
        **others,
    )


def _whole_profile(icc):
    """Return an ICC profile cut to the length that it claims, or None if it is broken."""
    length = int.from_bytes(icc[:4])
    return icc[:length] if 132 <= length <= len(icc) and icc[36:40] == b"acsp" else None


def _true_xmp(xmp, upright):
    """Return XMP without promises and pictures, saying that the photo is upright if it is; None if that cannot be."""
    xmp = xmp.removeprefix(_XMP_IN_JPEG).rstrip(b"\0")
    try:
        xmp.decode("utf-8")
        if b"\0" in xmp:
            return None
        if any(namespace.encode() in xmp for namespace in _PROMISES):
            xmp = _without_promises(xmp)
    except (UnicodeDecodeError, ExpatError, RecursionError, ValueError):
        return None
    if any(start in xmp for start in _PICTURES):
        return None
    # As everywhere, XMP's own turn is not followed: alone it says what it said before.
    return (_XMP_ORIENTATION.sub(rb"\g<1>1", xmp) if upright else xmp) or None


def _without_promises(xmp):
    """Return XMP without the properties in _PROMISES. Raises ExpatError, RecursionError or ValueError."""
    if b"<!DOCTYPE" in xmp or b"<!ENTITY" in xmp or len(xmp) > _MAX_PARSED_BYTES:
        raise ValueError("XMP is short, and has no document type.")
    document = minidom.parseString(xmp)
    found = False
    for element in document.getElementsByTagName("*"):
        if _is_promise(element) and element.parentNode:
            element.parentNode.removeChild(element)
            found = True
        for attribute in list((element.attributes or {}).values()):
            if _is_promise(attribute):
                element.removeAttributeNode(attribute)
                found = True
    return "".join(node.toxml() for node in document.childNodes).encode() if found else xmp


def _is_promise(node):
    begins = _PROMISES.get(node.namespaceURI)
    return begins is not None and node.localName.startswith(begins)


def _iptc_records(iptc):
    """Return IPTC's records, out of Photoshop's resources if they are among these; None if there are none."""
    iptc = iptc.removeprefix(b"Photoshop 3.0\0")
    while iptc[:4] == b"8BIM" and len(iptc) >= 12:
        name = 7 + iptc[6] - iptc[6] % 2 + 1  # where the name ends, which with its length has an even number of bytes
        length = int.from_bytes(iptc[name : name + 4])
        content = iptc[name + 4 : name + 4 + length]
        if iptc[4:6] == b"\x04\x04":
            iptc = content
            break
        iptc = iptc[name + 4 + length + length % 2 :]
    iptc = iptc.rstrip(b"\0")  # as a TIFF is filled up
    return iptc if iptc[:1] == b"\x1c" and _JPEG_START not in iptc else None


def _texts(text):
    """Return the pairs that are short, and no other metadata in disguise."""
    kept, room = [], _MAX_BYTES // 8
    for keyword, value in text:
        room -= len(value)
        raw = keyword.startswith(("Raw profile type", "XML:com.adobe.xmp"))
        if 0 < len(keyword) < 80 and room >= 0 and not raw and "\0" not in keyword + value:
            kept.append((keyword, value))
    return tuple(kept)


def jpeg_start(data, dpi):
    """Cut an encoded JPEG after JFIF's segment, which stays the first and is told the resolution, if there is one.

    Returns:
        (list of buffers, buffer of the rest).
    """
    if data[2:4] != b"\xff\xe0":
        return [data[:2]], data[2:]
    end = 4 + int.from_bytes(data[4:6])
    if dpi is None:
        return [data[:end]], data[end:]
    dots = [min(max(round(d), 1), 65535) for d in dpi]
    return [data[:13], struct.pack(">BHH", 1, *dots), data[18:end]], data[end:]


def jpeg_segments(metadata):
    """Yield the segments that hold metadata in a JPEG; what a segment has no room for is left out."""
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
    if metadata.iptc:
        resource = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(metadata.iptc)) + metadata.iptc
        contents.append((b"\xff\xed", b"Photoshop 3.0\0" + resource + bytes(len(resource) % 2)))
    for marker, content in contents:
        if len(content) <= 65533:  # the length of a segment, with its own two bytes, has 16 bit
            yield marker + struct.pack(">H", 2 + len(content)) + content
