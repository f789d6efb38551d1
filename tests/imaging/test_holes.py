"""holes: from masks of every kind, resized, grown, measured, grouped and reduced."""

import numpy as np
import pytest

from glcic_tf.imaging import holes


def rectangles(shape, *boxes):
    hole = np.zeros(shape, bool)
    for top, left, bottom, right in boxes:
        hole[top:bottom, left:right] = True
    return hole


@pytest.mark.parametrize(
    ("dtype", "below", "half", "opaque"),
    [(np.uint8, 127, 128, 255), (np.uint16, 32767, 32768, 65535), (np.float32, 0.49, 0.5, 1)],
)
def test_alpha_below_half_is_the_hole_with_its_soft_rim(dtype, below, half, opaque):
    image = np.zeros((4, 6, 4), dtype)
    image[..., 3] = opaque
    image[1, 1, 3] = below
    image[2, 2, 3] = half  # touches it at a corner
    image[3, 3, 3] = half  # and this one touches that
    image[0, 5, 3] = half  # soft, but apart from the hole
    assert np.argwhere(holes.from_alpha(image)).tolist() == [[1, 1], [2, 2], [3, 3]]
    image[1, 1, 3] = half
    assert not holes.from_alpha(image).any()
    with pytest.raises(ValueError, match="image: has no alpha channel"):
        holes.from_alpha(image[..., :3])


def test_colours_under_full_transparency_are_unknown():
    image, hole = np.full((3, 3, 4), 255, np.uint8), rectangles((3, 3), (0, 0, 1, 1))
    assert holes.unseen(image, hole) is hole and holes.unseen(image[..., :3], hole) is hole
    image[1, 1, 3], image[2, 2, 3] = 0, 1
    assert np.argwhere(holes.unseen(image, hole)).tolist() == [[0, 0], [1, 1]]
    image[..., 3] = 0
    assert holes.unseen(image, hole) is hole  # nothing is left to complete from


def test_resize_loses_nothing_when_it_shrinks():
    for shape in ((10, 10), (7, 13), (1, 1), (33, 99)):
        for y, x in ((0, 0), (50, 61), (99, 99)):
            speck = rectangles((100, 100), (y, x, y + 1, x + 1))
            small = holes.resize(speck, shape)
            assert small.shape == shape and small.any()
            assert small[y * shape[0] // 100, x * shape[1] // 100]
    assert not holes.resize(np.zeros((50, 50), bool), (20, 10)).any()


def test_resize_enlarges_to_the_same_place():
    """All but the corners, which the interpolation rounds off."""
    enlarged = holes.resize(rectangles((10, 20), (2, 3, 6, 12)), (40, 80))
    expected = rectangles((40, 80), (8, 12, 24, 48))
    assert np.argwhere(enlarged != expected).tolist() == [[8, 12], [8, 47], [23, 12], [23, 47]]


@pytest.mark.parametrize("radius", [1, 3, 20])
def test_dilate_grows_by_a_disk(radius):
    shape = (150, 170)
    hole = rectangles(shape, (0, 0, 1, 1), (60, 70, 80, 71), (149, 169, 150, 170), (62, 100, 64, 140))
    y, x = np.argwhere(hole).T
    grid = np.mgrid[: shape[0], : shape[1]]
    distance = np.min(np.hypot(grid[0][..., None] - y, grid[1][..., None] - x), axis=-1)
    grown = holes.dilate(hole, radius)
    assert grown[distance <= radius - 0.5].all() and not grown[distance >= radius + 1].any()


def test_prepare_inverts_then_resizes_then_grows():
    mask = ~rectangles((20, 30), (4, 4, 6, 6))
    prepared = holes.prepare(mask, (40, 60), invert=True, dilate_px=2)
    assert (
        prepared.shape == (40, 60) and prepared[6, 8] and prepared[8, 6] and not prepared[5, 8] and not prepared[0, 0]
    )


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((20, 30, 60, 90), 40),
        ((20, 30, 21, 90), 2),
        ((0, 30, 40, 60), 30),
        ((0, 0, 40, 30), 60),
        ((20, 0, 90, 200), 70),
        ((0, 0, 100, 150), 300),
    ],
)
def test_thickness(box, expected):
    """At the border the hole counts as going on behind it: a corner counts twice."""
    hole = rectangles((100, 200), box)
    assert abs(holes.thickness(hole, box) - expected) <= 1


def test_groups_divide_the_hole():
    shape = (900, 1100)
    rng = np.random.default_rng(0)
    hole = np.zeros(shape, bool)
    for y, x in zip(rng.integers(0, 900, 25), rng.integers(0, 1100, 25), strict=True):
        hole[y : y + rng.integers(1, 90), x : x + rng.integers(1, 90)] = True
    times = np.zeros(shape, int)
    for (top, left, bottom, right), own in holes.groups(hole):
        assert own.shape == (bottom - top, right - left)
        assert own[0].any() and own[-1].any() and own[:, 0].any() and own[:, -1].any()
        times[top:bottom, left:right] += own
    np.testing.assert_array_equal(times, hole)


def test_far_parts_are_groups_of_their_own():
    far = [(0, 0, 10, 10), (200, 300, 260, 301), (399, 599, 400, 600)]
    assert holes.group_boxes(rectangles((400, 600), *far)) == far
    assert len(holes.group_boxes(rectangles((400, 600), (10, 10, 20, 20), (10, 30, 20, 40)))) == 1
    assert holes.groups(np.zeros((40, 60), bool)) == []


def test_reduce_averages_the_known_pixels_alone():
    rng = np.random.default_rng(0)
    image, hole = rng.random((12, 20, 3), np.float32), rng.random((12, 20)) < 0.5
    small, small_hole = holes.reduce(np.where(hole[..., None], 0, image), hole, (3, 5))
    for y in range(3):
        for x in range(5):
            block = np.s_[4 * y : 4 * y + 4, 4 * x : 4 * x + 4]
            known = ~hole[block]
            if not small_hole[y, x]:
                np.testing.assert_allclose(small[y, x], image[block][known].mean(axis=0), rtol=1e-5)
            else:
                assert (small[y, x] == 0).all()
    assert small_hole.any() and not small_hole.all()


def test_reduce_keeps_what_little_is_known():
    hole = np.ones((40, 40), bool)
    hole[17, 22] = False
    image = np.where(hole[..., None], 0, np.float32(0.25)) * np.ones(3, np.float32)
    small, small_hole = holes.reduce(image, hole, (4, 4))
    assert np.argwhere(~small_hole).tolist() == [[1, 2]]
    np.testing.assert_allclose(small[1, 2], 0.25, rtol=1e-5)
