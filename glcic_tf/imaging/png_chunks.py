"""What a PNG says in its chunks beside the pixels: read where the decoder does not hand it on, and written.

The decoder has read the file before: chunks are whole, and only those before the pixels are looked at, or of text. Four
kinds say how the colours are meant. Every format but PNG knows only ICC profiles, so a profile is made of them
(`icc_profile`); what viewers take where they contradict each other: cICP, then iCCP, then sRGB, then gAMA and cHRM.
"""

import contextlib
import struct
import zlib

from glcic_tf.imaging import icc_profile

_SIGNATURE_BYTES = 8
_INCH_M = 0.0254
_MAX_CHUNKS = 10_000


def read(data):
    """Read the chunks of a PNG that its decoder does not hand on.

    Args:
        data: bytes of a PNG that was decoded.

    Returns:
        dict: `transparent_grey`, whether one grey value is transparent; and, where the file has them, `dpi` and `cicp`,
        as in Metadata, and `icc`, bytes of a profile or None where sRGB is meant: it counts in place of iCCP's.
    """
    chunks = _before_pixels(data)
    found = {"transparent_grey": b"tRNS" in chunks and chunks[b"IHDR"][9] == 0}
    grey = chunks[b"IHDR"][9] in (0, 4)
    if len(chunks.get(b"pHYs", b"")) == 9:
        x, y, unit = struct.unpack(">IIB", chunks[b"pHYs"])
        if unit == 1 and x and y:
            found["dpi"] = x * _INCH_M, y * _INCH_M
    if len(chunks.get(b"cICP", b"")) == 4:
        found |= icc_profile.of_code_points(*chunks[b"cICP"][:2], grey)
        if "cicp" in found:
            found["cicp"] = chunks[b"cICP"]  # as it is: its values may not be of full range
    elif b"iCCP" not in chunks and b"sRGB" not in chunks and len(chunks.get(b"gAMA", b"")) == 4:
        gamma = int.from_bytes(chunks[b"gAMA"]) / 100_000
        places = struct.unpack(">8I", chunks[b"cHRM"]) if len(chunks.get(b"cHRM", b"")) == 32 else None
        xy = places and [(places[i] / 100_000, places[i + 1] / 100_000) for i in range(0, 8, 2)]
        found["icc"] = icc_profile.of_gamma(gamma, xy, grey)
    return found


def _before_pixels(data):
    """Return {kind: content} of the chunks before the pixels, the first of a kind."""
    chunks, at = {}, _SIGNATURE_BYTES
    for _ in range(_MAX_CHUNKS):
        if at + 8 > len(data) or data[at + 4 : at + 8] == b"IDAT":
            break
        length = int.from_bytes(data[at : at + 4])
        chunks.setdefault(data[at + 4 : at + 8], data[at + 8 : at + 8 + min(length, 64)])
        at += 12 + length
    return chunks


def write(metadata):
    """Yield the chunks that hold metadata."""
    contents = []
    if metadata.cicp:
        contents.append((b"cICP", metadata.cicp))
    if metadata.icc:
        contents.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)))
    if metadata.dpi:
        per_metre = [min(max(round(dots / _INCH_M), 1), 2**31 - 1) for dots in metadata.dpi]
        contents.append((b"pHYs", struct.pack(">IIB", *per_metre, 1)))
    if metadata.exif:
        contents.append((b"eXIf", metadata.exif))
    if metadata.xmp:
        contents.append((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + metadata.xmp))
    if metadata.iptc:  # as ImageMagick began it
        dump = f"\niptc\n{len(metadata.iptc):8d}\n{metadata.iptc.hex()}\n".encode()
        contents.append((b"zTXt", b"Raw profile type iptc\0\0" + zlib.compress(dump)))
    contents += [_text(keyword, value) for keyword, value in metadata.text]
    for kind, content in contents:
        yield struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _text(keyword, value):
    keyword = keyword.encode("latin-1", "replace")
    try:
        return b"tEXt", keyword + b"\0" + value.encode("latin-1")
    except UnicodeEncodeError:
        return b"iTXt", keyword + b"\0\0\0\0\0" + value.encode("utf-8", "replace")


def raw_profiles(text):
    """Return {"exif" or "iptc": bytes} from (keyword, text) pairs, into which older programs wrote its digits."""
    found = {}
    for keyword, value in text:
        kind, words = keyword.removeprefix("Raw profile type "), value.split()
        if kind != keyword and kind in ("exif", "iptc") and len(words) > 2:
            with contextlib.suppress(ValueError):
                found[kind] = bytes.fromhex("".join(words[2:]))
    return found
