"""Writing images: every format against Pillow, and what cannot be written."""

import numpy as np
import pytest
from picture_helpers import HEIGHT, WIDTH, smooth
from PIL import Image

from glcic_tf.common.errors import UserError
from glcic_tf.imaging import images


@pytest.mark.parametrize(
    ("suffix", "file_format", "modes"),
    [
        (".jpg", "JPEG", ("L", "RGB", "RGB")),
        (".JPEG", "JPEG", ("L", "RGB", "RGB")),
        (".png", "PNG", ("L", "RGB", "RGBA")),
        (".bmp", "BMP", ("L", "RGB", "RGBA")),
        (".webp", "WEBP", ("RGB", "RGB", "RGBA")),
    ],
)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_written_files_agree_with_pillow(tmp_path, suffix, file_format, modes, channels):
    path = tmp_path / f"out{suffix}"
    images.write_image(path, smooth(channels))
    picture = Image.open(path)
    assert (picture.format, picture.mode) == (file_format, modes[(1, 3, 4).index(channels)])
    expected = np.broadcast_to(smooth(channels)[..., :3], (HEIGHT, WIDTH, 3)).astype(int)
    assert np.abs(np.asarray(picture.convert("RGB")) - expected).max() <= (6 if file_format == "JPEG" else 0)
    if picture.mode == "RGBA":
        np.testing.assert_array_equal(np.asarray(picture), smooth(4))
        np.testing.assert_array_equal(images.read_image(path), smooth(4))


def test_what_a_format_cannot_hold_is_converted(tmp_path):
    deep = np.array([[[0, 127, 128], [129, 257 * 7 + 128, 257 * 7 + 129], [65535, 65406, 65407]]], np.uint16)
    expected = np.array([[[0, 0, 0], [1, 7, 8], [255, 254, 255]]], np.uint8)
    for suffix in (".bmp", ".webp"):
        images.write_image(tmp_path / f"x{suffix}", deep)
        np.testing.assert_array_equal(images.read_image(tmp_path / f"x{suffix}"), expected)
    images.write_image(tmp_path / "x.jpg", np.full((8, 8, 4), 40000, np.uint16))
    assert np.abs(images.read_image(tmp_path / "x.jpg") - 155.6).max() < 1


def test_jpeg_quality(tmp_path):
    sizes = []
    for quality in (1, 30, images.JPEG_QUALITY, 100):
        images.write_image(tmp_path / "x.jpg", smooth(), jpeg_quality=quality)
        sizes.append((tmp_path / "x.jpg").stat().st_size)
    images.write_image(tmp_path / "x.jpg", smooth())
    assert sizes[0] < sizes[1] < sizes[2] < sizes[3]
    assert (tmp_path / "x.jpg").stat().st_size == sizes[2]


def test_views_are_written_and_left_as_they_are(tmp_path):
    deep = np.random.default_rng(0).integers(0, 65536, (70, 40, 4), dtype=np.uint16)
    for image in (deep[::-1, ::2], deep[..., :3], deep.swapaxes(0, 1)[..., ::-1], deep[..., 1], deep.view()):
        before = image.copy()
        image.flags.writeable = False
        for suffix in images.WRITTEN_SUFFIXES:
            images.write_image(tmp_path / f"x{suffix}", image)
        np.testing.assert_array_equal(image, before)
        np.testing.assert_array_equal(images.read_image(tmp_path / "x.png").reshape(before.shape), before)


def test_writing_replaces_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "out.png"
    for value in (1, 2):
        images.write_image(path, np.full((3, 5), value, np.uint8))
    assert (images.read_image(path) == 2).all()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["out", "out.gif", "out.png.txt"])
def test_unknown_suffix_is_refused(tmp_path, name):
    with pytest.raises(UserError, match=r"expected an image name that ends in \.jpg"):
        images.write_image(tmp_path / name, smooth())
    assert not list(tmp_path.iterdir())


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.png").mkdir()
    for path in (tmp_path / "missing" / "out.png", tmp_path / "file" / "out.png", tmp_path / "folder.png"):
        with pytest.raises(UserError, match="cannot be written"):
            images.write_image(path, smooth())
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder.png"}


def test_too_large_for_the_format_keeps_the_old_file(tmp_path):
    path = tmp_path / "out.webp"
    path.write_text("old")
    with pytest.raises(UserError, match=r"WebP cannot hold 16384 x 1 px; write a \.png"):
        images.write_image(path, np.zeros((1, 16384, 3), np.uint8))
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("array", [np.zeros((3, 3), np.float32), np.zeros((3, 3, 2), np.uint8), np.zeros(3, np.uint8)])
def test_writing_something_else_is_a_mistake_of_the_caller(tmp_path, array):
    with pytest.raises(ValueError, match="Expected uint8 or uint16"):
        images.write_image(tmp_path / "out.png", array)
