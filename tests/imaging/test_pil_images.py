"""Images of Pillow give the pixels that their files give."""

import numpy as np
import pytest
from PIL import Image, ImageCms

from glcic_tf.imaging import images, pil_images

HEIGHT, WIDTH = 7, 11


def rgb(channels=3):
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, channels), np.uint8)


def opened(tmp_path, image, suffix, **options):
    """The image as Pillow reads it from a file, and the file's path."""
    path = tmp_path / f"image{suffix}"
    image.save(path, **options)
    return Image.open(path), path


def palette(transparent):
    image = Image.fromarray(rgb()).quantize(16)
    return image, {"transparency": 3} if transparent else {}


MADE = {
    "rgb": lambda: (Image.fromarray(rgb()), ".png", {}),
    "grey": lambda: (Image.fromarray(rgb(1)[..., 0]), ".png", {}),
    "rgba": lambda: (Image.fromarray(rgb(4)), ".png", {}),
    "grey with alpha": lambda: (Image.fromarray(rgb(2), "LA"), ".png", {}),
    "one bit": lambda: (Image.fromarray(rgb(1)[..., 0] > 127), ".png", {}),
    "palette": lambda: (palette(False)[0], ".png", {}),
    "palette, one transparent": lambda: (palette(True)[0], ".png", palette(True)[1]),
    "rgb, one transparent": lambda: (Image.fromarray(rgb()), ".png", {"transparency": tuple(map(int, rgb()[2, 3]))}),
    "16 bit": lambda: (Image.fromarray(rgb(1)[..., 0].astype(np.uint16) * 257 + 3), ".png", {}),
    "cmyk": lambda: (Image.fromarray(rgb(4), "CMYK"), ".tif", {}),
    "cmyk of a jpeg": lambda: (Image.fromarray(rgb(4), "CMYK"), ".jpg", {"quality": 100}),
    "turned palette": lambda: (palette(False)[0], ".png", {"exif": exif(6)}),
}


MADE |= {f"turned {t}": lambda t=t: (Image.fromarray(rgb()), ".png", {"exif": exif(t)}) for t in range(1, 9)}


def exif(turn):
    made = Image.Exif()
    made[0x0112] = turn
    return made


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated:DeprecationWarning")
@pytest.mark.parametrize("kind", MADE)
def test_pixels_are_those_of_the_file(kind, tmp_path):
    image, path = opened(tmp_path, *MADE[kind]()[:2], **MADE[kind]()[2])
    assert pil_images.is_pil(image)
    before = (image.mode, image.size, dict(image.getexif()))
    found, expected = pil_images.pixels_of(image), images.read_image(path)
    assert found.dtype == expected.dtype and found.shape == expected.shape
    tolerance = 1 if kind == "cmyk of a jpeg" else 0  # two decoders
    np.testing.assert_allclose(found.astype(int), expected.astype(int), atol=tolerance)
    assert (image.mode, image.size, dict(image.getexif())) == before
    assert found.flags.writeable


def test_profiles_of_cmyk_are_followed(tmp_path):
    """An ICC profile of RGB does not fit, and is left aside as in files."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.new("CMYK", (WIDTH, HEIGHT), (10, 200, 30, 40))
    image.info["icc_profile"] = profile
    image.save(tmp_path / "a.tif", icc_profile=profile)
    np.testing.assert_array_equal(pil_images.pixels_of(image), images.read_image(tmp_path / "a.tif"))


@pytest.mark.parametrize(("mode", "channels"), [("YCbCr", 3), ("HSV", 3), ("RGBa", 4), ("La", 4), ("LAB", 3)])
def test_other_modes_are_converted(mode, channels):
    pixels = pil_images.pixels_of(Image.new(mode, (WIDTH, HEIGHT)))
    assert pixels.shape == (HEIGHT, WIDTH, channels) and pixels.dtype == np.uint8


@pytest.mark.parametrize("image", [Image.new("F", (3, 2)), Image.new("I", (3, 2)), Image.new("P", (0, 2))])
def test_modes_that_have_no_range(image):
    with pytest.raises(ValueError, match=f"found mode {image.mode} of .*; expected one of 1, P, "):
        pil_images.pixels_of(image)


def test_what_is_none():
    assert not pil_images.is_pil(rgb()) and not pil_images.is_pil("a.png") and not pil_images.is_pil(None)
