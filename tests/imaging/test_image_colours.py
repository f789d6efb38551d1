"""What a file says about its colours, and the metadata of PNG and TIFF."""

import io
import struct
import zlib

import numpy as np
import pytest
from image_helpers import HEIGHT, WIDTH, by_pillow, chunk, jpeg, png, ramp, textured, turned
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo
from test_image_files import HEIC

from glcic_tf.imaging import images


@pytest.mark.parametrize(
    ("subsampling", "factors"), [(0, (1, 1)), (1, (2, 1)), (2, (2, 2))], ids=["4:4:4", "4:2:2", "4:2:0"]
)
def test_a_jpeg_keeps_the_sampling_of_its_colours(tmp_path, subsampling, factors):
    (tmp_path / "in.jpg").write_bytes(jpeg(subsampling=subsampling))
    opened = images.open_image(tmp_path / "in.jpg")
    images.write_image(tmp_path / "out.jpg", opened.pixels, metadata=opened.metadata)
    assert by_pillow(tmp_path / "out.jpg").layer[0][1:3] == factors


def test_a_jpeg_of_something_else_has_all_samples_of_colour(tmp_path):
    """Red letters on white would turn brown."""
    letters = np.full((64, 64, 3), 255, np.uint8)
    letters[:, ::3] = 255, 0, 0
    images.write_image(tmp_path / "in.png", letters)
    opened = images.open_image(tmp_path / "in.png")
    images.write_image(tmp_path / "out.jpg", opened.pixels, metadata=opened.metadata)
    found = np.asarray(by_pillow(tmp_path / "out.jpg"), float)
    assert 10 * np.log10(255**2 / np.mean((found - letters) ** 2)) > 35


def test_cmyk_is_converted_by_its_profile(tmp_path):
    """Against littleCMS as Pillow calls it; the profile turns inks into colours by a table of its own."""
    icc = cmyk_profile()
    inks = Image.fromarray(np.dstack([textured().astype(np.uint8), textured()[..., 0].astype(np.uint8) // 4]), "CMYK")
    path = tmp_path / "inks.jpg"
    inks.save(path, icc_profile=icc, quality=95, subsampling=0)
    expected = ImageCms.profileToProfile(
        by_pillow(path),
        ImageCms.ImageCmsProfile(io.BytesIO(icc)),
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.PERCEPTUAL,
        outputMode="RGB",
    )
    opened = images.open_image(path)
    assert np.abs(opened.pixels.astype(int) - np.asarray(expected)).max() <= 2
    plain = by_pillow(path).convert("RGB")  # as if inks were filters
    assert np.abs(opened.pixels.astype(int) - np.asarray(plain)).mean() > 20
    assert opened.metadata.icc is None
    np.testing.assert_array_equal(images.read_photo(path), opened.pixels)


def cmyk_profile():
    """A profile of version 2 with one table (lut8) of 2 points an ink: Lab of paper less what each ink takes."""
    grid = np.stack(np.meshgrid(*[[0, 1]] * 4, indexing="ij"), axis=-1).reshape(-1, 4)
    lightness = 100 - grid @ [20, 30, 5, 50]
    lab = np.stack([lightness, grid @ [-30, 60, 0, 0], grid @ [-40, 0, 80, 0]], axis=1)
    table = np.clip(np.rint(lab * [2.55, 1, 1] + [0, 128, 128]), 0, 255).astype(np.uint8)
    curve = bytes(range(256))
    matrix = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    lut = b"mft1\0\0\0\0\x04\x03\x02\0" + matrix + 4 * curve + table.tobytes() + 3 * curve
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    words = b"text\0\0\0\0none\0\0\0\0"
    description = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"inks\0" + bytes(78 + 1)
    tags = {b"desc": description, b"cprt": words, b"wtpt": white, b"A2B0": lut, b"A2B1": lut, b"A2B2": lut}
    at, index, content = 132 + 12 * len(tags), b"", b""
    for name, value in tags.items():
        value += bytes(-len(value) % 4)
        index += name + struct.pack(">II", at + len(content), len(value))
        content += value
    head = struct.pack(">I4sI4s4s4s", at + len(content), b"", 0x02100000, b"prtr", b"CMYK", b"Lab ")
    head += struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + white[8:]
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + index + content


def srgb_of(path):
    """uint8 [height, width, 3] as littleCMS shows a file by the profile in it."""
    picture = by_pillow(path)
    source = ImageCms.ImageCmsProfile(io.BytesIO(picture.info["icc_profile"]))
    return np.asarray(ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB"))


def srgb_light(values):
    return np.where(values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92)


def srgb_values(light):
    return 255 * np.where(light > 0.0031308, 1.055 * light ** (1 / 2.4) - 0.055, 12.92 * light)


SRGB_POINTS = b"colrnclx\0\1\0\x0d"
# ITU-R BT.2087
BT2020_TO_SRGB = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])


GAMMA = chunk(b"gAMA", struct.pack(">I", 100_000))


P3 = chunk(b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000))


PLAIN = chunk(b"gAMA", struct.pack(">I", 45455))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif"])
@pytest.mark.parametrize("case", ["linear", "display_p3", "cicp", "cicp_over_gamma"])
def test_what_a_png_says_of_its_colours_goes_into_every_format(tmp_path, case, suffix):
    cicp = chunk(b"cICP", bytes([12, 13, 0, 1]))
    chunks = {"linear": [GAMMA], "display_p3": [PLAIN, P3], "cicp": [cicp], "cicp_over_gamma": [GAMMA, cicp]}[case]
    (tmp_path / "in.png").write_bytes(png(*chunks))
    opened = images.open_image(tmp_path / "in.png")
    np.testing.assert_array_equal(opened.pixels, textured())
    images.write_image(tmp_path / f"out{suffix}", opened.pixels, 100, opened.metadata)
    values = textured() / 255
    light = {"linear": values, "display_p3": values**2.2}.get(case, srgb_light(values))
    if case != "linear":
        light = light @ np.array([[1.2249, -0.2247, 0], [-0.0420, 1.0419, 0], [-0.0197, -0.0786, 1.0979]]).T
    expected = srgb_values(np.clip(light, 0, 1))
    found = srgb_of(tmp_path / f"out{suffix}")
    assert np.abs(found - expected).mean() < (2.5 if suffix == ".jpg" else 1)
    assert np.abs(found - textured().astype(float)).mean() > 2


@pytest.mark.parametrize(
    "chunks", [[PLAIN], [chunk(b"sRGB", b"\0"), GAMMA], [chunk(b"gAMA", bytes(4))], [chunk(b"gAMA", b"\1")]]
)
def test_a_png_that_says_srgb_or_nonsense_has_no_profile(tmp_path, chunks):
    (tmp_path / "in.png").write_bytes(png(*chunks))
    assert images.open_image(tmp_path / "in.png").metadata.icc is None


def test_a_profile_counts_more_than_gamma_and_hdr_is_kept(tmp_path):
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    (tmp_path / "in.png").write_bytes(png(GAMMA, chunk(b"iCCP", b"x\0\0" + zlib.compress(icc))))
    assert images.open_image(tmp_path / "in.png").metadata.icc == icc
    for full_range in (1, 0):
        hdr = bytes([9, 16, 0, full_range])
        (tmp_path / "in.png").write_bytes(png(chunk(b"cICP", hdr)))
        opened = images.open_image(tmp_path / "in.png")
        images.write_image(tmp_path / "out.png", opened.pixels, metadata=opened.metadata)
        assert chunk(b"cICP", hdr) in (tmp_path / "out.png").read_bytes()


@pytest.mark.parametrize("suffix", [".avif", ".heic"])
def test_what_a_heic_or_avif_says_of_its_colours_goes_into_the_output(tmp_path, suffix):
    """By code points (nclx), without a profile: those of BT.2020, whose red is far outside of sRGB."""
    file = io.BytesIO()
    Image.fromarray(textured().astype(np.uint8)).save(file, "AVIF", quality=95, subsampling="4:4:4")
    data = HEIC if suffix == ".heic" else file.getvalue()
    assert data.count(SRGB_POINTS) == 1
    (tmp_path / f"plain{suffix}").write_bytes(data)
    (tmp_path / f"wide{suffix}").write_bytes(data.replace(SRGB_POINTS, b"colrnclx\0\x09\0\x0d"))
    (tmp_path / f"hdr{suffix}").write_bytes(data.replace(SRGB_POINTS, b"colrnclx\0\x09\0\x10"))
    plain, wide, hdr = (images.open_image(tmp_path / f"{name}{suffix}") for name in ("plain", "wide", "hdr"))
    assert plain.metadata.icc is plain.metadata.cicp is wide.metadata.cicp is hdr.metadata.icc is None
    np.testing.assert_array_equal(wide.pixels, plain.pixels)
    images.write_image(tmp_path / "out.png", wide.pixels, metadata=wide.metadata)
    light = srgb_light(plain.pixels[..., :3] / 255) @ BT2020_TO_SRGB.T
    np.testing.assert_allclose(srgb_of(tmp_path / "out.png"), srgb_values(np.clip(light, 0, 1)), atol=3)
    images.write_image(tmp_path / "hdr.png", hdr.pixels, metadata=hdr.metadata)
    assert chunk(b"cICP", bytes([9, 16, 0, 1])) in (tmp_path / "hdr.png").read_bytes()


def test_grey_png_with_gamma(tmp_path):
    (tmp_path / "in.png").write_bytes(png(GAMMA, kind=0))
    opened = images.open_image(tmp_path / "in.png")
    images.write_image(tmp_path / "out.jpg", opened.pixels, 100, opened.metadata)
    assert by_pillow(tmp_path / "out.jpg").info["icc_profile"][16:20] == b"GRAY"


def test_text_of_a_png_as_pillow_reads_and_writes_it(tmp_path):
    text = PngInfo()
    text.add_text("parameters", "a red house, Steps: 20")
    text.add_itxt("Titel", "Bäume 木")
    text.add_text("Long", "x" * 3000, zip=True)
    Image.fromarray(ramp(24, 40)).save(tmp_path / "in.png", pnginfo=text, dpi=(300, 300))
    opened = images.open_image(tmp_path / "in.png")
    images.write_image(tmp_path / "out.png", opened.pixels, metadata=opened.metadata)
    found = by_pillow(tmp_path / "out.png")
    assert found.text == {"parameters": "a red house, Steps: 20", "Titel": "Bäume 木", "Long": "x" * 3000}
    assert found.info["dpi"] == pytest.approx((300, 300), rel=1e-4)


@pytest.mark.parametrize("order", ["II", "MM"])
def test_exif_of_a_tiff(tmp_path, order):
    """From a TIFF, turned, into every format that has EXIF; and EXIF of either byte order into a TIFF."""
    tags = turned(6)
    tags.endian = "<" if order == "II" else ">"
    (tmp_path / "in.jpg").write_bytes(jpeg(exif=tags))
    opened = images.open_image(tmp_path / "in.jpg")
    images.write_image(tmp_path / "a.tif", opened.pixels, metadata=opened.metadata)
    upright = by_pillow(tmp_path / "a.tif")
    np.testing.assert_array_equal(np.asarray(upright), opened.pixels)
    assert upright.getexif()[0x0112] == 1 and upright.getexif()[0x010F] == "Maker"
    details, place = (upright.getexif().get_ifd(tag) for tag in (0x8769, 0x8825))
    assert (details[0xA002], details[0xA003]) == (HEIGHT, WIDTH) and place[2] == (52.0, 31.0, 12.25)
    Image.fromarray(textured().astype(np.uint8)).save(tmp_path / "turned.tif", exif=turned(6).tobytes())
    found = images.open_image(tmp_path / "turned.tif")
    np.testing.assert_array_equal(found.pixels, textured().swapaxes(0, 1)[:, ::-1])
    assert found.sensor_shape == (HEIGHT, WIDTH)


@pytest.mark.parametrize("suffix", [".tif", ".avif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_and_avif_are_lossless(tmp_path, suffix, channels, dtype):
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (9, 14, channels), dtype, endpoint=True)
    images.write_image(tmp_path / f"x{suffix}", pixels)
    found = images.read_image(tmp_path / f"x{suffix}")
    assert found.dtype == dtype
    tolerance = 15 if suffix == ".avif" and dtype == np.uint16 else 0  # 12 bit
    assert np.abs(found[..., :channels].astype(int) - pixels).max() <= tolerance


def test_the_first_picture_of_several(tmp_path):
    frames = [Image.fromarray(ramp(24, 40) // part) for part in (1, 2, 3)]
    for name in ("x.gif", "x.tif", "x.webp"):
        settings = {"lossless": True} if name == "x.webp" else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **settings)
        opened = images.open_image(tmp_path / name)
        assert opened.pictures == 3 and opened.pixels.shape == (24, 40, 3)
        np.testing.assert_allclose(opened.pixels, np.asarray(by_pillow(tmp_path / name).convert("RGB")), atol=3)
