"""Examples: photos of every kind, and crops against NumPy and OpenCV."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from example_helpers import break_photo, stage, write_photos
from PIL import Image

from glcic_tf.common.errors import UserError
from glcic_tf.data import examples
from glcic_tf.data.examples import Photos
from glcic_tf.imaging import images, photo_folders

ROOT = Path(__file__).parents[2]
RED = (200, 60, 20)


# Files of all kinds.


def save_all_kinds(folder):
    """One file of each kind of file that a folder of photos may hold, 24 x 32 px, red; (path, tolerance)."""
    deep = folder / "some" / "where"
    deep.mkdir(parents=True)
    rgb = Image.new("RGB", (32, 24), RED)
    grey = Image.new("L", (32, 24), 100)
    turned = Image.Exif()
    turned[0x0112] = 6
    sixteen = np.full([24, 32], 100 * 257, np.uint16)
    transparent = rgb.copy()
    transparent.putalpha(0)
    files = {
        "photo.jpg": lambda path: rgb.save(path, quality=95),
        "PHOTO.JPEG": lambda path: rgb.save(path, quality=95),
        "photo.png": rgb.save,
        "photo.BMP": rgb.save,
        "photo.webp": lambda path: rgb.save(path, lossless=True),
        "grey.jpg": grey.save,
        "grey.png": grey.save,
        "one bit.png": Image.new("1", (32, 24), 1).save,
        "transparent.png": transparent.save,
        "palette.png": rgb.convert("P", palette=Image.Palette.ADAPTIVE).save,
        "cmyk.jpg": lambda path: rgb.convert("CMYK").save(path, quality=95),
        "sixteen.png": Image.fromarray(sixteen).save,
        "turned.jpg": lambda path: rgb.save(path, quality=95, exif=turned),
        "progressive.jpg": lambda path: rgb.save(path, quality=95, progressive=True),
        "wrongly named.jpg": lambda path: rgb.save(path, format="PNG"),
    }
    expected = dict.fromkeys(("grey.jpg", "grey.png", "sixteen.png"), (100, 100, 100)) | {
        "one bit.png": (255, 255, 255)
    }
    for i, (name, save) in enumerate(files.items()):
        save((folder if i % 2 else deep) / name)
    return {name: expected.get(name, RED) for name in files}


def test_folder_with_all_kinds_of_files(tmp_path):
    expected = save_all_kinds(tmp_path)
    photos = Photos(photo_folders.find_photos(tmp_path))
    assert {path.name for path in photos.paths} == set(expected)
    for index, path in enumerate(photos.paths):
        photo = photos.read(index)
        assert photo.dtype == np.uint8
        assert photo.shape == ((32, 24, 3) if path.name == "turned.jpg" else (24, 32, 3)), path.name
        error = np.abs(photo.astype(int) - expected[path.name]).max()
        assert error <= (3 if path.name.lower().endswith((".jpg", ".jpeg")) else 1), path.name
        crop = photos.crop(index, 16, 16, (0.5, 0.5))
        assert crop.shape == (16, 16, 3) and crop.dtype == np.uint8
    assert photos.failures == {}
    assert photos.error is None


def test_broken_photo_is_named_once_and_the_next_takes_its_place(tmp_path, caplog):
    paths = write_photos(tmp_path, 100)
    break_photo(paths[7])
    photos = Photos(paths)
    for _ in range(3):
        assert photos.read(7) is None
        assert (photos.crop(7, 16, 16, (0.0, 0.0))[..., 2] == 8).all()
    assert len(caplog.records) == 1 and str(paths[7]) in caplog.records[0].getMessage()
    assert [str(photo) for photo in photos.failures] == [str(paths[7])]
    assert photos.error is None
    rotated = Photos([*paths[8:], *paths[:8]])
    assert (rotated.crop(99, 16, 16, (0.0, 0.0))[..., 2] == 8).all()  # after the last photo comes the first


def test_more_than_one_percent_of_failures_stops(tmp_path):
    paths = write_photos(tmp_path, 100)
    break_photo(paths[7])
    paths[50].write_bytes(b"")
    photos = Photos(paths)
    assert photos.read(7) is None  # 1 of 100 is borne
    with pytest.raises(
        UserError, match="2 of 100 photos cannot be decoded, more than 1%: .*0050.png.*--data_dir"
    ) as error:
        photos.read(50)
    assert photos.error == str(error.value)
    assert "\n" not in photos.error


def test_all_photos_too_small(tmp_path):
    photos = Photos(write_photos(tmp_path, 3, size=(15, 40)), enlarge=False)
    with pytest.raises(
        UserError, match="none of the 3 photos can be used: 0 cannot be decoded, 3 are smaller than 16 px .*enlarge"
    ):
        photos.crop(1, 20, 16, (0.0, 0.0))
    assert photos.error and photos.too_small == set(photos.paths)
    photos.error = None
    with ThreadPoolExecutor(2) as pool, pytest.raises(UserError, match="none of the 3 photos can be used"):
        examples.batch(photos, stage(), 0, 0, pool=pool)
    assert "none of the 3 photos can be used" in photos.error


def test_strips_are_left_out_before_they_are_blown_up(tmp_path):
    """1 x 60,000 px, resized to a shorter edge of 384 px, would take 26 GB."""
    paths = write_photos(tmp_path, 100)
    Image.new("RGB", (1, 60_000)).save(paths[3])
    photos = Photos(paths)
    assert (photos.crop(3, 384, 256, (0.0, 0.0))[..., 2] == 4).all()
    assert "strip of 1 x 60000 px" in photos.failures[photos.paths[3]]
    Image.new("RGB", (2, 100)).save(paths[5])
    assert photos.read(5).shape == (100, 2, 3)  # 50:1 is still a photo


# Crops.


def test_crop_without_resizing_equals_slicing(tmp_path):
    (path,) = write_photos(tmp_path, 1, size=(20, 28))
    pixels = np.asarray(Image.open(path))
    photos = Photos([path])
    almost_one = np.nextafter(np.float32(1), np.float32(0))
    for (y, x), (top, left) in {
        (0.0, 0.0): (0, 0),
        (almost_one, almost_one): (4, 12),
        (0.5, 0.5): (2, 6),  # the centre
        (0.19, 0.08): (0, 1),  # 5 places for y, 13 for x
        (0.21, 0.07): (1, 0),
    }.items():
        crop = photos.crop(0, 20, 16, np.array([y, x], np.float32))
        np.testing.assert_array_equal(crop, pixels[top : top + 16, left : left + 16])
        assert crop.flags.c_contiguous


@pytest.mark.parametrize("turn", [False, True], ids=["landscape", "portrait"])
def test_shrinking_by_two_averages_blocks_of_pixels(tmp_path, turn):
    pixels = np.random.default_rng(0).integers(0, 256, [40, 60, 3], np.uint8)
    pixels = np.ascontiguousarray(pixels.swapaxes(0, 1)) if turn else pixels
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    height, width = pixels.shape[:2]
    small = pixels.reshape(height // 2, 2, width // 2, 2, 3).mean((1, 3))
    crop = Photos([tmp_path / "photo.png"]).crop(0, 20, 16, (0.5, 0.5))
    top, left = ((height // 2 - 16 + 1) // 2, (width // 2 - 16 + 1) // 2)
    assert np.abs(crop - small[top : top + 16, left : left + 16]).max() <= 0.5


def test_resized_crop_equals_opencv(tmp_path):
    """Photo of 40 x 61 px. Shorter edge 24: 24 x 37 (36.6); 48: 48 x 73 (73.2). Central places by hand."""
    pixels = np.random.default_rng(0).integers(0, 256, [40, 61, 3], np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    photos = Photos([tmp_path / "photo.png"])
    smaller = cv2.resize(pixels, (37, 24), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(photos.crop(0, 24, 16, (0.5, 0.5)), smaller[4:20, 11:27])
    larger = cv2.resize(pixels, (73, 48), interpolation=cv2.INTER_CUBIC)
    np.testing.assert_array_equal(photos.crop(0, 48, 16, (0.5, 0.5)), larger[16:32, 29:45])


def test_photo_is_not_enlarged_if_told_so(tmp_path):
    paths = write_photos(tmp_path, 2, size=(20, 28))
    Image.new("RGB", (40, 15), RED).save(paths[0])
    photos = Photos(paths, enlarge=False)
    pixels = np.asarray(Image.open(paths[1]))
    np.testing.assert_array_equal(photos.crop(1, 24, 16, (0.5, 0.5)), pixels[2:18, 6:22])  # at its own 20 px, not 24
    np.testing.assert_array_equal(photos.crop(0, 24, 16, (0.5, 0.5)), pixels[2:18, 6:22])  # too small: the next one
    assert photos.too_small == {photos.paths[0]}
    np.testing.assert_array_equal(photos.crop(1, 20, 20, (0.0, 0.0)), pixels[:, :20])  # just large enough
    assert photos.crop(0, 24, 12, (0.0, 0.0)).max() == RED[0]  # large enough for a smaller crop
    assert Photos(paths).crop(0, 16, 16, (0.0, 0.0)).shape == (16, 16, 3)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 40), (40, 1), (17, 16), (33, 7)])
def test_crop_has_its_size_whatever_the_photo(tmp_path, height, width):
    Image.new("RGB", (width, height), RED).save(tmp_path / "photo.png")
    photos = Photos([tmp_path / "photo.png"])
    for short_edge in (16, 17, 31):
        crop = photos.crop(0, short_edge, 16, (0.999, 0.999))
        np.testing.assert_array_equal(crop, np.broadcast_to(np.uint8(RED), [16, 16, 3]))


# Examples and batches.


def test_nothing_of_tensorflow_is_needed(tmp_path):
    """Where none of it is installed, photos are found and batches made."""
    write_photos(tmp_path, 8)
    code = """
import sys
missing = ("tensorflow", "keras", "absl", "ml_collections", "tqdm", "jax")
sys.modules.update(dict.fromkeys(missing))  # None: importing it fails
from types import SimpleNamespace
from glcic_tf.data import examples, sources
from glcic_tf.data.random_holes import HoleSpec
from glcic_tf.training import stages
from glcic_tf.training.settings import OptimizerSpec
config = SimpleNamespace(seed=0, data=SimpleNamespace(validation_photos=0, enlarge=True, reduced_decode=False))
photos, _ = sources.find(config, sys.argv[1], None, 4)
stage = stages.Stage(
    "completion", 0, "completion", 0, 1, 0, 16, 8, 16, 24, 4, 0.0, 0.0, "hole", 0.0, "minimax", 0.0, 0.0,
    HoleSpec(min_px=3, max_px=6), OptimizerSpec(), OptimizerSpec(),
)
print(examples.batch(photos, stage, 0, 0)["image"].shape)
print([name for name in sys.modules if name.split(".")[0] in missing and sys.modules[name]])
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["(4, 16, 16, 3)", "[]"], done.stderr


def test_reduced_decode_takes_the_stages_largest_size(tmp_path):
    """All crops of a stage come from the same pixels, however small the photo is to be for one of them."""
    pixels = cv2.resize(np.random.default_rng(0).integers(0, 256, [10, 15, 3], np.uint8), (300, 200))
    Image.fromarray(pixels).save(tmp_path / "photo.jpg")
    reduced, whole = Photos([tmp_path / "photo.jpg"], reduced_decode=True), Photos([tmp_path / "photo.jpg"])
    half = images.read_photo(tmp_path / "photo.jpg", shorter_edge_px=60)
    assert half.shape == (100, 150, 3)
    half = cv2.resize(half, (30, 20), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(reduced.crop(0, 20, 16, (0.5, 0.5), 60), half[2:18, 7:23])
    full = whole.crop(0, 20, 16, (0.5, 0.5), 60)
    np.testing.assert_array_equal(reduced.crop(0, 20, 16, (0.5, 0.5), 90), full)  # no room for less
    np.testing.assert_array_equal(reduced.crop(0, 20, 16, (0.5, 0.5)), full)
    assert np.abs(full.astype(int) - half[2:18, 7:23]).mean() < 1.5
