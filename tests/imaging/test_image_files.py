"""Image files as they come: whole, broken and hostile."""

import base64
import os
import socket
import struct

import numpy as np
import pytest
from image_helpers import HEIGHT, WIDTH, chunk, jpeg, png, ramp, textured, turned
from PIL import Image, ImageCms

from glcic_tf.common.errors import UserError
from glcic_tf.imaging import image_process, images

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


KINDS = {
    "baseline": {},
    "4:4:4": {"subsampling": 0},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_rows": 1},
    "optimised": {"optimize": True},
}


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
