"""Image files as they come: whole, broken, hostile, and what they carry from one format to another."""

import base64
import io
import os
import socket
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from glcic_tf.common.errors import UserError
from glcic_tf.imaging import image_process, images
from glcic_tf.imaging.image_metadata import Metadata

HEIGHT, WIDTH = 96, 128
# 40 x 24 px of `ramp(24, 40)`, encoded as HEVC in 4:4:4 at quality 90.
HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWl4AAAAAG1pZjFoZWl4bWlhZgAAAX5tZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAACJpbG9jAAAAAERA"
    "AAEAAQAAAAABogABAAAAAAAAAbIAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRtAAAAAAABAAAA/mlwcnAAAADeaXBjbwAA"
    "AHdodmNDAQQIAAAAnjgAAAAAHvAA/P/4+AAADwNgAAEAF0ABDAH//wQIAAADAJ44AAADAAAeugJAYQABACpCAQEECAAAAwCeOAAAAwAAHpAEECCy3VXT"
    "XNwENBgQAAADAZAAAAMAEIBiAAEACEQBwXMYMBiQAAAAE2NvbHJuY2x4AAEADQAGgAAAABRpc3BlAAAAAAAAAEAAAABAAAAAKGNsYXAAAAAoAAAAAQAA"
    "ABgAAAAB////6AAAAAL////YAAAAAgAAABBwaXhpAAAAAAMICAgAAAAYaXBtYQAAAAAAAAABAAEFgQIDBYQAAAG6bWRhdAAAAa4oAa8GMgiFqzyAiQad"
    "ijeHVH4nqx85g4wd54mPrURaffk5QijJ/wyH0KKtdf497Z6CPpkLCA23b2Z7/TUpxOWZhPf+DH+4IyDNMWbGI7PaWC/6h0OTwqQWVJv2JdLb02/4QTn3"
    "F+16FIpwlaMjxYdYEW1tOzC1HoEbKBK9HzNXuGyn43NnM85g2WaOGB0vmhelsUDNv91u4ksmU3p6YDBGOwcExQ2hbUatJxRoW1Y1W8AzSslDeTRiyr3/"
    "CeAy/K5P1/J+L++ljaxPnf1eVmydnx1E75UmfabpfqDfBD80elpv9Vt+62aX1bGJVX3Dxf8o4pxpCfdjbwsGILAwD6J2FT7Hrxaq1OpholRCnSyWWqdx"
    "QAhre52PtMtVY6crFuUMf1nn5/A7Jrj6RlOGoM9M5Asz+OiUpPXxT//o9ZDw8YzUrrG38bGp31ZU9d14mKvN/G8J8Lf//AFI0y7on3SLF385XN+HXMfs"
    "S8GVBm973sVvn6qgQqpZytLxPR4naW9hxOaI0l1x7MBZjeojhf+KEsaC80l2zIPkdmaTGoNacEcUAImfilItmid0/JrA"
)


def ramp(height, width):
    y, x = np.mgrid[0:height, 0:width]
    return np.clip(np.stack([20 + 6 * x, 230 - 8 * y, 90 + 2 * x + 2 * y], axis=-1), 0, 255).astype(np.uint8)


def textured():
    """uint8 [HEIGHT, WIDTH, 3]: smooth, with noise, so that every block has something to encode."""
    return np.clip(ramp(HEIGHT, WIDTH) // 2 + np.random.default_rng(0).integers(0, 60, (HEIGHT, WIDTH, 3)), 0, 255)


def jpeg(picture=None, **settings):
    file = io.BytesIO()
    picture = Image.fromarray(textured().astype(np.uint8)) if picture is None else picture
    picture.save(file, "JPEG", **{"quality": 90, **settings})
    return file.getvalue()


KINDS = {
    "baseline": {},
    "4:4:4": {"subsampling": 0},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_rows": 1},
    "optimised": {"optimize": True},
}


def by_pillow(path):
    return Image.open(io.BytesIO(path.read_bytes()))


def read_all(path):
    """Read a file by each of the ways there are; return the arrays."""
    return [read(path) for read in (images.read_image, images.read_photo)]


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_jpeg_that_lacks_only_its_end_marker_is_whole(tmp_path, kind, mode):
    data = jpeg(Image.fromarray(textured().astype(np.uint8)).convert(mode), **KINDS[kind])
    assert data.endswith(b"\xff\xd9")
    (tmp_path / "whole.jpg").write_bytes(data)
    expected = read_all(tmp_path / "whole.jpg")
    for end in (b"", bytes(1), bytes(1000), b"\xff\xd9" + bytes(1000), b"\xff\xd9 a video"):
        (tmp_path / "other.jpg").write_bytes(data[:-2] + end)
        for found, array in zip(read_all(tmp_path / "other.jpg"), expected, strict=True):
            np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.3, 0.5, 0.8, 0.96])
def test_a_jpeg_without_its_lower_part_is_refused(tmp_path, kind, mode, share):
    """However it ends: abruptly, with an end marker, or with zeros in the place of what is missing, or of more."""
    data = jpeg(Image.fromarray(textured().astype(np.uint8)).convert(mode), **KINDS[kind])
    cut = data[: int(share * len(data))]
    missing = bytes(len(data) - len(cut))
    path = tmp_path / "cut.jpg"
    for end in (b"", b"\xff\xd9", missing, missing[:-2] + b"\xff\xd9", bytes(len(data))):
        path.write_bytes(cut + end)
        for read in (images.read_image, images.read_photo, images.read_mask):
            with pytest.raises(UserError, match="cut.jpg: is broken or incomplete"):
                read(path)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_zeros_may_be_a_picture(tmp_path, value):
    """A flat area in optimised codes is a run of zeros; so is what stands in the place of a missing part."""
    pixels = np.full((800, 1000), value, np.uint8)
    pixels[:8, :8] = 77
    data = jpeg(Image.fromarray(pixels), optimize=True)
    assert bytes(50) in data
    for end in (data[-2:], b""):
        (tmp_path / "flat.jpg").write_bytes(data[:-2] + end)
        for array in read_all(tmp_path / "flat.jpg"):
            assert np.abs(array[40:].astype(int) - value).max() <= 1


def test_harmless_faults_of_a_jpeg_are_overlooked(tmp_path):
    data = jpeg(subsampling=0)
    (tmp_path / "x.jpg").write_bytes(data)
    expected = images.read_image(tmp_path / "x.jpg")
    version, scan = data.index(b"JFIF\0") + 5, data.index(b"\xff\xda") + 11
    for at, content in ((version, b"\0\0"), (scan, b"\0\0\0"), (scan, b"\x01\x3f\0")):
        for cut, whole in ((len(data), True), (len(data) // 2, False)):
            changed = data[:at] + content + data[at + len(content) : cut]
            (tmp_path / "x.jpg").write_bytes(changed)
            if whole:
                np.testing.assert_array_equal(images.read_image(tmp_path / "x.jpg"), expected)
            else:
                with pytest.raises(UserError, match="broken or incomplete"):
                    images.read_image(tmp_path / "x.jpg")


def test_a_jpeg_of_many_scans_is_refused(tmp_path):
    data = jpeg(progressive=True)
    last = data.rindex(b"\xff\xda")
    (tmp_path / "scans.jpg").write_bytes(data[:last] + 2000 * data[last:-2] + b"\xff\xd9")
    for read in (images.read_image, images.read_photo, images.read_mask):
        with pytest.raises(UserError, match="scans.jpg: is a JPEG of more than 100 scans, which takes too long"):
            read(tmp_path / "scans.jpg")


def test_the_size_is_the_one_that_the_decoder_sees(tmp_path):
    """A marker without a length hides the frame from who takes the next two bytes for one."""
    data = jpeg(Image.new("L", (3000, 2000)), quality=5)

    def comment(content):
        return b"\xff\xfe" + struct.pack(">H", 2 + len(content)) + content

    fake = b"\xff\xc0" + struct.pack(">HBHHB", 11, 8, 16, 16, 1) + b"\x01\x11\0"
    # 0xfffe taken for a length, from the marker without one on, ends where the second comment holds a small frame.
    first = comment(bytes(64998))
    second = comment(bytes(65538 - (4 + len(first) + 4)) + fake)
    (tmp_path / "hidden.jpg").write_bytes(b"\xff\xd8\xff\x01" + first + second + data[2:])
    for read in (images.read_image, images.read_photo, images.read_mask):
        with pytest.raises(UserError, match="hidden.jpg: has 3000 x 2000 px, 6 megapixels; at most 1 are read"):
            read(tmp_path / "hidden.jpg", 10**6)


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(*chunks, size=(WIDTH, HEIGHT), kind=2):
    """A PNG of `textured()`, in colour (kind 2) or grey (0), with chunks before its pixels."""
    pixels = textured().astype(np.uint8) if kind == 2 else textured().astype(np.uint8)[..., 0]
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("frame", [(2, 2, 0, 0), (2, 2, 127, 95), (WIDTH, HEIGHT, 5, 5), (2**31 - 1, 1, 0, 0)])
def test_frames_that_do_not_fit_their_png_harm_nobody(tmp_path, frame):
    control = struct.pack(">IIIII", 0, *frame) + struct.pack(">HHBB", 1, 1, 0, 0)
    path = tmp_path / "moves.png"
    path.write_bytes(png(chunk(b"acTL", struct.pack(">II", 2, 0)), chunk(b"fcTL", control)))
    for array in read_all(path):
        np.testing.assert_array_equal(array, textured())


def test_huge_claims_of_tiny_files_are_refused(tmp_path):
    tiff = struct.pack("<4sIH", b"II*\0", 8, 5)
    for tag, value in ((256, 2**31 - 1), (257, 2**31 - 1), (258, 8), (262, 1), (273, 8)):
        tiff += struct.pack("<HHII", tag, 4, 1, value)
    files = {
        "a.png": png(size=(2**31 - 1, 1)),
        "b.png": png(size=(32768, 32768)),
        "c.tif": tiff + bytes(4),
        "d.bmp": b"BM" + bytes(12) + struct.pack("<IiiHH", 40, 2**31 - 1, -(2**31), 1, 24) + bytes(100),
        "e.gif": b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + bytes(60),
        "f.webp": b"RIFF" + struct.pack("<I", 50) + b"WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\xff\x3f" * 2 + bytes(32),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        for read in (images.read_image, images.read_photo, images.read_mask):
            with pytest.raises(UserError, match=name):
                read(tmp_path / name)


def test_only_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "device.png").symlink_to("/dev/zero")
    (tmp_path / "loop.png").symlink_to("loop.png")
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(tmp_path)  # the name of a socket has a hundred bytes at most
        listener.bind("socket.png")
    kinds = {
        "pipe": "a pipe",
        "folder": "a folder",
        "device": "a device",
        "socket": "a socket",
        "loop": "cannot be read",
    }
    for name, kind in kinds.items():
        for read in (images.read_image, images.read_photo, images.read_mask):
            with pytest.raises(UserError, match=f"{name}.png: .*{kind}.*; expected an image file"):
                read(tmp_path / f"{name}.png")
    with pytest.raises(UserError, match="cannot be read"):
        images.read_image("a\0b.png")


@pytest.mark.parametrize("isolated", [False, True])
def test_heic(tmp_path, isolated):
    (tmp_path / "x.heic").write_bytes(HEIC)
    opened = images.open_image(tmp_path / "x.heic", isolated=isolated)
    assert opened.pixels.shape == (24, 40, 3) and opened.suffix == ".jpg"
    assert np.abs(opened.pixels.astype(int) - ramp(24, 40)).max() <= 8
    np.testing.assert_array_equal(images.read_photo(tmp_path / "x.heic"), opened.pixels)
    (tmp_path / "x.heic").write_bytes(HEIC[:-200])
    with pytest.raises(UserError, match="x.heic: is broken"):
        images.read_image(tmp_path / "x.heic")


def test_a_process_of_its_own_gives_the_same_or_the_same_error(tmp_path):
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    (tmp_path / "x.jpg").write_bytes(jpeg(icc_profile=icc, exif=turned(6)))
    here, there = (images.open_image(tmp_path / "x.jpg", isolated=isolated) for isolated in (False, True))
    np.testing.assert_array_equal(here.pixels, there.pixels)
    assert here[1:] == there[1:] and there.pixels.flags.writeable
    for isolated in (False, True):
        with pytest.raises(UserError, match="x.jpg: has 128 x 96 px, .* --max_megapixels"):
            images.open_image(tmp_path / "x.jpg", 999, isolated)


def test_a_decoder_that_crashes_or_hangs_takes_nothing_with_it(tmp_path, monkeypatch):
    (tmp_path / "x.jpg").write_bytes(jpeg())
    (tmp_path / "crash").write_text("#!/bin/sh\nkill -SEGV $$\n")
    (tmp_path / "hang").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "lie").write_text("#!/bin/sh\ncat > /dev/null; echo nonsense\n")
    monkeypatch.setattr(image_process, "_TIMEOUT_S", 0.5)
    for name, message in (
        ("crash", "its decoder ended"),
        ("hang", "takes more than 0.5 s"),
        ("lie", "something other than an image"),
    ):
        (tmp_path / name).chmod(0o755)
        monkeypatch.setattr(image_process.sys, "executable", str(tmp_path / name))
        with pytest.raises(UserError, match=f"x.jpg: .*{message}"):
            images.open_image(tmp_path / "x.jpg", isolated=True)


def turned(orientation):
    tags = Image.Exif()
    tags[0x0112], tags[0x010F] = orientation, "Maker"
    tags[0x8769] = {0x9003: "2024:05:06 07:08:09", 0xA002: WIDTH, 0xA003: HEIGHT}
    tags[0x8825] = {1: "N", 2: (52.0, 31.0, 12.25)}
    return tags


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
    srgb_curve = np.where(values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92)
    light = {"linear": values, "display_p3": values**2.2}.get(case, srgb_curve)
    if case != "linear":
        light = light @ np.array([[1.2249, -0.2247, 0], [-0.0420, 1.0419, 0], [-0.0197, -0.0786, 1.0979]]).T
    light = np.clip(light, 0, 1)
    expected = 255 * np.where(light > 0.0031308, 1.055 * light ** (1 / 2.4) - 0.055, 12.92 * light)
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
    hdr = bytes([9, 16, 0, 1])
    (tmp_path / "in.png").write_bytes(png(chunk(b"cICP", hdr)))
    opened = images.open_image(tmp_path / "in.png")
    images.write_image(tmp_path / "out.png", opened.pixels, metadata=opened.metadata)
    assert chunk(b"cICP", hdr) in (tmp_path / "out.png").read_bytes()


def test_grey_png_with_gamma(tmp_path):
    (tmp_path / "in.png").write_bytes(png(GAMMA, kind=0))
    opened = images.open_image(tmp_path / "in.png")
    images.write_image(tmp_path / "out.jpg", opened.pixels, 100, opened.metadata)
    assert by_pillow(tmp_path / "out.jpg").info["icc_profile"][16:20] == b"GRAY"


RECORDS = b"\x1c\x02\x78\x00\x05Words"
SURVIVES = {  # output -> what of EXIF, ICC, XMP, IPTC, text, resolution it keeps
    ".jpg": {"exif", "icc", "xmp", "iptc", "dpi"},
    ".png": {"exif", "icc", "xmp", "iptc", "text", "dpi"},
    ".webp": {"exif", "icc", "xmp"},
    ".tif": {"exif", "icc", "xmp", "iptc", "dpi"},
    ".avif": {"exif", "icc", "xmp"},
    ".bmp": set(),
}


@pytest.mark.parametrize("output", SURVIVES)
def test_what_survives(tmp_path, output):
    """The table of docs/completion.md."""
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = turned(1).tobytes().removeprefix(b"Exif\0\0")
    text = (("parameters", "a red house"), ("Titel", "Bäume 木"))
    given = Metadata(exif, icc, b"<x:xmpmeta/>", RECORDS, text, (300, 150))
    images.write_image(tmp_path / f"a{output}", ramp(24, 40), metadata=given)
    found = images.open_image(tmp_path / f"a{output}").metadata
    for name in ("icc", "xmp", "iptc", "text"):
        assert getattr(found, name) == getattr(given if name in SURVIVES[output] else Metadata(), name), name
    assert (found.dpi is None) == ("dpi" not in SURVIVES[output])
    if found.dpi:
        assert found.dpi == pytest.approx((300, 150), rel=1e-4)
        assert by_pillow(tmp_path / f"a{output}").info["dpi"] == pytest.approx((300, 150), rel=1e-4)
    if "exif" in SURVIVES[output]:
        tags = by_pillow(tmp_path / f"a{output}").getexif()
        assert tags[0x010F] == "Maker"
        assert tags.get_ifd(0x8769)[0x9003] == "2024:05:06 07:08:09" and tags.get_ifd(0x8825)[2] == (52.0, 31.0, 12.25)


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


@pytest.mark.parametrize("count", [2, 3])
def test_how_many_pictures_an_mpo_holds_is_told(tmp_path, count):
    picture = Image.fromarray(textured().astype(np.uint8))
    more = [picture.rotate(90 * i) for i in range(1, count)]
    picture.save(tmp_path / "x.mpo", "MPO", save_all=True, append_images=more)
    opened = images.open_image(tmp_path / "x.mpo")
    assert opened.pictures == count and opened.pixels.shape == (HEIGHT, WIDTH, 3) and opened.suffix == ".jpg"
    picture.save(tmp_path / "x.jpg")
    assert images.open_image(tmp_path / "x.jpg").pictures == 1


def test_a_moving_avif_is_its_first_frame(tmp_path):
    first = Image.fromarray(np.full((30, 40, 3), (200, 80, 40), np.uint8))
    others = [Image.new("RGB", (40, 30), colour) for colour in ("blue", "green")]
    first.save(tmp_path / "in.avif", save_all=True, append_images=others, quality=100, subsampling="4:4:4")
    opened = images.open_image(tmp_path / "in.avif")
    assert opened.pictures == 3
    np.testing.assert_allclose(opened.pixels, np.asarray(first), atol=2)
