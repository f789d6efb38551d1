"""Bytes of image files to pixels, by libvips; BMP by OpenCV, and HEIC by libheif in a process of its own.

Files come from anybody. Only those loaders of libvips are used that are made for such files, each chosen by the
content. The size is taken from the decoder's own reading of the header, before it decodes a pixel. What is incomplete
is refused, not half decoded. All functions may be called from several threads at once.
"""

import dataclasses
import io
import logging
import struct
import typing

import cv2
import numpy as np
import pyvips

from glcic_tf.imaging import exif, icc_profile, image_formats, jpeg_files, png_chunks
from glcic_tf.imaging.image_formats import Format

# Every failure is raised; a report of it would only say the same again.
logging.getLogger("pyvips").setLevel(logging.CRITICAL + 1)
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
pyvips.block_untrusted_set(True)
pyvips.cache_set_max(0)  # it would keep what was decoded

_LOADERS = {
    b"VipsForeignLoadJpegBuffer": ("jpegload_buffer", image_formats.JPEG),
    b"VipsForeignLoadPngBuffer": ("pngload_buffer", image_formats.PNG),
    b"VipsForeignLoadWebpBuffer": ("webpload_buffer", image_formats.WEBP),
    b"VipsForeignLoadTiffBuffer": ("tiffload_buffer", image_formats.TIFF),
    b"VipsForeignLoadHeifBuffer": ("heifload_buffer", image_formats.AVIF),
    b"VipsForeignLoadNsgifBuffer": ("gifload_buffer", image_formats.GIF),
}
_BLOBS = {"exif": "exif-data", "icc": "icc-profile-data", "xmp": "xmp-data", "iptc": "iptc-data"}
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_GREY, _COLOUR, _LAB = ("b-w", "grey16"), ("srgb", "rgb", "rgb16", "multiband"), ("lab", "labs", "labq")
_MM_PER_INCH = 25.4
_STRIP_ROWS = 64
_HEIF_ERRORS = (OSError, ValueError, RuntimeError, EOFError, SyntaxError)
_AVIF_SEQUENCE = b"ftypavis"
_UNSPECIFIED = 2  # colour primaries, by H.273


class BrokenImageError(Exception):
    """Bytes are not an image that can be decoded; the message goes on after the file's name."""


@dataclasses.dataclass(frozen=True)
class Decoded:
    """An image as it is in its file, and what the file carries beside it.

    Attributes:
        pixels: uint8 or uint16 [height, width, 1|3|4], grey, RGB or RGBA, not yet turned.
        format: Format.
        carried: keyword arguments of `image_metadata.clean`.
        turned: whether the decoder has turned it already, as HEIC and AVIF say without EXIF.
        pictures: how many the file holds; this is the first.
    """

    pixels: np.ndarray
    format: Format
    carried: dict
    turned: bool = False
    pictures: int = 1


class JpegHeader(typing.NamedTuple):
    """The header of a JPEG: sides in px, EXIF's orientation, whether it has but one scan, whether it is CMYK."""

    height: int
    width: int
    orientation: int
    one_scan: bool
    cmyk: bool


def decode(data, max_pixels, expendable=False):
    """Decode the first picture of an image file.

    Args:
        data: bytes of the file.
        max_pixels: refuse larger images before decoding them.
        expendable: this process may crash. Else HEIC, whose decoder is less hardened, is refused here.

    Returns:
        Decoded.

    Raises:
        BrokenImageError: the bytes are not an image, or a broken, incomplete or too large one.
    """
    if data[:2] == b"BM":
        return Decoded(_decode_bmp(data, max_pixels), image_formats.BMP, {})
    frames = _avif_frames(data)
    if frames:  # libvips does not know this name, but libheif reads the still picture that goes before the frames
        data = b"%bavif%b" % (data[:8], data[12:])
    operation, found = _loader(data)
    header = _open(operation, data, max_pixels)
    fields = set(header.get_fields())
    if found is image_formats.AVIF and header.get("heif-compression") != "av1":
        found = image_formats.HEIC
        if not expendable:
            raise BrokenImageError("says that it is AVIF, but is HEIC; get another copy.")
    carried = _carried(header, fields, found, data)
    ignore_alpha = carried.pop("transparent_grey", False)
    if found is image_formats.HEIC:
        pixels = _decode_heic(data, header)
    else:
        pixels = _decode_whole(data, header, found, ignore_alpha)
    if header.interpretation == "cmyk":
        carried.pop("icc", None)  # the colours were converted by it
    pictures = header.get("n-pages") if "n-pages" in fields else 1
    if found is image_formats.JPEG:
        pictures = jpeg_files.pictures(data)
    pictures = max(pictures, frames)
    return Decoded(pixels, found, carried, found in (image_formats.AVIF, image_formats.HEIC), pictures)


def jpeg_header(data, max_pixels):
    """Return what the decoder sees in the header of a JPEG: a JpegHeader, or None if the bytes are not a JPEG.

    Raises:
        BrokenImageError: the header is broken, the image is too large, or has too many scans.
    """
    if data[:3] != b"\xff\xd8\xff":
        return None
    header = _open("jpegload_buffer", data, max_pixels)
    orientation = header.get("orientation") if "orientation" in header.get_fields() else 1
    cmyk = header.interpretation == "cmyk"
    return JpegHeader(header.height, header.width, orientation, jpeg_files.has_one_scan(header), cmyk)


def format_of(data):
    """Return the Format of an image file by its first bytes.

    Raises:
        BrokenImageError: it is not one that can be read.
    """
    if data[:2] == b"BM":
        return image_formats.BMP
    if data[:4] in _TIFF_STARTS:  # libvips looks farther into these
        return image_formats.TIFF
    if data[4:12] == _AVIF_SEQUENCE:
        return image_formats.AVIF
    found = _loader(data)[1]
    return image_formats.HEIC if found is image_formats.AVIF and b"avi" not in data[8:64] else found


def _avif_frames(data):
    """Return how many frames a moving AVIF says that it has, at least 2; 0 for all other files."""
    if data[4:12] != _AVIF_SEQUENCE:
        return 0
    counted = data.find(b"stsz") + 12  # behind its version and the size that all frames have
    return max(2, int.from_bytes(data[counted : counted + 4], "big")) if counted >= 12 else 2


def _loader(data):
    name = pyvips.vips_lib.vips_foreign_find_load_buffer(pyvips.ffi.from_buffer(data), len(data))
    loader = _LOADERS.get(pyvips.ffi.string(name)) if name != pyvips.ffi.NULL else None
    if loader is None:
        raise BrokenImageError(f"is not an image that can be read ({image_formats.READ}); convert it.")
    return loader


def _open(operation, data, max_pixels):
    """Open an image without decoding it, and check its size. JPEG: and its scans."""
    jpeg = operation == "jpegload_buffer"
    try:
        header = (
            jpeg_files.open_header(data)
            if jpeg
            else pyvips.Operation.call(operation, data, access="sequential", fail_on="error")
        )
    except pyvips.Error as error:
        raise BrokenImageError("is broken or incomplete, from its header on; get a whole copy.") from error
    _check_size(header.height, header.width, max_pixels)
    reason = jpeg_files.too_many_scans(data) if jpeg and not jpeg_files.has_one_scan(header) else None
    if reason:
        raise BrokenImageError(reason)
    return header


def _check_size(height, width, max_pixels):
    if height * width > max_pixels:
        raise BrokenImageError(
            f"has {width} x {height} px, {height * width / 1e6:.0f} megapixels; at most {max_pixels / 1e6:.0f} "
            "are read; make it smaller, or raise --max_megapixels."
        )


def broken(height, width):
    """Return the error for an image with a part that is missing or damaged."""
    return BrokenImageError(f"is broken or incomplete ({width} x {height} px by its header); get a whole copy.")


def _decode_whole(data, image, found, ignore_alpha):
    """Decode all but BMP and HEIC: uint8 or uint16 [height, width, 1|3|4]."""
    height, width = image.height, image.width
    try:
        if found is image_formats.JPEG:
            pixels = jpeg_files.decode(data)
            if pixels is None:
                raise broken(height, width)
            if image.interpretation != "cmyk":
                return pixels
            inks = pyvips.Image.new_from_memory(pixels, width, height, 4, "uchar").copy(interpretation="cmyk")
            if "icc-profile-data" in image.get_fields():
                inks.set_type(pyvips.GValue.blob_type, "icc-profile-data", image.get("icc-profile-data"))
            return _rgb_of_cmyk(inks)
        if image.interpretation == "cmyk":
            return _rgb_of_cmyk(image)
        if image.interpretation in _LAB:
            image = image.colourspace("srgb" if image.interpretation == "lab" else "rgb16")
        if image.format not in ("uchar", "ushort") or image.interpretation not in _GREY + _COLOUR:
            raise BrokenImageError(
                f"has pixels of type {image.format} ({image.interpretation}); expected 8 or 16 bit, grey or colour; "
                "convert it, to PNG for example."
            )
        return _array(_of_known_channels(image, ignore_alpha))
    except pyvips.Error as error:
        raise broken(height, width) from error


def _of_known_channels(image, ignore_alpha):
    """Return an image of 1, 3 or 4 channels: grey with alpha becomes RGBA, channels beyond alpha are left out."""
    if image.interpretation in _GREY:
        if image.bands == 1 or ignore_alpha:
            return image[0]
        return image[0].bandjoin([image[0], image[0], image[1]])
    return image[:4] if image.bands > 4 else image


def _array(image):
    dtype = {"uchar": np.uint8, "ushort": np.uint16}[image.format]
    return np.frombuffer(image.write_to_memory(), dtype).reshape(image.height, image.width, image.bands)


def _rgb_of_cmyk(image):
    """Convert CMYK by the image's own profile, and without one as if inks were filters."""
    if "icc-profile-data" in image.get_fields():
        depth = 16 if image.format == "ushort" else 8
        try:
            return _array(image.icc_transform("srgb", embedded=True, intent="perceptual", depth=depth)[:3])
        except pyvips.Error:  # a broken profile, or one for other colours; a broken file fails again below
            pass
    inks = _array(image)
    most = np.iinfo(inks.dtype).max
    result = np.empty((*inks.shape[:2], 3), inks.dtype)
    for top in range(0, len(inks), _STRIP_ROWS):
        light = most - inks[top : top + _STRIP_ROWS].astype(np.uint32)
        result[top : top + _STRIP_ROWS] = (light[..., :3] * light[..., 3:4] + most // 2) // most
    return result


def _carried(header, fields, found, data):
    """Collect what a file carries beside its pixels: keyword arguments of `image_metadata.clean`."""
    carried = {name: bytes(header.get(field)) for name, field in _BLOBS.items() if field in fields}
    own_resolution = found in (image_formats.JPEG, image_formats.TIFF) and "resolution-unit" in fields
    if own_resolution and header.xres > 0 and header.yres > 0:
        carried["dpi"] = header.xres * _MM_PER_INCH, header.yres * _MM_PER_INCH
    if found is image_formats.JPEG:
        carried["chroma"] = jpeg_files.chroma(data, header)
    elif found is image_formats.PNG:
        texts = [field for field in header.get_fields() if field.startswith("png-comment-")]
        carried["text"] = [(field.split("-", 3)[3], header.get(field)) for field in texts]
        carried |= png_chunks.read(data)
        for kind, content in png_chunks.raw_profiles(carried["text"]).items():
            carried.setdefault(kind, content)
    elif found is image_formats.TIFF:
        carried["exif"], carried["iptc"] = exif.of_tiff(data)
    elif found in (image_formats.AVIF, image_formats.HEIC) and "icc" not in carried:
        carried |= _code_points(data)
    return carried


def _code_points(data):
    """Read how an AVIF or HEIC without a profile says its colours are meant (nclx), which libvips does not tell."""
    import pi_heif

    try:
        told = pi_heif.open_heif(io.BytesIO(data)).info.get("nclx_profile") or {}
    except _HEIF_ERRORS:
        return {}
    return icc_profile.of_code_points(told.get("color_primaries", _UNSPECIFIED), told.get("transfer_characteristics"))


def _decode_bmp(data, max_pixels):
    """Decode a BMP by OpenCV, which libvips does not do, after a look at the size that its header claims."""
    try:
        if struct.unpack_from("<I", data, 14)[0] == 12:  # the header of OS/2
            width, height = struct.unpack_from("<HH", data, 18)
        else:
            width, height = map(abs, struct.unpack_from("<ii", data, 18))
    except struct.error as error:
        raise BrokenImageError("is broken or incomplete, from its header on; get a whole copy.") from error
    _check_size(height, width, max_pixels)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
    if image is None or image.dtype != np.uint8 or image.shape[:2] != (height, width):
        raise broken(height, width)
    if image.ndim == 2:
        return image[..., None]
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB if image.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)


def _decode_heic(data, header):
    """Decode HEIC: uint8 or uint16 [height, width, 3|4]."""
    import pi_heif

    try:
        picture = pi_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False, bgr_mode=False)
        pixels = np.ascontiguousarray(np.asarray(picture))
    except _HEIF_ERRORS as error:
        raise broken(header.height, header.width) from error
    if pixels.ndim != 3 or pixels.shape[2] not in (3, 4) or pixels.dtype not in (np.uint8, np.uint16):
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels[..., :3]
    if pixels.shape[:2] != (header.height, header.width):
        raise BrokenImageError("contradicts itself about its size; get another copy.")
    return pixels
