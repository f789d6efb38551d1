"""Image files to NumPy arrays and back: JPEG, PNG, BMP and WebP; colour is RGB, EXIF turns are applied.

Files come from anybody, so only these four formats reach OpenCV's decoders, and only after the size that the header
claims was checked. A file that breaks off early is refused, not half decoded; damage in the middle of a JPEG is not
noticed by the decoder (libjpeg prints a warning on stderr, as libpng does for its errors: OpenCV cannot silence them).
Of an animation the first frame is read. All functions may be called from several threads at once.

OpenCV's decoders hold an image twice for a moment; nothing here holds more of a large photo than that.
"""

import os
from pathlib import Path

import cv2
import numpy as np

from glcic_tf.common import files
from glcic_tf.common.errors import UserError
from glcic_tf.imaging import image_headers
from glcic_tf.imaging.image_headers import Metadata

# Every failure is raised as a UserError; OpenCV's own report of the same on stderr would only double it.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
MAX_PIXELS = 2**28  # 268 megapixels: above any camera's photo, and 0.8 GB as 8-bit RGB
JPEG_QUALITY = 95
_FORMATS = "JPEG, PNG, BMP or WebP"
_HOLDS_16_BIT, _HOLDS_ALPHA, _HOLDS_GREY = (".png",), (".png", ".webp", ".bmp"), (".jpg", ".jpeg", ".png", ".bmp")
_METADATA = {cv2.IMAGE_METADATA_EXIF: "exif", cv2.IMAGE_METADATA_XMP: "xmp", cv2.IMAGE_METADATA_ICCP: "icc"}
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


def read_photo(path, max_pixels=MAX_PIXELS, shorter_edge_px=None):
    """Read any photo as 8-bit RGB, for training: grey is repeated, alpha dropped, 16 bit scaled to 8, CMYK converted.

    Args:
        path: file; the format is told by its content, whatever its suffix.
        max_pixels: refuse larger images before decoding them.
        shorter_edge_px: what the photo is to be shrunk to. A JPEG of three times that or more is then decoded at 1/2,
            1/4 or 1/8 of its size, from its low frequencies alone, as far as 1.5 times that are left: in half of the
            time and less, and shrunk on from there half a grey level away from what averaging the whole photo gives.

    Returns:
        uint8 [height, width, 3] RGB, turned as EXIF says.

    Raises:
        UserError: the file is missing, empty, too large, broken or no image.
    """
    # OpenCV follows no EXIF in some places where it reads it: the turn is left to us.
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    image, orientation, _ = _decode(path, max_pixels, flags, shorter_edge_px)
    return _turn(image, orientation)


def read_image(path, max_pixels=MAX_PIXELS):
    """Read an image as it is in the file: grey, RGB or RGBA, 8 or 16 bit.

    Palettes and CMYK become RGB, grey with alpha becomes RGBA, 1-bit becomes 0 and 255. A single transparent colour
    becomes alpha in RGB and in palettes, and is ignored in grey.

    Args:
        path, max_pixels: as for `read_photo`.

    Returns:
        uint8 or uint16 [height, width, channels], channels 1, 3 or 4 in RGB(A) order, turned as EXIF says.

    Raises:
        UserError: the file is missing, empty, too large, broken or no image.
    """
    return read_image_and_metadata(path, max_pixels)[0]


def read_image_and_metadata(path, max_pixels=MAX_PIXELS):
    """Read an image as `read_image` does, and what it carries beside the pixels.

    Returns:
        (image, Metadata): EXIF (without thumbnail and maker note, and saying that the pixels are upright), ICC profile
        and XMP, as far as the file has them and they are sound; to be given to `write_image`.

    Raises:
        UserError: as `read_image`.
    """
    image, orientation, metadata = _decode(path, max_pixels, cv2.IMREAD_UNCHANGED)
    if image.shape[2] > 1:
        code = cv2.COLOR_BGR2RGB if image.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
        for top in range(0, image.shape[0], _STRIP_ROWS):
            strip = image[top : top + _STRIP_ROWS]
            strip[...] = cv2.cvtColor(strip, code)
    return _turn(image, orientation), metadata


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
    image, orientation, _ = _decode(path, max_pixels, cv2.IMREAD_UNCHANGED)
    half = 128 if image.dtype == np.uint8 else 128 * 257
    if image.shape[2] == 1:
        grey = image
    elif image.shape[2] == 3:
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    else:
        grey = cv2.extractChannel(image, 3)
        if grey.min() == grey.max():
            grey = cv2.cvtColor(image, cv2.COLOR_BGRA2GRAY)
    return _turn(grey.reshape(image.shape[:2]) >= half, orientation)


def write_image(path, image, jpeg_quality=JPEG_QUALITY, metadata=None):
    """Write an image in the format that the suffix names; what that format cannot hold is converted or left out.

    PNG keeps everything. BMP keeps 8-bit grey, RGB and RGBA. WebP is written lossless and keeps 8-bit RGB and RGBA, but
    not the colour of fully transparent pixels; grey becomes RGB. JPEG keeps 8-bit grey and RGB. Where there is no room
    for them, 16 bit is rounded to 8 and alpha dropped. The file appears under its name only when it is complete.

    Metadata is kept by JPEG (EXIF and XMP up to 64 kB each), PNG and WebP, and by BMP not at all. A profile is left out
    if it is not for the colours that are written: of CMYK or grey, and RGB is written.

    Args:
        path: file to write, replaced if it is there; its folder must exist.
        image: uint8 or uint16 [height, width] or [height, width, channels], channels 1, 3 or 4 in RGB(A) order.
        jpeg_quality: 1 to 100, for JPEG alone.
        metadata: Metadata that `read_image_and_metadata` returned, or None to write pixels alone.

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
    height, width = image.shape[:2]
    image = _for_encoder(image, suffix)
    buffers = _encode(suffix, image, jpeg_quality, (metadata or Metadata()).fitting(image.shape[2]))
    if buffers is None:
        raise UserError(f"{path}: {suffix[1:]} cannot hold {width} x {height} px; write a .png instead.")
    with files.replacing(path) as temporary, temporary.open("wb") as file:
        file.writelines(buffers)


def check_writable_suffix(path):
    """Return the lower-case suffix of `path`, or raise a UserError if `write_image` does not know it."""
    suffix = Path(path).suffix.lower()
    if suffix not in PHOTO_SUFFIXES:
        found = repr(suffix) if suffix else "no suffix"
        raise UserError(f"{path}: found {found}; expected an image name that ends in {', '.join(PHOTO_SUFFIXES)}.")
    return suffix


def _decode(path, max_pixels, flags, shorter_edge_px=None):
    """Read a file, check format and size by its header, and decode it, reduced if `shorter_edge_px` allows it.

    Returns:
        (image, orientation, metadata): uint8 or uint16 [height, width, 1|3|4] as OpenCV's `flags` say (BGR if they say
        nothing), not yet turned; EXIF's 1 to 8; Metadata.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); expected an image file.") from error
    if not data:
        raise UserError(f"{path}: is empty; expected a {_FORMATS} image.")
    size = image_headers.size(data)
    if size is None:
        raise UserError(f"{path}: is no {_FORMATS} image, whatever its name says; convert it, or leave it out.")
    height, width = size
    if height * width > max_pixels:
        raise UserError(
            f"{path}: has {width} x {height} px, {height * width / 1e6:.0f} megapixels; at most {max_pixels / 1e6:.0f} "
            "are read; make it smaller, or raise --max_megapixels."
        )
    factor = _reduction(data, min(size), shorter_edge_px)
    try:
        # OpenCV 5 decodes at reduced size to BGR alone.
        flags = _REDUCED[factor] | cv2.IMREAD_IGNORE_ORIENTATION if factor > 1 else flags
        image, kinds, blobs = cv2.imdecodeWithMetadata(np.frombuffer(data, np.uint8), flags=flags)
    except cv2.error:
        image = None
    if image is None:
        raise UserError(f"{path}: is broken or incomplete ({width} x {height} px by its header); get a whole copy.")
    if factor > 1:  # the last row and column stand for less than the others where the size is no multiple
        image = cv2.cvtColor(image[: height // factor, : width // factor], cv2.COLOR_BGR2RGB)
    image = image[..., None] if image.ndim == 2 else image
    if image.shape[2] not in (1, 3, 4) or image.dtype not in (np.uint8, np.uint16):
        raise UserError(
            f"{path}: has {image.shape[2]} channels of {image.dtype}; expected grey, RGB or RGBA of 8 or 16 bit; "
            "convert it, to PNG for example."
        )
    names = [_METADATA.get(kind) for kind in np.ravel(kinds).tolist()]
    known = {name: blob.tobytes() for name, blob in zip(names, blobs, strict=True) if name}
    return image, *image_headers.clean(**known)


def _reduction(data, shorter_px, wanted_px):
    """Return the factor, 1 to 8, that an encoded image may be decoded smaller by."""
    if wanted_px is None or not data.startswith(b"\xff\xd8"):  # only a JPEG is faster so
        return 1
    return max([factor for factor in _REDUCED if shorter_px // factor >= _REDUCED_ROOM * wanted_px], default=1)


def _turn(image, orientation):
    """Put [height, width, ...] upright; what is upright already is not copied."""
    return np.ascontiguousarray(_TURNS[orientation](image)) if orientation in _TURNS else image


def _for_encoder(image, suffix):
    """Return an image as the format can hold it, in OpenCV's order; at most one copy is made, of the written size."""
    channels = image.shape[2]
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]
    if channels == 4 and suffix not in _HOLDS_ALPHA:
        order = [2, 1, 0]
    elif channels == 1 and suffix not in _HOLDS_GREY:
        order = [0, 0, 0]
    narrow = image.dtype == np.uint16 and suffix not in _HOLDS_16_BIT
    if order == [0] and not narrow:
        return np.ascontiguousarray(image)
    result = np.empty((*image.shape[:2], len(order)), np.uint8 if narrow else image.dtype)
    for top in range(0, image.shape[0], _STRIP_ROWS):
        strip = image[top : top + _STRIP_ROWS]
        if narrow:
            strip = (strip.astype(np.uint32) + 128) // 257
        for channel, source in enumerate(order):
            result[top : top + _STRIP_ROWS, :, channel] = strip[..., source]
    return result


def _encode(suffix, image, jpeg_quality, metadata):
    """Return what makes up the file: a list of buffers, or None if the format cannot hold an image of this size."""
    try:
        if suffix == ".webp":
            known = [(kind, getattr(metadata, name)) for kind, name in _METADATA.items()]
            known = {kind: np.frombuffer(blob, np.uint8) for kind, blob in known if blob}
            kinds = np.array(list(known), np.int32)
            done, data = cv2.imencodeWithMetadata(suffix, image, kinds, list(known.values()))
        else:
            settings = [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality] if suffix in (".jpg", ".jpeg") else []
            done, data = cv2.imencode(suffix, image, settings)
    except cv2.error:
        return None
    if not done:
        return None
    return [data] if suffix in (".webp", ".bmp") else image_headers.insert(data, metadata)
