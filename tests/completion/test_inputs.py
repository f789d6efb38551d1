"""Every kind of photo with every kind of mask in awkward sizes, through files, as a user of infer.py would.

Photos and masks are written by Pillow or by hand and outputs read by Pillow, independently of the package's reader.
"""

import numpy as np
import pytest
from PIL import Image

from glcic_tf.completion.completer import Completer
from glcic_tf.imaging import images
from glcic_tf.networks.completion import completion_network

pytestmark = pytest.mark.slow

SIZES = [(1, 7), (7, 1), (3, 5), (257, 255), (40, 900)]  # (height, width)


@pytest.fixture(scope="module")
def completer():
    return Completer(completion_network(1 / 16))


def pixels(size, channels, dtype=np.uint8):
    return np.random.default_rng(size[1]).integers(0, np.iinfo(dtype).max, (*size, channels), dtype, endpoint=True)


def hole(size):
    inside = np.random.default_rng(0).random(size) < 0.3
    inside.flat[0], inside.flat[-1] = True, False
    return inside


def grey16(path, size):
    Image.fromarray(pixels(size, 1, np.uint16)[..., 0]).save(path)


def deep(channels):
    # Pillow does not write 16-bit colour; the package's own writer is tested against it in test_images.py.
    return lambda path, size: images.write_image(path, pixels(size, channels, np.uint16))


def eight_bit(channels, **settings):
    def write(path, size):
        array = pixels(size, channels)
        Image.fromarray(array[..., 0] if channels == 1 else array).save(path, **settings)

    return write


def converted(mode, **settings):
    return lambda path, size: Image.fromarray(pixels(size, 3)).convert(mode).save(path, **settings)


# Name -> suffix, writer, and what an output of the same format has: (channels, dtype).
PHOTOS = {
    "png_grey": (".png", eight_bit(1), (1, np.uint8)),
    "png_grey_alpha": (".png", eight_bit(2), (4, np.uint8)),
    "png_rgb": (".png", eight_bit(3), (3, np.uint8)),
    "png_rgba": (".png", eight_bit(4), (4, np.uint8)),
    "png_1_bit": (".png", converted("1"), (1, np.uint8)),
    "png_palette": (".png", converted("P"), (3, np.uint8)),
    "png_palette_transparent": (".png", converted("P", transparency=0), (4, np.uint8)),
    "png_grey_16": (".png", grey16, (1, np.uint16)),
    "png_rgb_16": (".png", deep(3), (3, np.uint16)),
    "png_rgba_16": (".png", deep(4), (4, np.uint16)),
    "jpeg_grey": (".jpg", eight_bit(1), (1, np.uint8)),
    "jpeg_rgb": (".jpg", eight_bit(3), (3, np.uint8)),
    "jpeg_progressive": (".jpg", eight_bit(3, progressive=True), (3, np.uint8)),
    "jpeg_cmyk": (".jpg", converted("CMYK"), (3, np.uint8)),
    "bmp_grey": (".bmp", eight_bit(1), (1, np.uint8)),
    "bmp_rgb": (".bmp", eight_bit(3), (3, np.uint8)),
    "bmp_palette": (".bmp", converted("P"), (3, np.uint8)),
    "webp_lossy": (".webp", eight_bit(3), (3, np.uint8)),
    "webp_rgba": (".webp", eight_bit(4, lossless=True, exact=True), (4, np.uint8)),
}


def grey(inside):
    return Image.fromarray(np.where(inside, 128, 127).astype(np.uint8))


def white(inside):
    return Image.fromarray(np.where(inside, 255, 0).astype(np.uint8))


def with_alpha(alpha, colour):
    return Image.fromarray(np.dstack([*[np.where(colour, 255, 0)] * 3, np.where(alpha, 255, 0)]).astype(np.uint8))


def palette(inside):
    image = Image.frombytes("P", inside.shape[::-1], inside.astype(np.uint8).tobytes())
    image.putpalette([10, 20, 30, 250, 240, 230])
    return image


MASKS = {
    "1_bit": ("png", lambda inside: white(inside).convert("1")),
    "grey": ("png", grey),
    "grey_16": ("png", lambda inside: Image.fromarray(np.where(inside, 32896, 32767).astype(np.uint16))),
    "rgb": ("bmp", lambda inside: white(inside).convert("RGB")),
    "rgba_painted_on_transparency": ("png", lambda inside: with_alpha(inside, np.zeros_like(inside))),
    "rgba_opaque": ("webp", lambda inside: with_alpha(np.ones_like(inside), inside)),
    "palette": ("png", palette),
}


@pytest.mark.parametrize(("suffix", "write", "expected"), PHOTOS.values(), ids=PHOTOS)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[1]}x{size[0]}")
def test_photo(completer, tmp_path, size, suffix, write, expected):
    photo, inside = tmp_path / f"photo{suffix}", hole(size)
    write(photo, size)
    original = images.read_image(photo)
    results = []
    for name, (mask_suffix, draw) in MASKS.items():
        mask = tmp_path / f"mask.{mask_suffix}"
        draw(inside).save(mask, **({"lossless": True, "exact": True} if mask_suffix == "webp" else {}))
        for output in (f"{name}{suffix}", f"{name}_as.png"):
            completer.complete_file(photo, mask, tmp_path / output)
        with Image.open(tmp_path / f"{name}{suffix}") as opened:
            opened.load()
            assert opened.size == size[::-1]
        same_format = images.read_image(tmp_path / f"{name}{suffix}")
        assert (same_format.shape[2], same_format.dtype) == expected
        result = images.read_image(tmp_path / f"{name}_as.png")
        assert result.dtype == original.dtype and result.shape == original.shape
        np.testing.assert_array_equal(result[~inside], original[~inside])
        if suffix not in (".jpg",):
            seen = original[..., 3] > 0 if suffix == ".webp" and original.shape[2] == 4 else True
            np.testing.assert_array_equal(same_format[~inside & seen], original[~inside & seen])
        results.append(result)
    assert all((result == results[0]).all() for result in results)  # one hole, however it is drawn
