"""windows: every hole pixel gets all of its surroundings, for no more area than needed."""

import numpy as np
import pytest

from glcic_tf.completion import windows
from glcic_tf.networks import MARGIN_PX, STRIDE


def rectangles(shape, *boxes):
    hole = np.zeros(shape, bool)
    for top, left, bottom, right in boxes:
        hole[top:bottom, left:right] = True
    return hole


def area(planned):
    return sum((bottom - top) * (right - left) for _, (top, left, bottom, right) in planned)


@pytest.mark.parametrize("shape", [(1, 1), (5, 300), (64, 64), (700, 1001), (1500, 1200)])
@pytest.mark.parametrize("count", [1, 2, 5, 40])
def test_every_hole_pixel_is_in_a_box_with_all_its_surroundings(shape, count):
    rng, (height, width) = np.random.default_rng(count), shape
    hole = np.zeros(shape, bool)
    for y, x in zip(rng.integers(0, height, count), rng.integers(0, width, count), strict=True):
        hole[y : y + rng.integers(1, 90), x : x + rng.integers(1, 90)] = True
    covered = np.zeros_like(hole)
    for (top, left, bottom, right), window in windows.plan(hole):
        covered[top:bottom, left:right] = True
        assert all(side % STRIDE == 0 and side >= 0 for side in window)
        assert window[0] == 0 or window[0] <= top - MARGIN_PX
        assert window[1] == 0 or window[1] <= left - MARGIN_PX
        assert window[2] >= min(height, bottom + MARGIN_PX) and window[2] < height + STRIDE
        assert window[3] >= min(width, right + MARGIN_PX) and window[3] < width + STRIDE
    assert covered[hole].all()


def test_no_hole_no_window():
    assert windows.plan(np.zeros((100, 100), bool)) == []


def test_sides_are_few():
    """A window has a multiple of the bucket's size, or all of the image."""
    for top, left, side in ((0, 0, 7), (300, 401, 50), (900, 950, 49), (500, 3, 121), (963, 1001, 36)):
        ((_, window),) = windows.plan(rectangles((1000, 1100), (top, left, top + side, left + side)))
        assert (window[2] - window[0]) % windows.BUCKET_PX == 0 and (window[3] - window[1]) % windows.BUCKET_PX == 0
    ((_, window),) = windows.plan(rectangles((203, 1100), (30, 500, 60, 560)))
    assert window[:1] + window[2:3] == (0, 204) and (window[3] - window[1]) % windows.BUCKET_PX == 0


def test_near_holes_share_a_window_and_far_ones_do_not():
    far = [(40, 60, 80, 100), (1700, 1780, 1740, 1830)]
    assert sorted(box for box, _ in windows.plan(rectangles((2000, 2000), *far))) == far
    near = rectangles((2000, 2000), (300, 300, 340, 340), (300, 420, 345, 430))
    assert [box for box, _ in windows.plan(near)] == [(300, 300, 345, 430)]
    # Two windows of 352 x 352 px each or one of 352 x 704: the one costs no more. A little further apart, it does.
    assert len(windows.plan(rectangles((2000, 2000), (800, 800, 840, 840), (800, 1152, 840, 1192)))) == 1
    assert len(windows.plan(rectangles((2000, 2000), (800, 800, 840, 840), (800, 1156, 840, 1196)))) == 2


def test_a_long_scratch_costs_by_its_length():
    """Cut into parts; a box around all of it would cost by the square of its length."""
    size = 3000
    hole = np.zeros((size, size), bool)
    y, x = np.arange(200, 2800), np.arange(200, 2800)
    for offset in range(4):
        hole[y, x + offset] = True
    covered = np.zeros_like(hole)
    for (top, left, bottom, right), _ in (planned := windows.plan(hole)):
        covered[top:bottom, left:right] = True
    assert covered[hole].all()
    assert area(planned) < 0.6 * 2600**2
    assert all(area([job]) <= windows.MAX_PASS_PX for job in planned)


def test_no_window_is_larger_than_a_pass():
    planned = windows.plan(rectangles((3000, 4000), (100, 150, 2900, 3900)))
    assert all(area([job]) <= windows.MAX_PASS_PX for job in planned)
    assert area(planned) < 4 * 2800 * 3750


def test_batches_hold_windows_of_one_size():
    boxes = [(50 + 400 * i, 50 + 450 * j, 60 + 400 * i, 60 + 450 * j) for i in range(4) for j in range(4)]
    planned = windows.plan(rectangles((2000, 2000), *boxes, (1700, 100, 1800, 300), (1750, 1200, 1800, 1600)))
    grouped = list(windows.batches(planned))
    assert sorted(job for batch in grouped for job in batch) == sorted(planned)
    assert any(len(batch) > 1 for batch in grouped)
    for batch in grouped:
        assert len({(bottom - top, right - left) for _, (top, left, bottom, right) in batch}) == 1
        assert len(batch) == 1 or area(batch) <= windows.MAX_PASS_PX
