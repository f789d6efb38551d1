"""Image files to NumPy arrays and back: JPEG, PNG, BMP and WebP; colour is RGB, EXIF turns are applied.

Files come from anybody, so only these four formats reach OpenCV's decoders, and only after the size that the header
claims was checked. A file that breaks off early is refused, not half decoded; damage in the middle of a JPEG is not
noticed by the decoder (libjpeg prints a warning on stderr, as libpng does for its errors: OpenCV cannot silence them).
All functions may be called from several threads at once.
"""

import os
import struct
from pathlib import Path

import cv2
import numpy as np

from glcic_tf import files
from glcic_tf.errors import UserError

# Every failure is raised as a UserError; OpenCV's own report of the same on stderr would only double it.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
MAX_PIXELS = 2**28  # 268 megapixels: above any camera's photo, and 0.8 GB as 8-bit RGB
JPEG_QUALITY = 95
_FORMATS = "JPEG, PNG, BMP or WebP"
_HOLDS_16_BIT, _HOLDS_ALPHA, _HOLDS_GREY = (".png",), (".png", ".webp", ".bmp"), (".jpg", ".jpeg", ".png", ".bmp")
# EXIF tag 0x0112 -> how an array [height, width, channels] is put upright.
_TURNS = {
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: x.swapaxes(0, 1)[:, ::-1],
    7: lambda x: x.swapaxes(0, 1)[::-1, ::-1],
    8: lambda x: x.swapaxes(0, 1)[::-1],
}


def find_photos(folder):
    """List the photos in a folder, at any depth, in the same order on every machine.

    Args:
        folder: path; files and folders in it whose name starts with a dot are left out, links to folders not followed.

    Returns:
        Sorted list of pathlib.Path, all with a suffix in PHOTO_SUFFIXES (upper or lower case). Not empty.

    Raises:
        UserError: the folder is missing, is no folder, cannot be listed or holds no photo.
    """
    folder = Path(folder)
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise UserError(f"{folder}: expected a folder of photos, found {found}; name a folder that exists.")

    def refuse(error):
        raise UserError(f"{error.filename}: cannot be listed ({error.strerror}); check its permissions.")

    photos = []
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        photos += [
            Path(parent, name) for name in names if name.lower().endswith(PHOTO_SUFFIXES) and not name.startswith(".")
        ]
    if not photos:
        raise UserError(f"{folder}: holds no photo; expected files that end in {', '.join(PHOTO_SUFFIXES)}.")
    return sorted(photos)


def read_photo(path, max_pixels=MAX_PIXELS):
    """Read any photo as 8-bit RGB, for training: grey is repeated, alpha dropped, 16 bit scaled to 8, CMYK converted.

    Args:
        path: file; the format is told by its content, whatever its suffix.
        max_pixels: refuse larger images before decoding them.

    Returns:
        uint8 [height, width, 3] RGB, turned as EXIF says.

    Raises:
        UserError: the file is missing, empty, too large, broken or no image.
    """
    # OpenCV applies the EXIF turn with this flag (for JPEG, PNG and WebP), and ignores it with IMREAD_UNCHANGED.
    return _decode(path, max_pixels, lambda data: cv2.imdecode(data, cv2.IMREAD_COLOR_RGB))


def read_image(path, max_pixels=MAX_PIXELS):
    """Read an image as it is in the file: grey, RGB or RGBA, 8 or 16 bit.

    Palettes and CMYK become RGB, grey with alpha becomes RGBA, 1-bit becomes 0 and 255.

    Args:
        path, max_pixels: as for `read_photo`.

    Returns:
        uint8 or uint16 [height, width, channels], channels 1, 3 or 4 in RGB(A) order, turned as EXIF says.

    Raises:
        UserError: the file is missing, empty, too large, broken or no image.
    """
    metadata = {}

    def decode(data):
        image, kinds, blobs = cv2.imdecodeWithMetadata(data, flags=cv2.IMREAD_UNCHANGED)
        metadata.update(zip(np.ravel(kinds).tolist(), blobs, strict=True))
        return image

    image = _decode(path, max_pixels, decode)
    image = image[..., None] if image.ndim == 2 else image
    if image.shape[2] not in (1, 3, 4) or image.dtype not in (np.uint8, np.uint16):
        raise UserError(
            f"{path}: has {image.shape[2]} channels of {image.dtype}; expected grey, RGB or RGBA of 8 or 16 bit; "
            "convert it, to PNG for example."
        )
    exif = metadata.get(cv2.IMAGE_METADATA_EXIF)
    if exif is not None:
        image = _TURNS.get(_exif_orientation(exif.tobytes()), lambda x: x)(image)
    return np.ascontiguousarray(_swap_red_and_blue(image))


def read_mask(path, max_pixels=MAX_PIXELS):
    """Read a mask: white is the hole, black is known, and a grey value counts as white from 50 % up (128 of 255).

    Colour counts by its grey value. In RGBA the alpha channel is the mask if it is not the same everywhere (painted on
    a transparent layer: opaque is the hole), else the colour is.

    Args:
        path, max_pixels: as for `read_photo`.

    Returns:
        bool [height, width], True in the hole, turned as EXIF says.

    Raises:
        UserError: the file is missing, empty, too large, broken or no image.
    """
    image = read_image(path, max_pixels)
    if image.shape[2] == 4:
        alpha = image[..., 3]
        image = image[..., 3:] if alpha.min() != alpha.max() else np.ascontiguousarray(image[..., :3])
    if image.shape[2] == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    return image[..., 0] >= (128 if image.dtype == np.uint8 else 128 * 257)


def write_image(path, image, jpeg_quality=JPEG_QUALITY):
    """Write an image in the format that the suffix names; what that format cannot hold is converted.

    PNG keeps everything. BMP keeps 8-bit grey, RGB and RGBA. WebP is written lossless and keeps 8-bit RGB and RGBA, but
    not the colour of fully transparent pixels; grey becomes RGB. JPEG keeps 8-bit grey and RGB. Where there is no room
    for them, 16 bit is rounded to 8 and alpha dropped. The file appears under its name only when it is complete.

    Args:
        path: file to write, replaced if it is there; its folder must exist.
        image: uint8 or uint16 [height, width] or [height, width, channels], channels 1, 3 or 4 in RGB(A) order.
        jpeg_quality: 0 to 100, for JPEG alone.

    Raises:
        UserError: unknown suffix, a place that cannot be written, or an image too large for the format.
        ValueError: `image` is no such array.
    """
    path, image = Path(path), np.asarray(image)
    suffix = check_writable_suffix(path)
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or image.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"Expected uint8 or uint16 [height, width, 1|3|4], found {image.dtype} {list(image.shape)}.")
    if image.dtype == np.uint16 and suffix not in _HOLDS_16_BIT:
        image = ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if image.shape[2] == 4 and suffix not in _HOLDS_ALPHA:
        image = image[..., :3]
    if image.shape[2] == 1 and suffix not in _HOLDS_GREY:
        image = np.repeat(image, 3, axis=2)
    settings = [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality] if suffix in (".jpg", ".jpeg") else []
    height, width = image.shape[:2]
    try:
        done, data = cv2.imencode(suffix, np.ascontiguousarray(_swap_red_and_blue(image)), settings)
    except cv2.error:
        done = False
    if not done:
        raise UserError(f"{path}: {suffix[1:]} cannot hold {width} x {height} px; write a .png instead.")
    with files.replacing(path) as temporary:
        temporary.write_bytes(data.tobytes())


def check_writable_suffix(path):
    """Return the lower-case suffix of `path`, or raise a UserError if `write_image` does not know it."""
    suffix = Path(path).suffix.lower()
    if suffix not in PHOTO_SUFFIXES:
        found = repr(suffix) if suffix else "no suffix"
        raise UserError(f"{path}: found {found}; expected an image name that ends in {', '.join(PHOTO_SUFFIXES)}.")
    return suffix


def _decode(path, max_pixels, decode):
    """Read a file, check format and size by its header, and run `decode` over its bytes (uint8 [length])."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); expected an image file.") from error
    if not data:
        raise UserError(f"{path}: is empty; expected a {_FORMATS} image.")
    try:
        size = _header_size(data)
    except (struct.error, IndexError):  # the file ends inside its header
        size = None
    if size is None:
        raise UserError(f"{path}: is no {_FORMATS} image, whatever its name says; convert it, or leave it out.")
    height, width = size
    if height * width > max_pixels:
        raise UserError(
            f"{path}: has {width} x {height} px, {height * width / 1e6:.0f} megapixels; at most {max_pixels / 1e6:.0f} "
            "are read; make it smaller."
        )
    try:
        image = decode(np.frombuffer(data, np.uint8))
    except cv2.error:
        image = None
    if image is None:
        raise UserError(f"{path}: is broken or incomplete ({width} x {height} px by its header); get a whole copy.")
    return image


def _header_size(data):
    """Return (height, width) in px as the header of a JPEG, PNG, BMP or WebP claims, before any turn, else None."""
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
    if data.startswith(b"\xff\xd8\xff"):
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


def _exif_orientation(exif):
    """Return the value of EXIF tag 0x0112 in bytes that start with the TIFF header; 1 (upright) if it is not there."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    try:
        directory = struct.unpack(order + "I", exif[4:8])[0]
        (count,) = struct.unpack(order + "H", exif[directory : directory + 2])
        for entry in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, kind = struct.unpack(order + "HH", exif[entry : entry + 4])
            if tag == 0x0112 and kind == 3:
                return struct.unpack(order + "H", exif[entry + 8 : entry + 10])[0]
    except (struct.error, TypeError):  # cut off, or no byte order
        pass
    return 1


def _swap_red_and_blue(image):
    """Turn RGB(A) [.., channels] into OpenCV's BGR(A) or back; grey stays."""
    return image if image.shape[2] == 1 else image[..., [2, 1, 0, 3][: image.shape[2]]]
