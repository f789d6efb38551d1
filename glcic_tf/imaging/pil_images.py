"""Images of Pillow (PIL) as pixels, the same that their files would give. Pillow itself is not needed here."""

import io
import sys

import numpy as np

from glcic_tf.imaging import image_decoding

_AS_THEY_ARE = ("L", "RGB", "RGBA")
_WRITTEN_AS = {"1": "PNG", "P": "PNG", "LA": "PNG", "I;16": "PNG", "CMYK": "TIFF"} | dict.fromkeys(_AS_THEY_ARE, "PNG")
_CONVERTED_TO = {"PA": "RGBA", "La": "LA", "RGBa": "RGBA", "RGBX": "RGB", "YCbCr": "RGB", "HSV": "RGB", "LAB": "RGB"}


def is_pil(value):
    """Whether something is an image of Pillow."""
    module = sys.modules.get("PIL.Image")  # where nobody has imported it there is none
    return module is not None and isinstance(value, module.Image)


def pixels_of(image):
    """Return the pixels of a Pillow image, by the rules for files, see `images.read_image`.

    Palettes and CMYK (by its profile) become RGB, a transparent colour becomes alpha, 1 bit becomes 0 and 255, and the
    turn that EXIF asks for is applied.

    Args:
        image: PIL.Image.Image of any mode but those of 32 bits a channel; it is not changed.

    Returns:
        uint8 or uint16 [height, width, 1|3|4], new.

    Raises:
        ValueError: another mode, or no pixel.
    """
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode in _CONVERTED_TO:
        image = image.convert(_CONVERTED_TO[image.mode])
    if image.mode in _AS_THEY_ARE and "transparency" not in image.info:
        pixels = np.array(image)
        return pixels[..., None] if pixels.ndim == 2 else pixels
    if image.mode not in _WRITTEN_AS or 0 in image.size:
        known = ", ".join([*_WRITTEN_AS, *_CONVERTED_TO])
        raise ValueError(f"image: found mode {image.mode} of {image.size}; expected one of {known}, and pixels.")
    file = io.BytesIO()
    image.save(file, _WRITTEN_AS[image.mode], icc_profile=image.info.get("icc_profile"))
    return image_decoding.decode(file.getvalue(), image.width * image.height).pixels
