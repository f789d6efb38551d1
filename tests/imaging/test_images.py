"""images: files of every kind against Pillow, which reads and writes them independently of OpenCV."""

import struct
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import skimage
from picture_helpers import HEIGHT, WIDTH, exif, saved, smooth
from PIL import Image, ImageOps

from glcic_tf.common.errors import UserError
from glcic_tf.imaging import images, photo_folders
from glcic_tf.imaging.image_metadata import Metadata


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
    yield "transparent_colour.png", rgb, {"transparency": tuple(smooth()[3, 4].tolist())}, 4
    yield "transparent_grey.png", grey, {"transparency": 50}, 1
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


def png(header, rows, *chunks):
    """A PNG file by hand: `rows` is what is compressed, `chunks` stand before it."""
    chunks = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    parts = [struct.pack(">I", len(c)) + kind + c + struct.pack(">I", zlib.crc32(kind + c)) for kind, c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(("channels", "colour_type"), [(1, 0), (3, 2), (4, 6)])
@pytest.mark.parametrize("depth", [8, 16])
def test_interlaced_png(tmp_path, channels, colour_type, depth):
    dtype = np.dtype(f">u{depth // 8}")
    image = np.random.default_rng(0).integers(0, 2**depth, (HEIGHT, WIDTH, channels)).astype(dtype)
    passes = [(0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1)]
    parts = [image[y::dy, x::dx] for y, dy, x, dx in passes]
    rows = b"".join(b"\0" + row.tobytes() for part in parts for row in part)
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, colour_type, 0, 0, 1)
    (tmp_path / "x.png").write_bytes(png(header, rows))
    result = images.read_image(tmp_path / "x.png")
    assert result.dtype == dtype.newbyteorder("=")
    np.testing.assert_array_equal(result, image)


def test_png_gamma_leaves_the_pixels_alone(tmp_path):
    rows = b"".join(b"\0" + row.tobytes() for row in smooth())
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)
    colours = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
    (tmp_path / "x.png").write_bytes(png(header, rows, (b"gAMA", struct.pack(">I", 100000)), (b"cHRM", colours)))
    np.testing.assert_array_equal(images.read_image(tmp_path / "x.png"), smooth())
    np.testing.assert_array_equal(images.read_photo(tmp_path / "x.png"), smooth())


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_of_an_animation_the_first_frame_is_read(tmp_path, suffix):
    frames = [Image.fromarray(smooth() // part) for part in (1, 2, 3)]
    saved(tmp_path / f"x{suffix}", frames[0], save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(images.read_image(tmp_path / f"x{suffix}")[..., :3], smooth())
    np.testing.assert_array_equal(images.read_photo(tmp_path / f"x{suffix}"), smooth())


def memory_peak(call):
    """Bytes that `call` holds at most beyond what was there before, in NumPy arrays and Python objects."""
    tracemalloc.start()
    try:
        kept = call()
        return tracemalloc.get_traced_memory()[1], kept
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("channels", "dtype"), [(1, np.uint8), (3, np.uint8), (4, np.uint8), (3, np.uint16)])
def test_large_photos_are_copied_as_little_as_possible(tmp_path, channels, dtype):
    image = np.zeros((1500, 1000, channels), dtype)
    path, turned = tmp_path / "large.png", tmp_path / "turned.png"
    peak, _ = memory_peak(lambda: images.write_image(path, image))
    assert peak < (0.1 if channels == 1 else 1.1) * image.nbytes
    peak, _ = memory_peak(lambda: images.write_image(tmp_path / "large.jpg", image))
    assert peak < (0.1 if channels == 1 else 1.4) * image.size  # a strip is widened to 32 bit
    peak, read = memory_peak(lambda: images.read_image(path))
    assert peak < 1.1 * image.nbytes and read.shape == image.shape
    images.write_image(turned, image, metadata=Metadata(exif=exif(6).tobytes()[6:]))
    peak, read = memory_peak(lambda: images.read_image(turned))
    assert peak < 2.1 * image.nbytes and read.shape[:2] == (1000, 1500)
    peak, _ = memory_peak(lambda: images.read_mask(path))
    assert peak < 1.1 * image.nbytes + image[..., 0].nbytes + image[..., 0].size


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


def test_masks_of_other_kinds(tmp_path):
    values = np.kron(np.array([[0, 120, 136, 255]], np.uint8), np.ones((16, 16), np.uint8))
    white, opaque = values >= 128, np.full_like(values, 255)
    for name, picture in (("x.jpg", Image.fromarray(values)), ("y.jpg", Image.fromarray(values).convert("RGB"))):
        np.testing.assert_array_equal(images.read_mask(saved(tmp_path / name, picture, quality=95)), white, name)
    transparent = {"transparency": 0}  # black is see-through
    one_bit = saved(tmp_path / "one_bit.png", Image.fromarray(white), **transparent)
    grey = saved(tmp_path / "grey.png", Image.fromarray(values), **transparent)
    colour = saved(tmp_path / "colour.png", Image.fromarray(values).convert("RGB"), transparency=(255, 255, 255))
    for path in (one_bit, grey):
        np.testing.assert_array_equal(images.read_mask(path), white)
    np.testing.assert_array_equal(images.read_mask(colour), values < 255)  # alpha varies, so alpha counts
    palette = Image.fromarray(values // 100, "P")
    palette.putpalette([0, 0, 0, 200, 0, 0, 255, 255, 255])
    for settings, expected in (({}, values // 100 == 2), ({"transparency": 1}, values // 100 != 1)):
        path = saved(tmp_path / "palette.png", palette, **settings)
        np.testing.assert_array_equal(images.read_mask(path), expected)
    deep = np.dstack([values.astype(np.uint16) * 257] * 3)
    for alpha, expected in ((opaque, white), (255 - values, ~white)):
        images.write_image(tmp_path / "deep.png", np.dstack([deep, alpha.astype(np.uint16) * 257]))
        np.testing.assert_array_equal(images.read_mask(tmp_path / "deep.png"), expected)
    for suffix in (".bmp", ".webp"):
        images.write_image(tmp_path / f"x{suffix}", np.dstack([values, values, values, 255 - values]))
        np.testing.assert_array_equal(images.read_mask(tmp_path / f"x{suffix}"), ~white)


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
@pytest.mark.parametrize("kind", range(10))
def test_masks(tmp_path, kind):
    name, picture, expected = list(mask_pictures())[kind]
    picture.save(tmp_path / f"{name}.png")
    mask = images.read_mask(tmp_path / f"{name}.png")
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, expected, err_msg=name)


@pytest.mark.parametrize(
    ("colour", "found"),
    [
        (1, "no value above 1"),
        ((255, 0, 0), "nothing brighter than 30 % grey"),
        (100, "nothing brighter than 39 % grey"),
    ],
)
def test_masks_that_are_white_nowhere_are_told(tmp_path, colour, found):
    picture = Image.new("RGB" if isinstance(colour, tuple) else "L", (9, 5))
    saved(tmp_path / "black.png", picture)
    picture.paste(colour, (2, 1, 5, 4))
    saved(tmp_path / "mask.png", picture)
    with pytest.raises(UserError, match=f"mask.png: holds {found}.*; expected white in the hole \\(255\\)"):
        images.read_mask(tmp_path / "mask.png")
    assert not images.read_mask(tmp_path / "black.png").any()


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
    with pytest.raises(UserError, match="is a folder; expected an image file"):
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
    path.write_bytes(png(struct.pack(">II", 60000, 50000) + bytes([8, 2, 0, 0, 0]), b""))
    with pytest.raises(UserError, match="60000 x 50000 px, 3000 megapixels; at most 268 .* raise --max_megapixels"):
        images.read_photo(path)
    small = saved(tmp_path / "small.png", Image.fromarray(smooth()))
    assert images.read_image(small, max_pixels=HEIGHT * WIDTH).shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(UserError, match="33 x 19 px"):
        images.read_image(small, max_pixels=HEIGHT * WIDTH - 1)


def test_find_photos(tmp_path):
    photos = (
        "b.JPG",
        "a.jpeg",
        "sub/deeper/c.Png",
        "sub/d.bmp",
        "e.webp",
        "f.gif",
        "g.HEIC",
        "h.tif",
        "i.avif",
        "j.mpo",
    )
    left_out = (".hidden.jpg", "._a.jpeg", ".thumbnails/x.jpg", "@eaDir/b.JPG/x.jpg", "sub/__MACOSX/x.png")
    for name in (*photos, *left_out, "notes.txt", "png", "raw.CR2", "sub/k.jxl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [
        [path.relative_to(tmp_path).as_posix() for path in paths] for paths in photo_folders.look_through(str(tmp_path))
    ]
    assert found == [sorted(photos), ["raw.CR2", "sub/k.jxl"], ["@eaDir", "sub/__MACOSX"]]
    assert photo_folders.find_photos(tmp_path) == photo_folders.look_through(tmp_path).photos


def test_folders_without_photos_are_refused(tmp_path):
    with pytest.raises(UserError, match="holds no photo; expected files that end in .jpg"):
        photo_folders.find_photos(tmp_path)
    with pytest.raises(UserError, match="found nothing"):
        photo_folders.find_photos(tmp_path / "missing")
    (tmp_path / "file.jpg").touch()
    with pytest.raises(UserError, match="found a file"):
        photo_folders.find_photos(tmp_path / "file.jpg")
