"""Holes against independent computations, and properties over many streams."""

import numpy as np
import pytest
from PIL import Image

from glcic_tf.common.random_streams import HOLE, stream
from glcic_tf.data import random_holes
from glcic_tf.data.random_holes import HOLE_KINDS, HoleSpec, draw_hole, patch_origin


def draw_many(spec, image_size, count, run=0):
    """Draw `count` holes: masks [count, image_size, image_size] bool, centres [count, 2]."""
    drawn = [draw_hole(stream(run, HOLE, number), image_size, spec) for number in range(count)]
    for mask, centre in drawn:
        assert (mask.shape, mask.dtype) == ((image_size, image_size, 1), np.uint8)
        assert (centre.shape, centre.dtype) == ((2,), np.int32)
        assert mask.max() <= 1
    masks, centres = map(np.stack, zip(*drawn, strict=True))
    return masks[..., 0] == 1, centres


def boxes_of(masks):
    """Bounding boxes (top, left, height, width), [count, 4]."""
    rows, columns = masks.any(2), masks.any(1)
    top, left = rows.argmax(1), columns.argmax(1)
    bottom, right = rows.shape[1] - rows[:, ::-1].argmax(1), columns.shape[1] - columns[:, ::-1].argmax(1)
    return np.stack([top, left, bottom - top, right - left], axis=1)


def test_rectangle_sides_and_positions_are_uniform_with_both_ends():
    masks, centres = draw_many(HoleSpec(min_px=5, max_px=9), image_size=32, count=2000)
    top, left, height, width = boxes_of(masks).T
    assert (masks.sum((1, 2)) == height * width).all(), "a box is not filled"
    for side in (height, width):
        counts = np.bincount(side, minlength=10)
        assert counts.sum() == counts[5:].sum() == 2000  # no side outside [5, 9]
        assert (np.abs(counts[5:] - 400) < 5 * np.sqrt(2000 * 0.2 * 0.8)).all(), counts
    for start, side in ((top, height), (left, width)):
        assert start.min() == 0
        assert (start + side).max() == 32
        assert set(start[side == 9]) == set(range(32 - 9 + 1))  # every position there is
    np.testing.assert_array_equal(centres, np.stack([top + height // 2, left + width // 2], axis=1))
    # The four numbers are drawn independently: no correlation beyond chance (5 standard errors).
    slack = (top / (32 - height), left / (32 - width), height, width)
    assert np.abs(np.corrcoef(slack) - np.eye(4)).max() < 5 / np.sqrt(2000)


def test_a_central_hole_is_in_the_middle_and_so_is_its_patch():
    masks, centres = draw_many(HoleSpec(kind="centre", min_px=64, max_px=64), image_size=128, count=3)
    assert (boxes_of(masks) == [32, 32, 64, 64]).all() and (masks.sum((1, 2)) == 64**2).all()
    assert (patch_origin(centres, 128, 64) == 32).all()
    masks, _ = draw_many(HoleSpec(kind="centre", min_px=4, max_px=10), image_size=32, count=200)
    top, left, height, width = boxes_of(masks).T
    np.testing.assert_array_equal(top, (32 - height) // 2)
    np.testing.assert_array_equal(left, (32 - width) // 2)
    assert {*height} == {*width} == set(range(4, 11)) and (height != width).any()


@pytest.mark.parametrize(("min_px", "max_px"), [(8, 8), (1, 8)])
def test_rectangle_as_large_as_the_image_stays_in_it(min_px, max_px):
    masks, centres = draw_many(HoleSpec(min_px=min_px, max_px=max_px), image_size=8, count=300)
    _, _, height, width = boxes_of(masks).T
    assert (masks.sum((1, 2)) == height * width).all()
    assert (height.min(), height.max(), width.min(), width.max()) == (min_px, max_px, min_px, max_px)
    assert (centres >= 0).all() and (centres < 8).all()


def test_number_of_rectangles_covers_its_range():
    masks, centres = draw_many(HoleSpec(count_min=2, count_max=4, min_px=1, max_px=1), image_size=64, count=900)
    counts = np.bincount(masks.sum((1, 2)))
    assert counts[:1].sum() == 0
    assert counts[1] < 5  # two or more of the boxes of 1 px on the same place
    assert (np.abs(counts[2:] - 300) < 5 * np.sqrt(900 * 2 / 9)).all(), counts
    assert masks[np.arange(900), centres[:, 0], centres[:, 1]].all(), "a centre is on no rectangle"
    pairs = masks.sum((1, 2)) == 2
    first = [
        tuple(np.argwhere(mask)[0]) == tuple(centre) for mask, centre in zip(masks[pairs], centres[pairs], strict=True)
    ]
    assert 0.35 < np.mean(first) < 0.65, "one of several rectangles is preferred"


def test_centre_of_several_rectangles_is_that_of_one_of_them():
    masks, centres = draw_many(HoleSpec(count_min=3, count_max=3, min_px=5, max_px=5), image_size=24, count=300)
    for mask, (y, x) in zip(masks, centres, strict=True):
        assert 2 <= y < 22 and 2 <= x < 22
        assert mask[y - 2 : y + 3, x - 2 : x + 3].all()


def test_mask_is_the_union_of_the_rectangles():
    """Replayed from the random numbers in their order: count; sides; places; the box drawn for the centre."""
    spec = HoleSpec(count_min=1, count_max=5, min_px=2, max_px=9)
    for number in range(50):
        mask, centre = draw_hole(stream(3, HOLE, number), 24, spec)
        numbers = iter(stream(3, HOLE, number).random(22))
        count = 1 + int(next(numbers) * 5)
        sides = [[2 + int(next(numbers) * 8) for _ in "yx"] for _ in range(5)]
        places = [[int(next(numbers) * (25 - side)) for side in sides[i]] for i in range(5)]
        expected = np.zeros([24, 24, 1], np.uint8)
        for (height, width), (top, left) in list(zip(sides, places, strict=True))[:count]:
            expected[top : top + height, left : left + width] = 1
        np.testing.assert_array_equal(mask, expected)
        chosen = int(next(numbers) * count)
        assert centre.tolist() == [start + side // 2 for start, side in zip(places[chosen], sides[chosen], strict=True)]


@pytest.mark.parametrize(("image_size", "area"), [(32, 0.1), (33, 0.5), (8, 0.999), (8, 0.001)])
def test_blob_covers_its_area_to_the_pixel(image_size, area):
    masks, centres = draw_many(HoleSpec(kind="blob", area_min=area, area_max=area), image_size, count=100)
    expected = min(max(round(area * image_size**2), 1), image_size**2 - 1)
    np.testing.assert_array_equal(masks.sum((1, 2)), expected)
    assert masks[np.arange(100), centres[:, 0], centres[:, 1]].all()


def test_blob_area_holds_where_the_pattern_is_flat(monkeypatch):
    """All pixels of the pattern are equal: the hole still has the area asked for, and not every pixel."""
    monkeypatch.setattr(random_holes, "_enlargement", lambda size: np.zeros([size, 6]))
    mask, _ = draw_hole(stream(1, HOLE, 2), 16, HoleSpec(kind="blob", area_min=0.25, area_max=0.25))
    assert np.sum(mask) == 64


@pytest.mark.parametrize("size", [8, 33, 256])
def test_blob_pattern_is_enlarged_as_pillow_does(size):
    noise = np.random.default_rng(0).random([6, 6]).astype(np.float32)
    weights = random_holes._enlargement(size)
    expected = Image.fromarray(noise).resize((size, size), Image.Resampling.BICUBIC)
    np.testing.assert_allclose(weights @ noise @ weights.T, np.asarray(expected), atol=1e-5)


def test_blob_areas_cover_their_range_and_are_smooth():
    masks, _ = draw_many(HoleSpec(kind="blob", area_min=0.1, area_max=0.4), image_size=32, count=500)
    area = masks.mean((1, 2))
    assert area.min() >= 0.1 - 0.001 and area.max() <= 0.4 + 0.001
    assert area.min() < 0.11 and area.max() > 0.39
    assert abs(area.mean() - 0.25) < 5 * 0.3 / np.sqrt(12 * 500)
    changes = (masks[:, 1:] != masks[:, :-1]).mean()  # independent pixels would change at 2 * area * (1 - area) = 0.37
    assert changes < 0.1


@pytest.mark.parametrize(
    ("image_size", "spec"),
    [
        (32, HoleSpec(kind="stroke", brush_min_px=1, brush_max_px=1)),
        (32, HoleSpec(kind="stroke", brush_min_px=3, brush_max_px=6, count_min=1, count_max=4)),
        (8, HoleSpec(kind="stroke", brush_min_px=12, brush_max_px=40, count_min=5, count_max=5)),
    ],
    ids=["thin", "several", "brush wider than the image"],
)
def test_strokes_are_never_empty_and_never_all(image_size, spec):
    masks, centres = draw_many(spec, image_size, count=300)
    area = masks.sum((1, 2))
    assert area.min() >= 1
    assert area.max() < image_size**2
    assert masks[np.arange(300), centres[:, 0], centres[:, 1]].all()


def holds_disc(mask, diameter):
    """Whether a disc of at most 12 px fits into the hole."""
    y, x = np.mgrid[-6:7, -6:7]
    disc = np.argwhere(y**2 + x**2 <= (diameter / 2) ** 2) - 6
    padded, (height, width) = np.pad(mask, 6), mask.shape
    shifted = [padded[6 + dy : 6 + dy + height, 6 + dx : 6 + dx + width] for dy, dx in disc]
    return np.logical_and.reduce(shifted).any()


def test_stroke_is_as_wide_as_its_brush():
    """The largest disc in a stroke has the brush's diameter, give or take a pixel and what turns add to it."""
    masks, _ = draw_many(HoleSpec(kind="stroke", brush_min_px=9, brush_max_px=9), image_size=64, count=100)
    # At the image's border a stroke may be cut; at most images it is whole.
    assert np.mean([holds_disc(mask, 7.5) for mask in masks]) > 0.9
    assert np.mean([holds_disc(mask, 12) for mask in masks]) < 0.1


@pytest.mark.parametrize(
    ("begin", "end", "reach"),
    [
        ((3.0, 4.5), (15.25, 9.0), 3.2),
        ((12.0, 12.0), (12.0, 12.0), 2.0),  # a point
        ((-5.0, 8.0), (8.0, -5.0), 2.5),  # cuts a corner
        ((-9.0, -9.0), (-4.0, -9.0), 3.0),  # outside
        ((10.0, 2.0), (10.0, 40.0), 30.0),  # covers all
        ((23.9, 23.9), (30.0, 30.0), 0.75),
    ],
)
def test_depth_in_a_stroke_equals_a_search_along_it(begin, end, reach):
    begin, end = np.array(begin), np.array(end)
    depth = np.full([24, 24], -np.inf)
    random_holes._deepen(depth, begin, end, reach)
    points = begin + np.linspace(0, 1, 2001)[:, None] * (end - begin)
    y, x = np.mgrid[:24, :24] + 0.5
    distance = np.hypot(y[..., None] - points[:, 0], x[..., None] - points[:, 1]).min(-1)
    covered = distance <= reach
    np.testing.assert_array_equal(depth >= 0, covered)
    np.testing.assert_allclose(depth[covered], (reach - distance)[covered], atol=0.01)


def test_free_form_mixes_blobs_and_strokes():
    """With an area of exactly a quarter, blobs are told by it."""
    spec = HoleSpec(kind="free_form", area_min=0.25, area_max=0.25, brush_min_px=3, brush_max_px=5)
    masks, centres = draw_many(spec, image_size=32, count=300)
    blobs = masks.sum((1, 2)) == 256
    assert 0.35 < blobs.mean() < 0.65
    assert masks[np.arange(300), centres[:, 0], centres[:, 1]].all()


def test_mixed_is_rectangles_in_half_of_the_cases_and_the_other_kinds_in_a_sixth_each():
    """Told by what they cover: rectangles of 7 x 7 px, blobs 256 pixels; brushes of 9 px hold a disc, of 3 px none."""
    spec = HoleSpec(
        kind="mixed",
        min_px=7,
        max_px=7,
        area_min=0.25,
        area_max=0.25,
        brush_min_px=9,
        brush_max_px=9,
        thin_min_px=3,
        thin_max_px=3,
    )
    masks, _ = draw_many(spec, image_size=32, count=600)
    rectangles = (masks.sum((1, 2)) == 49) & (boxes_of(masks)[:, 2:] == 7).all(1)
    blobs = masks.sum((1, 2)) == 256
    rest = masks[~rectangles & ~blobs]
    strokes = np.mean([holds_disc(mask, 7.5) for mask in rest])
    assert abs(rectangles.mean() - 1 / 2) < 5 * np.sqrt(1 / 4 / 600)
    assert abs(blobs.mean() - 1 / 6) < 5 * np.sqrt(5 / 36 / 600)
    assert abs(strokes - 1 / 2) < 5 * np.sqrt(1 / 4 / len(rest))


THIN = HoleSpec(kind="thin", thin_min_px=3, thin_max_px=3)


def test_thin_holes_are_as_thin_as_they_say_and_never_empty():
    """No pixel of a single wire or letter's line lies deeper than half its diameter; crossings add little."""
    masks, centres = draw_many(THIN, image_size=256, count=60)
    area = masks.sum((1, 2))
    assert area.min() >= 1 and area.max() < 256**2 / 4
    assert masks[np.arange(60), centres[:, 0], centres[:, 1]].all()
    assert np.mean([holds_disc(mask, 7) for mask in masks]) < 0.2
    wide = HoleSpec(kind="thin", thin_min_px=8, thin_max_px=8)
    assert np.mean([holds_disc(mask, 7) for mask in draw_many(wide, 256, 60)[0]]) > 0.9


def test_half_of_the_thin_holes_are_wires_that_reach_across():
    masks, _ = draw_many(THIN, image_size=64, count=400)
    whole = [masks.any(axis).all(1) for axis in (1, 2)]  # a hole in every column, in every row
    across, down = (np.mean(w) for w in whole)
    # Wires may leave through the other two sides, and writing is seldom as long.
    assert 0.1 < across < 0.35 and 0.1 < down < 0.35 and 0.3 < np.mean(whole[0] | whole[1]) < 0.6


@pytest.mark.parametrize("thin_px", [1, 40])
@pytest.mark.parametrize("image_size", [8, 33])
def test_thin_holes_of_any_size_leave_something_and_take_something(image_size, thin_px):
    masks, _ = draw_many(HoleSpec(kind="thin", thin_min_px=thin_px, thin_max_px=thin_px), image_size, count=200)
    area = masks.sum((1, 2))
    assert area.min() >= 1 and area.max() < image_size**2


def test_centre_of_a_free_hole_is_any_of_its_pixels():
    """One mask, many draws: every hole pixel comes up, at the same rate."""
    mask = np.zeros([8, 8], bool)
    mask[0, 0] = mask[7, 7] = mask[3, 2:5] = True
    centres = [random_holes._random_hole_pixel(stream(0, HOLE, number), mask) for number in range(1000)]
    found, counts = np.unique(centres, axis=0, return_counts=True)
    np.testing.assert_array_equal(found, [[0, 0], [3, 2], [3, 3], [3, 4], [7, 7]])
    assert (np.abs(counts - 200) < 5 * np.sqrt(1000 * 0.2 * 0.8)).all(), counts


@pytest.mark.parametrize("kind", [kind for kind in HOLE_KINDS if kind != "centre"])  # of which there are few
def test_same_stream_draws_the_same_and_others_draw_others(kind):
    spec = HoleSpec(kind=kind, count_max=3, min_px=4, max_px=12, brush_min_px=2, brush_max_px=6)
    masks, centres = draw_many(spec, image_size=24, count=40, run=7)
    again, same_centres = draw_many(spec, image_size=24, count=40, run=7)
    np.testing.assert_array_equal(masks, again)
    np.testing.assert_array_equal(centres, same_centres)
    assert len({mask.tobytes() for mask in masks}) == 40, "two numbers drew the same hole"
    others, _ = draw_many(spec, image_size=24, count=40, run=8)
    assert not {mask.tobytes() for mask in masks} & {mask.tobytes() for mask in others}, "two runs drew the same hole"


def test_unknown_kind_of_hole():
    with pytest.raises(ValueError, match="'circle'; known: rectangle, centre, blob"):
        draw_hole(stream(0, HOLE, 0), 16, HoleSpec(kind="circle"))


@pytest.mark.parametrize(("image_size", "patch_size"), [(16, 8), (16, 7), (15, 8), (15, 5), (9, 9), (8, 1)])
def test_patch_is_centred_and_clamped_to_the_image(image_size, patch_size):
    centres = np.stack(np.meshgrid(range(image_size), range(image_size), indexing="ij"), axis=-1)
    origin = patch_origin(centres.astype(np.int32), image_size, patch_size)
    assert origin.dtype == np.int32
    assert origin.min() == 0 and origin.max() == image_size - patch_size
    for (y, x), (top, left) in zip(centres.reshape(-1, 2), origin.reshape(-1, 2), strict=True):
        for position, start in ((y, top), (x, left)):
            assert 0 <= start <= position < start + patch_size <= image_size
            before, after = position - start, start + patch_size - 1 - position
            if 0 < start < image_size - patch_size:  # not clamped: as much on either side; one more before if even
                assert before == after + (patch_size % 2 == 0)


@pytest.mark.parametrize("max_px", [8, 7])
def test_patch_of_the_largest_hole_holds_it(max_px):
    masks, centres = draw_many(HoleSpec(min_px=1, max_px=max_px), image_size=16, count=500)
    origin = patch_origin(centres, 16, max_px)
    for mask, (top, left) in zip(masks, origin, strict=True):
        assert mask[top : top + max_px, left : left + max_px].sum() == mask.sum()
