"""images: files of every kind against Pillow, which reads and writes them independently of OpenCV."""

import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import skimage
from PIL import Image, ImageOps

from glcic_tf import images
from glcic_tf.errors import UserError

HEIGHT, WIDTH = 19, 33


def smooth(channels=3):
    """uint8 [HEIGHT, WIDTH, channels], smooth so that JPEG changes little, different in every corner and channel."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    planes = [20 + 5 * y + 3 * x, 230 - 4 * y - 2 * x, 90 + 4 * x - 2 * y, 40 + 6 * x]
    return np.clip(np.stack(planes[:channels], axis=-1), 0, 255).astype(np.uint8)


def saved(path, picture, **settings):
    if path.suffix.lower() == ".webp":
        settings = {"lossless": True, "exact": True, **settings}
    picture.save(path, **settings)
    return path


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def pictures():
    rgb, grey = Image.fromarray(smooth()), Image.fromarray(smooth(1)[..., 0])
    rgba, palette = Image.fromarray(smooth(4)), Image.fromarray(smooth()).quantize(16)
    # name, Pillow picture, settings, expected channels of read_image
    yield "rgb.jpg", rgb, {"quality": 95}, 3
    yield "progressive.JPEG", rgb, {"quality": 95, "progressive": True}, 3
    yield "grey.jpg", grey, {"quality": 95}, 1
    yield "cmyk.jpg", rgb.convert("CMYK"), {"quality": 95}, 3
    for suffix in ("png", "bmp"):
        yield f"rgb.{suffix}", rgb, {}, 3
        yield f"grey.{suffix}", grey, {}, 1
        yield f"one_bit.{suffix}", grey.convert("1"), {}, 1
        yield f"palette.{suffix}", palette, {}, 3
    yield "rgba.png", rgba, {}, 4
    yield "grey_alpha.png", rgba.convert("LA"), {}, 4
    yield "transparent_palette.png", palette, {"transparency": 3}, 4
    yield "rgb.webp", rgb, {}, 3
    yield "lossy.webp", rgb, {"lossless": False, "quality": 95}, 3
    yield "rgba.WEBP", rgba, {}, 4


@pytest.mark.parametrize(("name", "picture", "settings", "channels"), [pytest.param(*p, id=p[0]) for p in pictures()])
def test_reading_agrees_with_pillow(tmp_path, name, picture, settings, channels):
    path = saved(tmp_path / name, picture, **settings)
    expected = np.asarray(Image.open(path).convert("RGB")).astype(int)
    # CMYK and lossy WebP are converted by other formulas
    tolerance = 2 if name in ("cmyk.jpg", "lossy.webp") else 0
    photo = images.read_photo(path)
    assert photo.dtype == np.uint8 and photo.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(photo - expected).max() <= tolerance

    image = images.read_image(path)
    assert image.dtype == np.uint8 and image.shape == (HEIGHT, WIDTH, channels)
    assert image.flags.c_contiguous
    assert np.abs(image[..., :3] - expected[..., :channels]).max() <= tolerance
    if channels == 4:
        np.testing.assert_array_equal(image[..., 3], np.asarray(Image.open(path).convert("RGBA"))[..., 3])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bit_png(tmp_path, channels):
    image = np.random.default_rng(0).integers(0, 65536, (7, 5, channels), dtype=np.uint16)
    path = tmp_path / "deep.png"
    images.write_image(path, image)
    np.testing.assert_array_equal(images.read_image(path), image)
    photo = images.read_photo(path)
    assert photo.dtype == np.uint8
    assert np.abs(photo - image[..., :3] / 257).max() <= 1


def test_16_bit_png_of_pillow(tmp_path):
    values = np.arange(0, 65536, 1171, dtype=np.uint16).reshape(8, 7)
    Image.fromarray(values).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(images.read_image(tmp_path / "deep.png")[..., 0], values)


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_exif_turn(tmp_path, suffix, orientation):
    path = saved(tmp_path / f"turned{suffix}", Image.fromarray(smooth()), exif=exif(orientation))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    np.testing.assert_array_equal(images.read_photo(path), expected)
    np.testing.assert_array_equal(images.read_image(path), expected)
    np.testing.assert_array_equal(images.read_mask(path), expected @ [0.299, 0.587, 0.114] >= 127.5)


def test_exif_turn_keeps_alpha_and_depth(tmp_path):
    path = saved(tmp_path / "turned.png", Image.fromarray(smooth(4)), exif=exif(6))
    np.testing.assert_array_equal(images.read_image(path), smooth(4).swapaxes(0, 1)[:, ::-1])


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_orientation_in_both_byte_orders(order):
    mark = {"<": b"II", ">": b"MM"}[order]
    tags = mark + struct.pack(order + "HIH", 42, 8, 2)
    tags += struct.pack(order + "HHII", 0x0100, 4, 1, 7) + struct.pack(order + "HHIHH", 0x0112, 3, 1, 8, 0)
    assert images._exif_orientation(tags) == 8
    for length in range(len(tags) - 4):
        assert images._exif_orientation(tags[:length]) == 1


def test_sample_photo():
    path = Path(skimage.__file__).parent / "data" / "astronaut.png"
    np.testing.assert_array_equal(images.read_photo(path), np.asarray(Image.open(path)))


def test_threads_read_the_same(tmp_path):
    path = saved(tmp_path / "rgb.jpg", Image.fromarray(smooth()), exif=exif(5))
    expected = images.read_photo(path)
    with ThreadPoolExecutor(8) as pool:
        for photo in pool.map(images.read_photo, [path] * 64):
            np.testing.assert_array_equal(photo, expected)


def mask_pictures():
    values = np.array([[0, 1, 127, 128, 254, 255]], np.uint8)
    white = np.array([[False, False, False, True, True, True]])
    grey = Image.fromarray(values)
    opaque, other = np.full_like(values, 255), np.full_like(values, 200)
    yield "grey", grey, white
    yield "rgb", grey.convert("RGB"), white
    yield "one_bit", grey.point(lambda v: 255 * (v >= 128)).convert("1"), white
    yield "16_bit", Image.fromarray(np.array([[0, 257, 32895, 32896, 40000, 65535]], np.uint16)), white
    yield "palette", grey.convert("RGB").quantize(6), white
    yield "rgba_painted", Image.fromarray(np.dstack([other, other * 0, other, values])), white
    yield "rgba_opaque", Image.fromarray(np.dstack([values, values, values, opaque])), white
    yield "rgba_see_through", Image.fromarray(np.dstack([values, values, values, opaque * 0])), white
    yield "grey_alpha", Image.fromarray(np.dstack([values * 0, values]), "LA"), white
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [0, 255, 255], [255, 0, 255]]], np.uint8)
    yield "colours", Image.fromarray(colours), colours @ [0.299, 0.587, 0.114] >= 127.5


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
@pytest.mark.parametrize("kind", range(10))
def test_masks(tmp_path, kind):
    name, picture, expected = list(mask_pictures())[kind]
    picture.save(tmp_path / f"{name}.png")
    mask = images.read_mask(tmp_path / f"{name}.png")
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, expected, err_msg=name)


def bad_files(folder):
    whole = {}
    for suffix in (".jpg", ".png", ".bmp", ".webp"):
        noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
        whole[suffix] = saved(folder / f"whole{suffix}", Image.fromarray(noise)).read_bytes()
    for suffix, data in whole.items():
        for name, length in (("signature", 4), ("header", 22), ("half", len(data) // 2), ("nearly", len(data) - 30)):
            yield f"{name}{suffix}", data[:length]
    yield "empty.jpg", b""
    yield "text.png", b"just a few words, not an image"
    yield "gif.png", b"GIF89a" + bytes(100)
    yield "zeros.bmp", b"BM" + bytes(100)


def test_bad_files_are_refused_in_one_line(tmp_path):
    for name, data in bad_files(tmp_path):
        path = tmp_path / name
        path.write_bytes(data)
        for read in (images.read_photo, images.read_image, images.read_mask):
            with pytest.raises(UserError) as refused:
                read(path)
            assert str(path) in str(refused.value) and "\n" not in str(refused.value), name


def test_missing_file_and_folder_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"nothing\.png: cannot be read \(No such file"):
        images.read_photo(tmp_path / "nothing.png")
    with pytest.raises(UserError, match="Is a directory"):
        images.read_image(tmp_path)


def test_random_damage_gives_an_image_or_one_error(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "damaged"
    for suffix in (".png", ".bmp", ".webp"):  # libjpeg would fill the log with warnings
        data = saved(tmp_path / f"whole{suffix}", Image.fromarray(smooth(4))).read_bytes()
        for _ in range(50):
            damaged = bytearray(data)
            damaged[rng.integers(0, 60)] = rng.integers(0, 256)
            path.write_bytes(damaged)
            try:
                image = images.read_image(path, max_pixels=10**6)
            except UserError:
                continue
            assert image.ndim == 3


def test_too_many_pixels_are_refused_before_decoding(tmp_path):
    path = tmp_path / "bomb.png"
    header = struct.pack(">II", 60000, 50000) + bytes([8, 2, 0, 0, 0])
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header + bytes(4))
    with pytest.raises(UserError, match="60000 x 50000 px, 3000 megapixels; at most 268"):
        images.read_photo(path)
    small = saved(tmp_path / "small.png", Image.fromarray(smooth()))
    assert images.read_image(small, max_pixels=HEIGHT * WIDTH).shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(UserError, match="33 x 19 px"):
        images.read_image(small, max_pixels=HEIGHT * WIDTH - 1)


@pytest.mark.parametrize("size", [(1, 1), (7, 1), (1, 7), (257, 255), (900, 40)])
def test_size_in_the_header(tmp_path, size):
    cases = [("a.jpg", {}), ("b.jpg", {"progressive": True, "exif": exif(6)}), ("a.png", {}), ("a.bmp", {})]
    cases += [("a.webp", {}), ("lossy.webp", {"lossless": False}), ("extended.webp", {"exif": exif(6)})]
    for name, settings in cases:
        data = saved(tmp_path / name, Image.new("RGB", size), **settings).read_bytes()
        assert images._header_size(data) == size[::-1], name
    assert images._header_size(b"BM" + bytes(12) + struct.pack("<IHH", 12, *size)) == size[::-1]  # of OS/2
    assert images._header_size(b"BM" + bytes(12) + struct.pack("<Iii", 40, size[0], -size[1])) == size[::-1]  # top down


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
    for quality in (30, images.JPEG_QUALITY, 100):
        images.write_image(tmp_path / "x.jpg", smooth(), jpeg_quality=quality)
        sizes.append((tmp_path / "x.jpg").stat().st_size)
    images.write_image(tmp_path / "x.jpg", smooth())
    assert sizes[0] < sizes[1] < sizes[2]
    assert (tmp_path / "x.jpg").stat().st_size == sizes[1]


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
    with pytest.raises(UserError, match=r"webp cannot hold 16384 x 1 px; write a \.png"):
        images.write_image(path, np.zeros((1, 16384, 3), np.uint8))
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("array", [np.zeros((3, 3), np.float32), np.zeros((3, 3, 2), np.uint8), np.zeros(3, np.uint8)])
def test_writing_something_else_is_a_mistake_of_the_caller(tmp_path, array):
    with pytest.raises(ValueError, match="Expected uint8 or uint16"):
        images.write_image(tmp_path / "out.png", array)


def test_find_photos(tmp_path):
    for name in ("b.JPG", "a.jpeg", "sub/deeper/c.Png", "sub/d.bmp", "e.webp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in (".hidden.jpg", ".cache/x.jpg", "notes.txt", "f.gif", "png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    names = [path.relative_to(tmp_path).as_posix() for path in images.find_photos(str(tmp_path))]
    assert names == ["a.jpeg", "b.JPG", "e.webp", "sub/d.bmp", "sub/deeper/c.Png"]


def test_folders_without_photos_are_refused(tmp_path):
    with pytest.raises(UserError, match="holds no photo; expected files that end in .jpg"):
        images.find_photos(tmp_path)
    with pytest.raises(UserError, match="found nothing"):
        images.find_photos(tmp_path / "missing")
    (tmp_path / "file.jpg").touch()
    with pytest.raises(UserError, match="found a file"):
        images.find_photos(tmp_path / "file.jpg")
