"""protocols: crops and holes against the rule as written down, computed apart; masks in files; what users get wrong."""

import pickle
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data

from glcic_tf.common.errors import UserError
from glcic_tf.evaluation import protocols
from glcic_tf.evaluation.protocols import PRESETS, Protocol, make_jobs, protocol_from, sample

# (preset, stem, top, left, height, width): sha256 of the stem, its first 16 hex digits as the seed of
# numpy.random.default_rng, height and width in one integers(min, max + 1, 2), then y, then x; by a script of its own.
GOLDEN = [
    ("places", "coffee", 35, 100, 118, 128),
    ("places", "IMG_0042", 111, 126, 125, 124),
    ("places", "a photo, 2", 88, 116, 100, 119),
    ("places", "été", 158, 42, 96, 112),
    ("mmagic", "coffee", 34, 100, 122, 128),
    ("mmagic", "IMG_0042", 109, 125, 127, 125),
    ("faces", "coffee", 22, 63, 74, 80),
    ("faces", "été", 99, 26, 60, 70),
    ("centre", "coffee", 32, 32, 64, 64),
    ("centre", "été", 32, 32, 64, 64),
]


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def box_mask(shape, top, left, height, width):
    mask = np.zeros(shape, np.uint8)
    mask[top : top + height, left : left + width] = 255
    return mask


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def jobs_of(tmp_path, **flags):
    protocol = protocol_from(size=32, masks=tmp_path / "masks", kind="files", **flags)
    return make_jobs(protocols.find_photos(tmp_path / "photos", [protocol.masks]), protocol, tmp_path / "photos")


def area_average(image, height, width):
    """Area averaging from its definition, as matrices of overlaps: float64 [height, width, 3]."""

    def overlaps(to, of):
        edges = np.arange(to + 1)[:, None] * of / to
        covered = np.clip(edges - np.arange(of), 0, 1)  # share of each pixel that lies before each edge
        return np.diff(covered, axis=0) * to / of

    rows, columns = overlaps(height, image.shape[0]), overlaps(width, image.shape[1])
    return np.moveaxis(rows @ np.moveaxis(image, -1, 0) @ columns.T, 0, -1)


@pytest.mark.parametrize(("preset", "stem", "top", "left", "height", "width"), GOLDEN)
def test_hole_is_that_of_the_rule(preset, stem, top, left, height, width):
    size = PRESETS[preset].size
    found = protocols.hole(PRESETS[preset], stem)
    assert found.dtype == bool
    np.testing.assert_array_equal(found, box_mask((size, size), top, left, height, width) == 255)


def test_hole_of_a_name_that_is_not_unicode():
    stem = b"\xe9t\xe9".decode("utf-8", "surrogateescape")
    assert protocols.hole(PRESETS["places"], stem).any()


def test_sides_of_holes_reach_both_bounds_and_stay_inside():
    protocol = Protocol("rectangle", 16, 3, 5)
    holes = [protocols.hole(protocol, str(i)) for i in range(200)]
    heights, widths = ({int(h.any(axis=axis).sum()) for h in holes} for axis in (1, 0))
    assert heights == widths == {3, 4, 5}
    reached = np.any(holes, axis=0)
    assert all(side.any() for side in (reached[0], reached[-1], reached[:, 0], reached[:, -1]))


@pytest.mark.parametrize(("height", "width"), [(300, 451), (451, 300), (97, 97), (64, 64), (129, 64), (1000, 65)])
def test_crop_is_the_area_average_of_the_central_square(height, width):
    photo = noise(height, width)
    shorter = min(height, width)
    rows, columns = round(height * 64 / shorter), round(width * 64 / shorter)
    reduced = area_average(photo.astype(np.float64), rows, columns)
    top, left = (rows - 64) // 2, (columns - 64) // 2
    found = protocols.crop(photo, 64)
    assert (found.shape, found.dtype) == ((64, 64, 3), np.uint8)
    assert np.abs(found - reduced[top : top + 64, left : left + 64]).max() <= 0.51  # rounding to 8 bits


@pytest.mark.parametrize("shape", [(63, 200), (200, 63), (10, 10)])
def test_smaller_photos_are_not_enlarged(shape, tmp_path):
    assert protocols.crop(noise(*shape), 64) is None
    save(tmp_path / "a.png", noise(*shape))
    (job,), _ = make_jobs([tmp_path / "a.png"], protocol_from(size=64, hole_min=8, hole_max=8), tmp_path)
    assert sample(job) is None


def test_sample_through_files(tmp_path):
    photo = data.coffee()[:, :500]
    save(tmp_path / "in" / "sub" / "coffee.png", photo)
    photos = protocols.find_photos(tmp_path / "in")
    (job,), notes = make_jobs(photos, PRESETS["places"], tmp_path / "in")
    assert (job.name, notes) == ("sub/coffee.png", [])
    original, hole = sample(pickle.loads(pickle.dumps(job)))
    np.testing.assert_array_equal(original, protocols.crop(photo, 256))
    assert hole.sum() == 118 * 128 and hole[35, 100]


@pytest.mark.parametrize("mode", ["L", "1", "I;16", "LA", "RGBA", "CMYK"])
def test_photos_of_other_kinds_become_rgb(mode, tmp_path):
    grey = data.coffee()[:80, :90, 0]
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    picture = Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(grey).convert(mode)
    picture.save(path)
    (job,), _ = make_jobs([path], protocol_from(size=64, hole_min=8, hole_max=16), tmp_path)
    original, _ = sample(job)
    assert (original.shape, original.dtype) == ((64, 64, 3), np.uint8)
    if mode in ("L", "I;16", "LA", "RGBA"):
        np.testing.assert_array_equal(original, protocols.crop(np.stack([grey] * 3, axis=-1), 64))


def test_a_broken_photo_is_named(tmp_path):
    whole = save(tmp_path / "whole.png", noise(80, 80)).read_bytes()
    (tmp_path / "broken.png").write_bytes(whole[: len(whole) // 2])
    jobs, _ = make_jobs(protocols.find_photos(tmp_path), protocol_from(size=64, hole_min=8, hole_max=8), tmp_path)
    with pytest.raises(UserError, match=r"broken\.png: is broken"):
        sample(jobs[0])
    assert sample(jobs[1]) is not None


def test_free_form_holes_depend_on_the_name_alone():
    protocol = protocol_from(kind="free_form", size=96)
    holes = [protocols.hole(protocol, f"photo{i}") for i in range(100)]
    np.testing.assert_array_equal(holes[7], protocols.hole(protocol, "photo7"))
    assert len({h.tobytes() for h in holes}) == 100
    shares = np.array([h.mean() for h in holes])
    assert all(h.shape == (96, 96) and h.dtype == bool for h in holes)
    assert shares.min() > 0 and shares.max() < 0.9
    assert len(np.histogram(shares, [0, 0.1, 0.2, 0.3, 0.4, 0.5])[0].nonzero()[0]) == 5  # every size of hole


def test_thin_holes_are_thin_and_depend_on_the_name_alone():
    protocol = protocol_from(kind="thin", size=96)
    drawn = [protocols.hole(protocol, f"photo{i}") for i in range(50)]
    np.testing.assert_array_equal(drawn[7], protocols.hole(protocol, "photo7"))
    assert len({h.tobytes() for h in drawn}) == 50
    # Where strokes cross they are thicker; most of a hole lies within half a stroke of its rim.
    depths = np.concatenate([cv2.distanceTransform(h.astype(np.uint8), cv2.DIST_L2, 5)[h] for h in drawn])
    assert all(h.any() for h in drawn) and np.percentile(depths, 90) <= 5


def test_masks_by_name_are_found_in_any_order_and_suffix(tmp_path):
    for i, name in enumerate(["b.png", "sub/a.png", "c.png"]):
        save(tmp_path / "photos" / name, noise(32, 32, i))
    for name, left in [("c.bmp", 2), ("b.png", 4), ("a.png", 6), ("0_unused.png", 8)]:
        save(tmp_path / "masks" / name, box_mask((32, 32), 3, left, 5, 7))
    jobs, notes = jobs_of(tmp_path)
    assert notes == []
    found = {job.name: sample(job)[1] for job in jobs}
    for name, left in [("b.png", 4), ("sub/a.png", 6), ("c.png", 2)]:
        np.testing.assert_array_equal(found[name], box_mask((32, 32), 3, left, 5, 7) == 255)


def test_masks_of_other_names_are_taken_in_order_and_again(tmp_path):
    for i in range(5):
        save(tmp_path / "photos" / f"{i}.png", noise(32, 32, i))
    for name in "xy":
        save(tmp_path / "masks" / f"{name}.png", box_mask((32, 32), 3, 4, 5, 7))
    jobs, notes = jobs_of(tmp_path)
    assert [job.mask.stem for job in jobs] == ["x", "y", "x", "y", "x"]
    assert notes == ["2 masks for 5 photos: masks were used up to 3 times."]


def test_some_masks_by_name_and_the_rest_in_order_is_said(tmp_path):
    for i in range(3):
        save(tmp_path / "photos" / f"{i}.png", noise(32, 32, i))
    for name in ("a/1", "a/2", "b/2"):  # two masks for photo 2: neither is taken for its own
        save(tmp_path / "masks" / f"{name}.png", box_mask((32, 32), 3, 4, 5, 7))
    jobs, notes = jobs_of(tmp_path)
    assert [(job.mask.relative_to(tmp_path / "masks").as_posix(), job.own_mask) for job in jobs] == [
        ("a/1.png", False),
        ("a/1.png", True),
        ("a/2.png", False),
    ]
    assert len(notes) == 1 and notes[0].startswith("2 of 3 photos have no mask with their name")


def test_own_mask_is_cropped_with_its_photo(tmp_path):
    """What is marked is what is missing: the marked square of the photo is where the hole is, also at half its size."""
    photo = np.zeros((64, 128, 3), np.uint8)
    photo[16:32, 60:80] = 200
    for name in ("full", "half"):
        save(tmp_path / "photos" / f"{name}.png", photo)
    marked = photo[..., 0] // 200 * 255
    save(tmp_path / "masks" / "full.png", marked)
    save(tmp_path / "masks" / "half.png", marked[::2, ::2])
    for job in jobs_of(tmp_path)[0]:
        original, hole = sample(job)
        np.testing.assert_array_equal(hole, original[..., 0] == 200)


def test_other_masks_are_resized_as_a_whole(tmp_path):
    save(tmp_path / "photos" / "a.png", noise(40, 60))
    save(tmp_path / "masks" / "b.png", box_mask((64, 128), 16, 0, 32, 64))
    (job,), _ = jobs_of(tmp_path)
    np.testing.assert_array_equal(sample(job)[1], box_mask((32, 32), 8, 0, 16, 16) == 255)


@pytest.mark.parametrize(("value", "message"), [(0, "all black.*to be completed"), (255, "all white.*is known")])
def test_masks_without_a_hole_or_without_surroundings_are_reported(value, message, tmp_path):
    save(tmp_path / "photos" / "a.png", noise(40, 40))
    save(tmp_path / "masks" / "a.png", np.full((40, 40), value, np.uint8))
    (job,), _ = jobs_of(tmp_path)
    with pytest.raises(UserError, match=rf"a\.png: is {message}"):
        sample(job)


def test_mask_outside_the_crop_is_reported(tmp_path):
    save(tmp_path / "photos" / "a.png", noise(40, 120))
    save(tmp_path / "masks" / "a.png", box_mask((40, 120), 0, 0, 40, 20))
    (job,), _ = jobs_of(tmp_path)
    with pytest.raises(UserError, match="all black in the 32 px crop"):
        sample(job)


def test_masks_and_reports_inside_the_folder_of_photos_are_no_photos(tmp_path):
    for name in ("a.png", "masks/a.png", "report/figure.png", "reports/b.png"):
        save(tmp_path / name, noise(8, 8))
    found = protocols.find_photos(tmp_path, [tmp_path / "masks", tmp_path / "report", None, tmp_path])
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["a.png", "reports/b.png"]
    with pytest.raises(UserError, match="--images=.*no photos besides"):
        protocols.find_photos(tmp_path / "masks", [tmp_path / "masks" / "a.png"])


def test_folders_that_are_none_are_named_with_their_flag(tmp_path):
    save(tmp_path / "photos" / "a.png", noise(40, 40))
    with pytest.raises(UserError, match="--images=.*found nothing"):
        protocols.find_photos(tmp_path / "missing")
    with pytest.raises(UserError, match="--masks=.*found a file"):
        make_jobs([], protocol_from(kind="files", masks=tmp_path / "photos" / "a.png"), tmp_path)
    (tmp_path / "masks").mkdir()
    with pytest.raises(UserError, match="--masks=.*holds no photo"):
        jobs_of(tmp_path)


def test_flags_change_the_preset():
    assert protocol_from() == Protocol("rectangle", 256, 96, 128)
    assert protocol_from("centre") == Protocol("centre", 128, 64, 64)
    assert protocol_from("faces", hole_min=10, hole_max=20) == Protocol("rectangle", 160, 10, 20)
    assert protocol_from("centre", kind="rectangle", size=100) == Protocol("rectangle", 100, 64, 64)
    assert protocol_from(kind="files", masks="m", size=64) == Protocol("files", 64, 96, 128, Path("m"))
    assert protocol_from("mmagic").describe() == "256 x 256 px, one rectangular hole of 108-128 px"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"preset": "place"}, "--preset=place: expected one of places, mmagic"),
        ({"kind": "blob"}, "--holes=blob: expected one of rectangle"),
        ({"size": 128}, "--hole_min=96, --hole_max=128 with --size=128"),
        ({"hole_min": 0}, "--hole_min=0"),
        ({"hole_min": 129}, "--hole_min=129, --hole_max=128"),
        ({"size": 10, "kind": "free_form"}, "--size=10: expected at least 11"),
        ({"size": -1, "hole_min": 1, "hole_max": 2}, "--size=-1"),
        ({"kind": "files"}, "--holes=files: found no --masks"),
        ({"masks": "m"}, "--masks=m: is not used with --holes=rectangle"),
        ({"kind": "free_form", "hole_max": 30}, "--hole_max=30: is not used with --holes=free_form"),
        ({"kind": "files", "masks": "m", "hole_min": 0}, "--hole_min=0: is not used"),
    ],
)
def test_flags_that_do_not_fit_are_refused(flags, message):
    with pytest.raises(UserError, match=message):
        protocol_from(**flags)


def test_workers_need_no_tensorflow():
    modules = "glcic_tf.evaluation.protocols, glcic_tf.evaluation.metrics, glcic_tf.evaluation.bootstrap"
    code = f"import sys, {modules}; assert not {{'tensorflow', 'keras'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
