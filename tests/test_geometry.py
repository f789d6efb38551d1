"""Holes, local patches and composites against NumPy, and properties over many seeds."""

import numpy as np
import pytest
import tensorflow as tf

from glcic_tf import geometry
from glcic_tf.geometry import HoleSpec


def many(function, count, run=0):
    """`function` of `count` seeds inside tf.data, stacked."""
    dataset = tf.data.Dataset.range(count).map(
        lambda number: function(geometry.fold_in(tf.constant([run, 1]), number)), num_parallel_calls=2
    )
    return next(iter(dataset.batch(count)))


def draw_many(spec, image_size, count, run=0):
    """Draw `count` holes: masks [count, image_size, image_size] bool, centres [count, 2]."""
    masks, centres = many(lambda seed: geometry.draw_hole(seed, image_size, spec), count, run)
    masks = masks.numpy()
    assert masks.shape == (count, image_size, image_size, 1)
    assert masks.dtype == np.float32
    assert set(np.unique(masks)) <= {0.0, 1.0}
    assert centres.dtype == tf.int32
    return masks[..., 0] == 1, centres.numpy()


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


def test_boxes_to_mask_draws_their_union():
    rng = np.random.default_rng(0)
    for n in (1, 2, 5):
        boxes = rng.integers(0, 20, [4, n])
        boxes[:, 0] = [3, 4, 0, 9]  # a box without height is no box
        expected = np.zeros([24, 24, 1], np.float32)
        for top, left, height, width in boxes.T:
            expected[top : top + height, left : left + width] = 1  # NumPy cuts off what leaves the image, too
        mask = geometry.boxes_to_mask(*tf.constant(boxes, tf.int32), 24)
        np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize(("image_size", "area"), [(32, 0.1), (33, 0.5), (8, 0.999), (8, 0.001)])
def test_blob_covers_its_area_to_the_pixel(image_size, area):
    masks, centres = draw_many(HoleSpec(kind="blob", area_min=area, area_max=area), image_size, count=100)
    expected = min(max(round(area * image_size**2), 1), image_size**2 - 1)
    np.testing.assert_array_equal(masks.sum((1, 2)), expected)
    assert masks[np.arange(100), centres[:, 0], centres[:, 1]].all()


def test_blob_area_holds_where_the_pattern_is_flat(monkeypatch):
    """All pixels of the pattern are equal: the hole still has the area asked for, and not every pixel."""
    monkeypatch.setattr(tf.image, "resize", lambda noise, size, method: tf.zeros([1, *size, 1]))
    mask, _ = geometry.draw_hole(tf.constant([1, 2]), 16, HoleSpec(kind="blob", area_min=0.25, area_max=0.25))
    assert np.sum(mask) == 64


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


def test_stroke_is_as_wide_as_its_brush():
    """The largest disc in a stroke has the brush's diameter, give or take a pixel and what turns add to it."""
    masks, _ = draw_many(HoleSpec(kind="stroke", brush_min_px=9, brush_max_px=9), image_size=64, count=100)
    y, x = np.mgrid[-6:7, -6:7]

    def holds_disc(mask, diameter):
        disc = np.argwhere(y**2 + x**2 <= (diameter / 2) ** 2) - 6
        padded = np.pad(mask, 6)
        shifted = [padded[6 + dy : 70 + dy, 6 + dx : 70 + dx] for dy, dx in disc]
        return np.logical_and.reduce(shifted).any()

    # At the image's border a stroke may be cut; at most images it is whole.
    assert np.mean([holds_disc(mask, 7.5) for mask in masks]) > 0.9
    assert np.mean([holds_disc(mask, 12) for mask in masks]) < 0.1


def test_free_form_mixes_blobs_and_strokes():
    """With an area of exactly a quarter, blobs are told by it."""
    spec = HoleSpec(kind="free_form", area_min=0.25, area_max=0.25, brush_min_px=3, brush_max_px=5)
    masks, centres = draw_many(spec, image_size=32, count=300)
    blobs = masks.sum((1, 2)) == 256
    assert 0.35 < blobs.mean() < 0.65
    assert masks[np.arange(300), centres[:, 0], centres[:, 1]].all()


def test_centre_of_a_free_hole_is_any_of_its_pixels():
    """One mask, many draws: every hole pixel comes up, at the same rate."""
    mask = np.zeros([8, 8, 1], np.float32)
    mask[0, 0] = mask[7, 7] = mask[3, 2:5] = 1
    centres = many(lambda seed: geometry._random_hole_pixel(seed, tf.constant(mask)), 1000)
    found, counts = np.unique(centres.numpy(), axis=0, return_counts=True)
    np.testing.assert_array_equal(found, [[0, 0], [3, 2], [3, 3], [3, 4], [7, 7]])
    assert (np.abs(counts - 200) < 5 * np.sqrt(1000 * 0.2 * 0.8)).all(), counts


@pytest.mark.parametrize("kind", geometry.HOLE_KINDS)
def test_same_seed_draws_the_same_eagerly_and_in_tf_data(kind):
    spec = HoleSpec(kind=kind, count_max=3, min_px=4, max_px=12, brush_min_px=2, brush_max_px=6)
    masks, centres = draw_many(spec, image_size=24, count=40, run=7)
    for number in (0, 3, 39):
        seed = geometry.fold_in(tf.constant([7, 1]), tf.constant(number, tf.int64))
        mask, centre = geometry.draw_hole(seed, 24, spec)
        np.testing.assert_array_equal(mask[..., 0], masks[number])
        np.testing.assert_array_equal(centre, centres[number])
    assert len({mask.tobytes() for mask in masks}) == 40, "two numbers drew the same hole"
    others, _ = draw_many(spec, image_size=24, count=40, run=8)
    assert not {mask.tobytes() for mask in masks} & {mask.tobytes() for mask in others}, "two runs drew the same hole"


def test_numbers_and_seeds_of_any_size_draw_holes_of_their_own():
    """The number of an example outgrows 32 bits in no run, but nothing would break if it did."""
    spec = HoleSpec(min_px=4, max_px=12)
    seeds = [
        geometry.fold_in(tf.constant([0, 1]), tf.constant(n, tf.int64)) for n in (0, 1, 2**31, 2**32, 2**32 + 1, 2**62)
    ]
    seeds += [geometry.fold_in(tf.constant([run, 1]), tf.constant(0, tf.int64)) for run in (1, -1, 2**31 - 1)]
    masks = {geometry.draw_hole(seed, 32, spec)[0].numpy().tobytes() for seed in seeds}
    assert len(masks) == len(seeds)


def test_mix_makes_random_bits_of_counters():
    seeds = tf.stack([tf.range(256) // 16, tf.range(256) % 16], axis=1)
    mixed = tf.stack([geometry.mix(seed) for seed in seeds]).numpy()
    assert mixed.shape == (256, 2) and mixed.dtype == np.int64
    bits = (mixed[..., None] >> np.arange(64)) & 1
    assert (np.abs(bits.sum(0) - 128) < 5 * np.sqrt(256 / 4)).all()


def test_integers_reach_both_ends_and_keep_between_them():
    low, high = np.array([-2, 0, 5, 7]), np.array([1, 0, 6, 300])
    drawn = many(lambda seed: geometry.integers(seed, [4], tf.constant(low), tf.constant(high)), 50).numpy()
    assert drawn.dtype == np.int32
    assert (drawn >= low).all() and (drawn <= high).all()
    assert [set(drawn[:, i]) for i in range(3)] == [{-2, -1, 0, 1}, {0}, {5, 6}]


def test_unknown_kind_of_hole():
    with pytest.raises(ValueError, match="'circle'; known: rectangle, blob"):
        geometry.draw_hole(tf.constant([0, 0]), 16, HoleSpec(kind="circle"))


@pytest.mark.parametrize(("image_size", "patch_size"), [(16, 8), (16, 7), (15, 8), (15, 5), (9, 9), (8, 1)])
def test_patch_is_centred_and_clamped_to_the_image(image_size, patch_size):
    centres = np.stack(np.meshgrid(range(image_size), range(image_size), indexing="ij"), axis=-1)
    origin = geometry.patch_origin(tf.constant(centres, tf.int32), image_size, patch_size).numpy()
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
    origin = geometry.patch_origin(tf.constant(centres), 16, max_px).numpy()
    for mask, (top, left) in zip(masks, origin, strict=True):
        assert mask[top : top + max_px, left : left + max_px].sum() == mask.sum()


def test_local_patch_equals_slicing_and_passes_gradients_back():
    rng = np.random.default_rng(0)
    images = rng.random([5, 10, 12, 3], np.float32)
    origin = np.array([[0, 0], [6, 8], [0, 8], [6, 0], [2, 3]])  # four corners and the middle
    upstream = rng.random([5, 4, 4, 3], np.float32)

    @tf.function(autograph=False)
    def cut(images, origin):
        with tf.GradientTape() as tape:
            tape.watch(images)
            patches = geometry.local_patch(images, origin, 4)
            total = tf.reduce_sum(patches * upstream)
        return patches, tape.gradient(total, images)

    patches, gradient = cut(tf.constant(images), tf.constant(origin, tf.int32))
    expected = np.zeros_like(images)
    for i, (y, x) in enumerate(origin):
        np.testing.assert_array_equal(patches[i], images[i, y : y + 4, x : x + 4])
        expected[i, y : y + 4, x : x + 4] = upstream[i]
    np.testing.assert_array_equal(tf.convert_to_tensor(gradient), expected)


def test_composite_keeps_known_pixels_bit_for_bit():
    rng = np.random.default_rng(0)
    images, completed = rng.random([2, 3, 16, 16, 3], np.float32)
    images[0] = np.round(images[0] * 255) / np.float32(255)
    mask = (rng.random([3, 16, 16, 1]) < 0.5).astype(np.float32)
    result = geometry.composite(tf.constant(completed), tf.constant(images), tf.constant(mask)).numpy()
    np.testing.assert_array_equal(result, np.where(mask == 1, completed, images))
