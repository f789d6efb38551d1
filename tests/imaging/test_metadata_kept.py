"""Metadata goes from the photo into the output, upright, whatever is wrong with it."""

import dataclasses
import struct

import numpy as np
import pytest
from picture_helpers import HEIGHT, WIDTH, exif, saved, smooth
from PIL import Image, ImageCms, ImageOps
from PIL.PngImagePlugin import PngInfo

from glcic_tf.imaging import images
from glcic_tf.imaging.image_metadata import Metadata


def test_exif_as_text_of_older_programs(tmp_path):
    """ImageMagick wrote EXIF to PNG as a text of hexadecimal digits; Pillow follows it."""
    text = PngInfo()
    content = exif(6).tobytes()
    text.add_text("Raw profile type exif", f"\nexif\n{len(content):8d}\n{content.hex()}\n", zip=True)
    path = saved(tmp_path / "x.png", Image.fromarray(smooth()), pnginfo=text)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    np.testing.assert_array_equal(images.read_photo(path), expected)
    np.testing.assert_array_equal(images.read_image(path), expected)


def profile(space=b"RGB ", length=0):
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    made = (made[:16] + space + made[20:]).ljust(length, b"\0")
    return struct.pack(">I", len(made)) + made[4:]


def rich(path, picture, orientation=1, icc=None, **settings):
    """Save with a date, a camera, a place, a profile and XMP."""
    tags = exif(orientation)
    tags[0x0110], tags[0x0132] = "Camera", "2024:05:06 07:08:09"
    tags[0x8825] = {1: "N", 2: (52.0, 31.0, 12.25)}
    xmp = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="{orientation}"/></x:xmpmeta>'
    settings |= {"exif": tags, "icc_profile": icc or profile()}
    if path.suffix == ".png":
        settings["pnginfo"] = PngInfo()
        settings["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp)
    elif path.suffix != ".jpg":
        settings["xmp"] = xmp.encode()
    saved(path, picture, **settings)
    if path.suffix == ".jpg":
        segment = b"http://ns.adobe.com/xap/1.0/\0" + xmp.encode()
        data = path.read_bytes()
        path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(segment)) + segment + data[2:])
    return path


def carried(path):
    """EXIF tags, place, profile and XMP as Pillow reads them."""
    with Image.open(path) as picture:
        picture.load()
        tags = picture.getexif()
        found = {tag: value for tag, value in tags.items() if tag != 0x8825}
        return found, dict(tags.get_ifd(0x8825)), picture.info.get("icc_profile"), picture.info.get("xmp")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("source", [".jpg", ".png", ".webp"])
def test_metadata_survives_upright(tmp_path, source, orientation):
    path = rich(tmp_path / f"in{source}", Image.fromarray(smooth()), orientation)
    tags, place, icc, xmp = carried(path)
    assert tags[0x0112] == orientation and len(tags) == 3 and place and icc
    upright = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    image, metadata = images.open_image(path)[:2]
    np.testing.assert_array_equal(image, upright)
    np.testing.assert_array_equal(images.read_image(path), upright)
    for suffix in (".jpg", ".jpeg", ".png", ".webp"):
        images.write_image(tmp_path / f"out{suffix}", image, metadata=metadata)
        result = carried(tmp_path / f"out{suffix}")
        assert result == (tags | {0x0112: 1}, place, icc, xmp.replace(b'"%d"' % orientation, b'"1"')), suffix
        pixels = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / f"out{suffix}")))
        assert np.abs(pixels.astype(int) - upright).max() <= (9 if suffix in (".jpg", ".jpeg") else 0)
        again = images.open_image(tmp_path / f"out{suffix}").metadata
        assert dataclasses.replace(again, chroma=metadata.chroma) == metadata
    images.write_image(tmp_path / "out.bmp", image, metadata=metadata)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out.bmp")), upright)


@pytest.mark.parametrize("suffix", images.WRITTEN_SUFFIXES)
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pixels_are_the_same_with_and_without_metadata(tmp_path, suffix, channels, dtype):
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (HEIGHT, WIDTH, channels), dtype, endpoint=True)
    metadata = images.open_image(rich(tmp_path / "in.webp", Image.fromarray(smooth())))[1]
    images.write_image(tmp_path / f"without{suffix}", image)
    images.write_image(tmp_path / f"with{suffix}", image, metadata=metadata)
    result = images.read_image(tmp_path / f"with{suffix}")
    np.testing.assert_array_equal(result, images.read_image(tmp_path / f"without{suffix}"))
    assert (
        dataclasses.replace(images.open_image(tmp_path / f"without{suffix}").metadata, chroma=None, dpi=None)
        == Metadata()
    )
    if suffix == ".png":
        np.testing.assert_array_equal(result, image)


def test_long_profiles_survive(tmp_path):
    icc = profile(length=200_000)
    path = rich(tmp_path / "in.jpg", Image.fromarray(smooth()), icc=icc)
    image, metadata = images.open_image(path)[:2]
    for suffix in (".jpg", ".png", ".webp"):
        images.write_image(tmp_path / f"out{suffix}", image, metadata=metadata)
        assert carried(tmp_path / f"out{suffix}")[2] == icc, suffix


def test_a_profile_of_other_colours_is_left_out(tmp_path):
    cases = [("CMYK", b"CMYK", ".jpg", False), ("L", b"GRAY", ".jpg", True), ("L", b"GRAY", ".webp", False)]
    for mode, space, suffix, stays in [*cases, ("RGB", b"GRAY", ".jpg", False), ("RGB", b"RGB ", ".jpg", True)]:
        icc = profile(space)
        path = rich(tmp_path / "in.jpg", Image.fromarray(smooth()).convert(mode), icc=icc)
        image, metadata = images.open_image(path)[:2]
        images.write_image(tmp_path / f"out{suffix}", image, metadata=metadata)
        tags, _, result, xmp = carried(tmp_path / f"out{suffix}")
        assert result == (icc if stays else None), (mode, space, suffix)
        assert tags[0x0110] == "Camera" and xmp


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_damaged_metadata_does_not_keep_a_photo_from_being_read(tmp_path, suffix):
    rng = np.random.default_rng(0)
    tags, icc = exif(1).tobytes(), profile()
    for _ in range(40):
        bad = [bytearray(tags[: rng.integers(6, len(tags))]), bytearray(icc[: rng.integers(1, len(icc))])]
        for blob in bad:
            blob[rng.integers(len(blob))] = rng.integers(256)
        settings = {"exif": bytes(bad[0]), "icc_profile": bytes(bad[1])}
        path = saved(tmp_path / f"in{suffix}", Image.fromarray(smooth()), **settings)
        image, metadata = images.open_image(path)[:2]
        assert image.size == smooth().size
        images.write_image(tmp_path / f"out{suffix}", image, metadata=metadata)
        np.testing.assert_array_equal(images.read_image(tmp_path / f"out{suffix}"), image)
