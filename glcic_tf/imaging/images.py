"""Image files to NumPy arrays and back; colour is RGB, EXIF turns are applied.

Files come from anybody: see `image_decoding` for what is refused. The first picture of an
animation, or of a file of several pages, is read. All functions may be called from several threads at once.
"""

import typing
from pathlib import Path

import cv2
import numpy as np

from glcic_tf.common import files
from glcic_tf.common.errors import UsageError, UserError
from glcic_tf.imaging import image_decoding, image_encoding, image_formats, image_metadata, image_process, jpeg_files
from glcic_tf.imaging.image_decoding import BrokenImageError
from glcic_tf.imaging.image_formats import JPEG_QUALITY, MAX_PIXELS, WRITTEN_SUFFIXES
from glcic_tf.imaging.image_metadata import Metadata

_MAX_FILE_BYTES_PER_PIXEL = 8  # what pixels of four channels of 16 bit take
_MAX_METADATA_BYTES = 2**26  # with them; motion videos too
_REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
_REDUCED_ROOM = 1.5  # closer to the wanted size, single pixels differ by 30 grey levels
_STRIP_ROWS = 64  # what is converted at once: fits a processor's cache
# EXIF orientation -> how an array [height, width, ...] is put upright.
_TURNS = {
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: x.swapaxes(0, 1)[:, ::-1],
    7: lambda x: x.swapaxes(0, 1)[::-1, ::-1],
    8: lambda x: x.swapaxes(0, 1)[::-1],
}


def read_photo(path, max_pixels=MAX_PIXELS, shorter_edge_px=None):
    """Read any photo as 8-bit RGB, for training: grey is repeated, alpha dropped, 16 bit scaled to 8, CMYK converted.

    Args:
        path: file; the format is told by its content, whatever its suffix.
        max_pixels: refuse larger images before decoding them.
        shorter_edge_px: what the photo is to be shrunk to. A JPEG of three times that or more is then decoded at 1/2,
            1/4 or 1/8 of its size, from its low frequencies alone, as long as 1.5 times the wanted size are left. That
            takes half of the time or less, and the result is half a grey level away from that of averaging the whole
            photo.

    Returns:
        uint8 [height, width, 3] RGB, turned as EXIF says.

    Raises:
        UserError: the file is missing, empty, too large, broken, incomplete or not an image.
    """
    data = _read(path, max_pixels)
    try:
        found = decode_jpeg(data, max_pixels, shorter_edge_px)
        if found is not None:
            return _turn(*found)
        decoded = _decode(data, max_pixels)
    except BrokenImageError as error:
        raise UserError(f"{path}: {error}") from error
    turn, pixels = _turn_and_metadata(decoded)[0], decoded.pixels
    del data, decoded  # else they would stand beside the copies
    if pixels.dtype == np.uint16:
        narrow = np.empty(pixels.shape, np.uint8)
        for top in range(0, len(pixels), _STRIP_ROWS):
            narrow[top : top + _STRIP_ROWS] = (pixels[top : top + _STRIP_ROWS].astype(np.uint32) + 128) // 257
        pixels = narrow
    if pixels.shape[2] != 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB if pixels.shape[2] == 1 else cv2.COLOR_RGBA2RGB)
    return _turn(pixels, turn)


def decode_jpeg(data, max_pixels=MAX_PIXELS, shorter_edge_px=None):
    """Decode a JPEG as training does, in a third of the time that libvips takes for a small one.

    Args:
        data: bytes.
        max_pixels, shorter_edge_px: as for `read_photo`.

    Returns:
        (uint8 [height, width, 3] RGB, EXIF's orientation, which is not followed here); None if it is not a JPEG, or
        is one in CMYK.

    Raises:
        BrokenImageError: it is too large, broken or incomplete, or has too many scans.
    """
    header = image_decoding.jpeg_header(data, max_pixels)
    if header is None or header.cmyk:
        return None
    factor = _reduction(min(header.height, header.width), shorter_edge_px)
    flags = (_REDUCED[factor] if factor > 1 else cv2.IMREAD_COLOR_RGB) | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        photo = cv2.imdecode(np.frombuffer(jpeg_files.with_end(data), np.uint8), flags)
    except cv2.error:
        photo = None
    if photo is None:
        raise image_decoding.broken(header.height, header.width)
    if factor > 1:  # the last row and column stand for less than the others where the size is not a multiple
        # OpenCV 5 decodes at reduced size to BGR alone.
        photo = cv2.cvtColor(photo[: header.height // factor, : header.width // factor], cv2.COLOR_BGR2RGB)
    # OpenCV does not say whether a part is missing; libvips does, and is asked where that may be.
    may_lack_a_part = not header.one_scan or jpeg_files.may_lack_a_part(data, photo)
    if may_lack_a_part and jpeg_files.decode(data) is None:
        raise image_decoding.broken(header.height, header.width)
    return photo, header.orientation


class Opened(typing.NamedTuple):
    """An image file that was read.

    Attributes:
        pixels: uint8 or uint16 [height, width, channels], channels 1, 3 or 4 in RGB(A) order, turned as EXIF says.
        metadata: Metadata, to be given to `write_image`: EXIF (without thumbnail and maker note, and saying that the
            pixels are upright), ICC profile, XMP, IPTC, texts and resolution, as far as the file has them and they are
            sound.
        suffix: that of the format in which to write something like it: the file's own, or the nearest that is written.
        pictures: how many the file holds; this is the first.
        sensor_shape: (height, width) before EXIF's turn, if that swapped them; else None.
    """

    pixels: np.ndarray
    metadata: Metadata
    suffix: str
    pictures: int
    sensor_shape: tuple | None


def read_image(path, max_pixels=MAX_PIXELS):
    """Read an image as it is in the file: grey, RGB or RGBA, 8 or 16 bit.

    Palettes and CMYK become RGB, grey with alpha becomes RGBA, 1-bit becomes 0 and 255. A single transparent colour
    becomes alpha in RGB and in palettes, and is ignored in grey.

    Args:
        path, max_pixels: as for `read_photo`.

    Returns:
        uint8 or uint16 [height, width, channels], channels 1, 3 or 4 in RGB(A) order, turned as EXIF says.

    Raises:
        UserError: as `read_photo`.
    """
    return open_image(path, max_pixels).pixels


def open_image(path, max_pixels=MAX_PIXELS, isolated=False):
    """Read an image as `read_image` does, and what it carries beside the pixels.

    Args:
        path, max_pixels: as for `read_photo`.
        isolated: decode it in a process of its own, so that no file can end this one; takes half a second.

    Returns:
        Opened.

    Raises:
        UserError: as `read_photo`.
    """
    try:
        decoded = _decode(_read(path, max_pixels), max_pixels, isolated)
    except BrokenImageError as error:
        raise UserError(f"{path}: {error}") from error
    turn, metadata = _turn_and_metadata(decoded)
    suffix = image_formats.written_as(decoded.format).suffixes[0]
    shape = decoded.pixels.shape[:2] if turn > 4 else None
    return Opened(_turn(decoded.pixels, turn), metadata, suffix, decoded.pictures, shape)


def read_mask(path, max_pixels=MAX_PIXELS, isolated=False):
    """Read a mask: white is the hole, black is known, and a grey value counts as white from 50 % up (128 of 255).

    Colour counts by its grey value. In RGBA the alpha channel is the mask if it is not the same everywhere (painted on
    a transparent layer: opaque is the hole), else the colour is.

    Args:
        path, max_pixels, isolated: as for `open_image`.

    Returns:
        bool [height, width], True in the hole, turned as EXIF says.

    Raises:
        UserError: as `read_photo`, or it is neither black nor white anywhere.
    """
    hole, problem = hole_of(open_image(path, max_pixels, isolated).pixels)
    if problem:
        raise UserError(f"{path}: {problem}")
    return hole


def hole_of(image):
    """Find the hole in the pixels of a mask, as `read_mask` says.

    Args:
        image: uint8 or uint16 [height, width, 1|3|4].

    Returns:
        (bool [height, width], what is wrong with it as the rest of a sentence, or None).
    """
    most = np.iinfo(image.dtype).max
    if image.shape[2] == 1:
        grey = image
    elif image.shape[2] == 3:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    else:
        grey = cv2.extractChannel(image, 3)
        if grey.min() == grey.max():
            grey = cv2.cvtColor(image, cv2.COLOR_RGBA2GRAY)
    hole = grey.reshape(image.shape[:2]) >= 128 * (most // 255)
    brightest = int(grey.max())
    if brightest and not hole.any():
        found = "no value above 1" if brightest == 1 else f"nothing brighter than {100 * brightest / most:.0f} % grey"
        return hole, f"holds {found}; expected white in the hole ({most}), and black elsewhere."
    return hole, None


def write_image(path, image, jpeg_quality=JPEG_QUALITY, metadata=None):
    """Write an image in the format that the suffix names; what that format cannot hold is converted or left out.

    PNG and TIFF keep everything. AVIF is written lossless and keeps 12 bit; WebP is written lossless and keeps 8 bit,
    but not the colour of fully transparent pixels; in both, grey becomes RGB. BMP keeps 8-bit grey, RGB and RGBA. JPEG
    keeps 8-bit grey and RGB, with as many samples of colour as the photo had in its file, which are all of them if that
    was not a JPEG. Where there is no room for them, 16 bit is rounded to 8 and alpha dropped. The file appears under
    its name only when it is complete. What each keeps of the metadata: docs/completion.md. A profile is left out if it
    is not for the colours that are written: one for grey, say, where RGB is written.

    Args:
        path: file to write, replaced if it is there; its folder must exist.
        image: uint8 or uint16 [height, width] or [height, width, channels], channels 1, 3 or 4 in RGB(A) order.
        jpeg_quality: 1 to 100, for JPEG alone.
        metadata: Metadata that `open_image` returned, or None to write pixels alone.

    Raises:
        UserError: unknown suffix, a place that cannot be written, or an image too large for the format.
        ValueError: `image` is not such an array.
    """
    path, image = Path(path), np.asarray(image)
    found = image_formats.of(check_writable_suffix(path))
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or image.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"Expected uint8 or uint16 [height, width, 1|3|4], found {image.dtype} {list(image.shape)}.")
    height, width = image.shape[:2]
    buffers = image_encoding.encode(image, found, jpeg_quality, metadata or Metadata())
    if buffers is None:
        raise UserError(f"{path}: {found.name} cannot hold {width} x {height} px; write a .png instead.")
    with files.replacing(path) as temporary, temporary.open("wb") as file:
        file.writelines(buffers)


def check_writable_suffix(path):
    """Return the lower-case suffix of `path`, or raise a UserError if `write_image` does not know it."""
    suffix = Path(str(path)).suffix.lower()  # a URL too
    if suffix not in WRITTEN_SUFFIXES:
        found = repr(suffix) if suffix else "no suffix"
        raise UsageError(f"{path}: found {found}; expected an image name that ends in {', '.join(WRITTEN_SUFFIXES)}.")
    return suffix


def suffix_like(path):
    """Return the suffix under which to write something like an image file, by its content and not by its name.

    It is that of the same format, or of the nearest that is written.

    Raises:
        UserError: the file cannot be read, or is not an image.
    """
    with files.open_regular(path, "an image file") as file:
        start = file.read(files.START_BYTES)
    return image_formats.written_as(_format_of(path, start)).suffixes[0]


def _format_of(path, start):
    try:
        return image_decoding.format_of(start)
    except BrokenImageError as error:
        raise UserError(f"{path}: {error}") from error


def _read(path, max_pixels):
    most = _MAX_FILE_BYTES_PER_PIXEL * max_pixels + _MAX_METADATA_BYTES
    data = files.read_bytes(path, most, "an image file", lambda start: _format_of(path, start))
    if not data:
        raise UserError(f"{path}: is empty; expected an image file ({image_formats.READ}).")
    return data


def _decode(data, max_pixels, isolated=False):
    if isolated or image_decoding.format_of(data) is image_formats.HEIC:
        return image_process.decode(data, max_pixels)
    return image_decoding.decode(data, max_pixels)


def _turn_and_metadata(decoded):
    """Return (EXIF's orientation, which is 1 if no turn is needed, and Metadata)."""
    turn, metadata = image_metadata.clean(**decoded.carried)
    return 1 if decoded.turned else turn, metadata


def _reduction(shorter_px, wanted_px):
    """Return by which factor, 1 to 8, a JPEG may be decoded smaller."""
    if wanted_px is None:
        return 1
    return max([factor for factor in _REDUCED if shorter_px // factor >= _REDUCED_ROOM * wanted_px], default=1)


def _turn(image, orientation):
    """Put [height, width, ...] upright; what is upright already is not copied."""
    return np.ascontiguousarray(_TURNS[orientation](image)) if orientation in _TURNS else image
