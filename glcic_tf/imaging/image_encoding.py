"""Pixels to bytes of image files: JPEG, PNG, WebP and BMP by OpenCV, TIFF and AVIF by libvips, with metadata."""

import cv2
import numpy as np
import pyvips

from glcic_tf.imaging import exif, image_formats, image_metadata, png_chunks

_STRIP_ROWS = 64  # what is converted at once: fits a processor's cache
_IN_WEBP = {cv2.IMAGE_METADATA_EXIF: "exif", cv2.IMAGE_METADATA_XMP: "xmp", cv2.IMAGE_METADATA_ICCP: "icc"}
_CHROMA = {
    "4:2:0": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    "4:2:2": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    "4:4:4": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
}
_AVIF_BITS = 12
_MAX_EXIF_BYTES = 65_500  # of more, libvips writes the beginning
_AVIF_EFFORT = 0  # lossless files are hardly smaller with more, and take twenty times the time
_MM_PER_INCH = 25.4


def encode(image, found, jpeg_quality, metadata):
    """Encode an image.

    Args:
        image: uint8 or uint16 [height, width, 1|3|4] in RGB(A) order.
        found: Format to write; what it cannot hold is converted or left out.
        jpeg_quality: 1 to 100, for JPEG alone.
        metadata: Metadata.

    Returns:
        List of buffers that make up the file, or None if the format cannot hold an image of this size.
    """
    if found in (image_formats.TIFF, image_formats.AVIF):
        image = _converted(image, found, bgr=False)
        try:
            return _by_libvips(image, found, metadata.fitting(image.shape[2]))
        except pyvips.Error:
            return None
    image = _converted(image, found, bgr=True)
    try:
        return _by_opencv(image, found, jpeg_quality, metadata.fitting(image.shape[2]))
    except cv2.error:
        return None


def _converted(image, found, bgr):
    """Return an image as the format can hold it; at most one copy is made, of the written size."""
    order = {1: [0], 3: [0, 1, 2], 4: [0, 1, 2, 3]}[image.shape[2]]
    order = order[:3] if not found.alpha else order
    order = [0, 0, 0] if order == [0] and not found.grey else order
    if bgr and len(order) > 1:
        order[:3] = order[2::-1]
    narrow = image.dtype == np.uint16 and found.bits == 8
    if order == list(range(image.shape[2])) and not narrow:
        return np.ascontiguousarray(image)
    result = np.empty((*image.shape[:2], len(order)), np.uint8 if narrow else image.dtype)
    for top in range(0, image.shape[0], _STRIP_ROWS):
        strip = image[top : top + _STRIP_ROWS]
        if narrow:
            strip = (strip.astype(np.uint32) + 128) // 257
        for channel, source in enumerate(order):
            result[top : top + _STRIP_ROWS, :, channel] = strip[..., source]
    return result


def _by_opencv(image, found, jpeg_quality, metadata):
    """Encode by OpenCV, and put metadata in: OpenCV itself does that fully for WebP alone."""
    suffix = found.suffixes[0]
    if found is image_formats.WEBP:
        known = [(kind, getattr(metadata, name)) for kind, name in _IN_WEBP.items()]
        known = {kind: np.frombuffer(blob, np.uint8) for kind, blob in known if blob}
        done, data = cv2.imencodeWithMetadata(suffix, image, np.array(list(known), np.int32), list(known.values()))
        return [data] if done else None
    settings = []
    if found is image_formats.JPEG:
        chroma = _CHROMA[metadata.chroma or "4:4:4"]
        settings = [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, chroma]
    done, data = cv2.imencode(suffix, image, settings)
    if not done:
        return None
    data = memoryview(data).cast("B")
    if found is image_formats.JPEG:
        head, rest = image_metadata.jpeg_start(data, metadata.dpi)
        return [*head, *image_metadata.jpeg_segments(metadata), rest]
    if found is image_formats.PNG:
        return [data[:33], *png_chunks.write(metadata), data[33:]]  # after the signature and IHDR
    return [data]


def _by_libvips(image, found, metadata):
    height, width, channels = image.shape
    grey, deep = channels == 1, image.dtype == np.uint16
    kind = ("grey16" if deep else "b-w") if grey else ("rgb16" if deep else "srgb")
    vips = pyvips.Image.new_from_memory(image, width, height, channels, "ushort" if deep else "uchar")
    vips = vips.copy(interpretation=kind, **_resolution(metadata.dpi))
    blobs = {"icc-profile-data": metadata.icc, "xmp-data": metadata.xmp}
    keeps_exif = metadata.exif and len(metadata.exif) <= _MAX_EXIF_BYTES
    if found is image_formats.AVIF and keeps_exif:
        blobs["exif-data"] = b"Exif\0\0" + metadata.exif
    for field, blob in blobs.items():
        if blob:
            vips.set_type(pyvips.GValue.blob_type, field, blob)
    if found is image_formats.TIFF:
        data = vips.tiffsave_buffer(compression="deflate", predictor="horizontal", resunit="inch")
        return [exif.into_tiff(data, metadata.exif, metadata.iptc) if metadata.exif or metadata.iptc else data]
    kept = "exif|xmp|icc" if keeps_exif else "xmp|icc"  # else libvips makes an EXIF of its own
    bits = _AVIF_BITS if deep else 8
    return [vips.heifsave_buffer(compression="av1", lossless=True, effort=_AVIF_EFFORT, bitdepth=bits, keep=kept)]


def _resolution(dpi):
    x, y = dpi or (72, 72)  # which is what every program assumes where it finds none
    return {"xres": x / _MM_PER_INCH, "yres": y / _MM_PER_INCH}
