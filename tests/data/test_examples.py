"""Photos of every kind, crops against NumPy and OpenCV, and batches that depend on (seed, example's number) alone."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from glcic_tf.common.errors import UserError
from glcic_tf.data import examples
from glcic_tf.data.examples import Photos
from glcic_tf.data.random_holes import HoleSpec
from glcic_tf.imaging import images, photo_folders
from glcic_tf.training.settings import OptimizerSpec
from glcic_tf.training.stages import Stage

ROOT = Path(__file__).parents[2]
RED = (200, 60, 20)


def stage(**changes):
    """Two steps of four crops of 16 px."""
    values = dict(
        name="completion",
        index=0,
        phase="completion",
        start=0,
        steps=2,
        first_example=0,
        image_size=16,
        patch_size=8,
        short_edge_min_px=16,
        short_edge_max_px=24,
        batch_size=4,
        known_weight=0.0,
        known_weight_end=0.0,
        loss_mean="hole",
        adversarial_weight=0.0,
        adversarial_form="minimax",
        feature_matching_weight=0.0,
        r1_gamma=0.0,
        hole=HoleSpec(min_px=3, max_px=6),
        optimizer=OptimizerSpec(),
        discriminator_optimizer=OptimizerSpec(),
    )
    return Stage(**values | changes)


def write_photos(folder, count, size=(20, 28)):
    """Noise, so that any two crops differ; photo i's blue is i everywhere."""
    rng = np.random.default_rng(0)
    paths = [folder / f"{i:04d}.png" for i in range(count)]
    for i, path in enumerate(paths):
        pixels = rng.integers(0, 256, [*size, 3], np.uint8)
        pixels[..., 2] = i
        Image.fromarray(pixels).save(path)
    return paths


def batches_of(photos, stage, seed=0, **options):
    return [examples.batch(photos, stage, seed, step, **options) for step in range(stage.start, stage.end)]


def assert_equal(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key], err_msg=key)


class Recorder(Photos):
    """Records what is asked of it and reads no file; photo i is i everywhere, but 255 in its first column."""

    def __init__(self, count):
        super().__init__(range(count))
        self.calls = []

    def crop(self, index, short_edge, size, position, short_edge_max):
        with self._lock:
            self.calls.append((int(index), int(short_edge), *np.asarray(position).tolist()))
        photo = np.full([size, size, 3], int(index), np.uint8)
        photo[:, 0] = 255
        return photo


def order_of(batches):
    """Numbers of the photos of a Recorder in their order."""
    return np.concatenate([batch["image"][:, 0, 8, 0] for batch in batches])


@pytest.fixture(scope="module")
def run():
    """The batches of a run over 12 photos: 60 steps, 20 epochs, seed 0; and what it asked for, in its order."""
    photos = Recorder(12)
    return batches_of(photos, stage(steps=60), mirror=True), photos.calls


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


def break_photo(path):
    path.write_bytes(path.read_bytes()[:-40])


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


def test_batches_have_the_documented_shapes(run):
    batches, _ = run
    assert len(batches) == 60
    for batch in batches:
        shapes = {key: (value.shape, value.dtype.name) for key, value in batch.items()}
        assert shapes == {
            "image": ((4, 16, 16, 3), "uint8"),
            "mask": ((4, 16, 16, 1), "uint8"),
            "patch": ((4, 2), "int32"),
            "real_patch": ((4, 2), "int32"),
        }
        for mask, (top, left) in zip(batch["mask"], batch["patch"], strict=True):
            assert mask[top : top + 8, left : left + 8].sum() == mask.sum() > 0
        assert (batch["real_patch"] >= 0).all() and (batch["real_patch"] <= 8).all()
        assert (batch["patch"] != batch["real_patch"]).any()


def test_pool_changes_nothing(tmp_path):
    """With a broken photo, in a stage that does not begin at 0; the examples stand in the order of their numbers."""
    paths = write_photos(tmp_path, 101)
    break_photo(paths[0])
    late = stage(start=10, steps=30, first_example=77, hole=HoleSpec(kind="free_form", brush_min_px=2, brush_max_px=4))
    photos, others = Photos(paths), Photos(paths)
    with ThreadPoolExecutor(3) as pool:
        for step in (10, 17, 39):
            one = examples.batch(photos, late, 3, step, mirror=True)
            assert_equal([examples.batch(others, late, 3, step, mirror=True, pool=pool)], [one])
            for place in range(4):
                single = examples.example(photos, late, 3, 77 + 4 * (step - 10) + place, mirror=True)
                assert_equal([single], [{name: value[place] for name, value in one.items()}])


def test_seeds_give_other_orders_crops_and_holes(run):
    photos = Recorder(12)
    other = batches_of(photos, stage(steps=3), seed=1)
    batches, calls = run
    assert not {mask.tobytes() for b in other for mask in b["mask"]} & {m.tobytes() for m in batches[0]["mask"]}
    assert order_of(other).tolist() != order_of(batches[:3]).tolist()
    assert not {call[2:] for call in photos.calls} & {call[2:] for call in calls}


def test_a_stage_goes_on_where_the_one_before_ended(run):
    """Were the first 55 steps a stage of their own, the others would see the same examples."""
    batches, _ = run
    second = stage(start=55, steps=5, first_example=220)
    assert_equal(batches_of(Recorder(12), second, mirror=True), batches[55:])


def test_every_photo_comes_once_per_epoch(run):
    epochs = order_of(run[0]).reshape(20, 12)
    for epoch in epochs:
        assert sorted(epoch) == list(range(12))
        assert list(epoch) != sorted(epoch)
    assert len({tuple(epoch) for epoch in epochs}) == 20, "two epochs have the same order"


def test_orders_do_not_come_again():
    """Neither in another epoch nor under another seed, near or far."""
    orders = {
        tuple(examples.photo_index(40, seed, 40 * epoch + place) for place in range(40))
        for seed in (0, 1, 256, 2**31 - 1)
        for epoch in (0, 1, 2, 255, 256, 2**31, 2**32)
    }
    assert len(orders) == 4 * 7


def test_order_of_an_epoch_is_drawn_once_however_many_threads_ask(monkeypatch):
    drawn = []

    def permutation(rng, count):
        drawn.append(count)
        time.sleep(0.02)
        return np.arange(count, dtype=np.uint32)

    monkeypatch.setattr(examples.random_streams, "permutation", permutation)
    examples._photo_order.cache_clear()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: examples.photo_index(50, 0, number), range(100)))
    examples._photo_order.cache_clear()  # the next test draws for itself
    assert found == [*range(50)] * 2
    assert drawn == [50, 50]


def test_one_photo_is_enough_for_a_batch():
    assert order_of(batches_of(Recorder(1), stage())).tolist() == [0] * 8


def test_shorter_edge_and_position_cover_their_ranges(run):
    _, calls = run
    _, short_edges, y, x = np.array(calls).T
    assert set(short_edges) == set(range(16, 25))
    for position in (y, x):
        assert 0 <= position.min() < 0.03 and 0.97 < position.max() < 1
    assert np.abs(np.corrcoef([short_edges, y, x]) - np.eye(3)).max() < 5 / np.sqrt(240)


def test_mirror_turns_half_of_the_crops(run):
    crops = np.concatenate([batch["image"] for batch in run[0]])
    mirrored = crops[:, 0, -1, 0] == 255
    assert (mirrored != (crops[:, 0, 0, 0] == 255)).all()
    assert 90 < mirrored.sum() < 150


def test_mirroring_moves_no_other_draw():
    plain, mirrored = (batches_of(Recorder(12), stage(steps=10), mirror=mirror) for mirror in (False, True))
    for one, other in zip(plain, mirrored, strict=True):
        for name in ("mask", "patch", "real_patch"):
            np.testing.assert_array_equal(one[name], other[name])
        turned = (one["image"] != other["image"]).any((1, 2, 3))
        np.testing.assert_array_equal(
            np.where(turned[:, None, None, None], one["image"][:, :, ::-1], one["image"]), other["image"]
        )


def test_kind_of_hole_moves_no_crop():
    first, second = Recorder(12), Recorder(12)
    batches_of(first, stage())
    batches_of(second, stage(hole=HoleSpec(kind="free_form", count_max=3, brush_min_px=2, brush_max_px=4)))
    assert first.calls == second.calls


def test_numbers_drawn_are_those_of_ever():
    """Frozen: other numbers would make another run of every run that resumes, and part the runtimes from each other."""
    assert [examples.photo_index(100, 0, number) for number in range(10)] == [66, 0, 54, 43, 69, 38, 21, 91, 85, 2]
    photos = Recorder(100)
    for number in range(4):
        examples.example(photos, stage(), 0, number)
    assert photos.calls == [
        (66, 23, 0.7513314251083365, 0.6716490436969984),
        (0, 17, 0.18831832113628233, 0.8562620526031544),
        (54, 24, 0.25172170352721357, 0.7057929596782753),
        (43, 23, 0.6534268809720962, 0.5309630007512666),
    ]
    # Pixels in the hole, patch, real_patch.
    expected = {
        "rectangle": [(719, 5, 32, 0, 20), (760, 9, 0, 32, 32), (153, 7, 8, 8, 30), (715, 32, 0, 0, 32)],
        "blob": [(914, 0, 14, 32, 4), (733, 9, 21, 32, 18), (583, 13, 19, 32, 29), (876, 12, 32, 6, 0)],
        "stroke": [(396, 24, 32, 15, 20), (522, 31, 32, 0, 32), (92, 23, 0, 18, 32), (427, 32, 27, 24, 32)],
        "free_form": [(382, 32, 21, 32, 0), (356, 32, 7, 1, 14), (951, 32, 5, 6, 32), (941, 0, 18, 29, 13)],
    }
    for kind, golden in expected.items():
        hole = HoleSpec(kind=kind, count_max=3, min_px=8, max_px=24, brush_min_px=4, brush_max_px=9)
        larger = stage(image_size=64, patch_size=32, short_edge_min_px=64, short_edge_max_px=64, hole=hole)
        made = [examples.example(photos, larger, 0, number) for number in range(4)]
        found = [(int(one["mask"].sum()), *one["patch"].tolist(), *one["real_patch"].tolist()) for one in made]
        assert found == golden, kind


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


def test_example_numbers_beyond_32_bits():
    """Far more examples than any run draws; the order still is a permutation, and the draws still differ."""
    far = stage(start=2**33, steps=3, first_example=4 * 2**33)
    found = batches_of(Recorder(12), far, seed=2**31 - 1)
    order = order_of(found)
    first = (12 - 4 * 2**33 % 12) % 12  # where the next epoch begins
    assert len(set(order[:first])) == first and len(set(order[first:])) == 12 - first
    assert len({mask.tobytes() for batch in found for mask in batch["mask"]}) > 8


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
