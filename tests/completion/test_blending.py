"""blending: the Poisson equation in the hole and nowhere else, as OpenCV's seamlessClone has it for a rectangle."""

import tracemalloc

import cv2
import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import skimage

from glcic_tf.completion.blending import BAND_PX, poisson

SIZE = (70, 90)


def photo(height=SIZE[0], width=SIZE[1], channels=3, dtype=np.uint8):
    """A part of a real photo."""
    image = cv2.resize(skimage.data.chelsea(), (width, height), interpolation=cv2.INTER_AREA)
    image = np.dstack([image, np.roll(image[..., :1], 7, axis=1)])[..., :channels]
    return (image / 255).astype(dtype) if dtype == np.float32 else image.astype(dtype) * (np.iinfo(dtype).max // 255)


def smooth_photo(height=SIZE[0], width=SIZE[1], channels=3):
    """Slopes and waves, different in each channel, of less than a grey level from pixel to pixel."""
    y, x = np.mgrid[:height, :width]
    waves = [128 + 0.2 * y - 0.1 * x + 5 * np.sin((x + (c + 1) * y) / 30 + c) for c in range(channels)]
    return np.rint(np.dstack(waves)).astype(np.uint8)


def rectangles(*boxes, size=SIZE):
    hole = np.zeros(size, bool)
    for top, left, bottom, right in boxes:
        hole[top:bottom, left:right] = True
    return hole


def other_content(image, hole, seed=0):
    """The image with something else in the hole: waves and noise, as arbitrary as a network's output."""
    rng, completed, top = np.random.default_rng(seed), image.copy(), image.max()
    y, x = np.nonzero(hole)
    waves = 0.5 + 0.2 * np.sin(y / 5)[:, None] + 0.1 * np.cos(x / 3)[:, None] + rng.uniform(-0.1, 0.1, (len(y), 1))
    completed[hole] = waves * top
    return completed


def reference(image, completed, hole):
    """The same equation, written down pixel by pixel and solved at once: float [height, width, channels] in [0, 1].

    For float images alone. Fast marching is done for the whole image here.
    """
    height, width, channels = image.shape
    known = np.where(hole[..., None], 0, image)
    marched = np.dstack(
        [
            cv2.inpaint(np.rint(c * 65535).astype(np.uint16), hole.astype(np.uint8), 1, cv2.INPAINT_TELEA)
            for c in np.moveaxis(known, 2, 0)
        ]
    ).astype(float)
    marched /= 65535
    ys, xs = np.mgrid[:height, :width]
    distance = np.full(hole.shape, np.inf)  # in px, along rows, columns or diagonals, to the nearest known pixel
    for y, x in np.argwhere(~hole):
        distance = np.minimum(distance, np.maximum(abs(ys - y), abs(xs - x)))

    def is_border(y, x):
        beside = ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1))
        return any(0 <= v < height and 0 <= u < width and not hole[v, u] for v, u in beside)

    unknowns = [(y, x) for y, x in np.argwhere(hole) if not is_border(y, x)]
    number = {place: i for i, place in enumerate(unknowns)}
    result = marched.copy()
    if not unknowns:
        return result
    matrix, right_side = scipy.sparse.lil_array((len(unknowns), len(unknowns))), np.zeros((len(unknowns), channels))
    for (y, x), i in number.items():
        for v, u in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
            if not (0 <= v < height and 0 <= u < width):
                continue
            matrix[i, i] += 1
            source = completed if distance[min(y, v), min(x, u)] > BAND_PX else marched
            right_side[i] += source[y, x] - source[v, u]
            if (v, u) in number:
                matrix[i, number[v, u]] = -1
            else:
                right_side[i] += marched[v, u]
    solved = scipy.sparse.linalg.spsolve(matrix.tocsc(), right_side)
    for place, value in zip(unknowns, solved.reshape(len(unknowns), channels), strict=True):
        result[place] = value
    return result


def seamless_clone(image, completed, hole, shift=0):
    """The authors' way, with OpenCV, for one rectangle inside the image; `shift` moves the paste by so many px."""
    ys, xs = np.nonzero(hole)
    height, width = np.ptp(ys) + 1, np.ptp(xs) + 1
    mask, marched = hole.astype(np.uint8) * 255, np.empty_like(image)
    for c in range(3):  # in 16 bit: in 8, OpenCV's fast marching is off by up to two grey levels
        known = np.where(hole, 0, image[..., c]).astype(np.uint16) * 257
        marched[..., c] = np.rint(cv2.inpaint(known, mask, 1, cv2.INPAINT_TELEA) / 257)
    centre = (int(xs.min() + width // 2) + shift, int(ys.min() + height // 2))
    return cv2.seamlessClone(completed, marched, mask, centre, cv2.NORMAL_CLONE)


def ring(size=SIZE):
    y, x = np.mgrid[: size[0], : size[1]]
    distance = np.hypot(y - size[0] // 2, x - size[1] // 2)
    return (distance < 30) & (distance > 12)


def diagonal(size=SIZE):
    return np.eye(*size, dtype=bool)


def all_but_one(size=SIZE):
    hole = np.ones(size, bool)
    hole[size[0] // 3, size[1] // 2] = False
    return hole


HOLES = {
    "middle": rectangles((20, 30, 50, 61)),
    "top": rectangles((0, 30, 21, 60)),
    "bottom": rectangles((48, 30, 70, 60)),
    "left": rectangles((20, 0, 50, 25)),
    "right": rectangles((20, 66, 50, 90)),
    "corners": rectangles((0, 0, 20, 21), (0, 75, 22, 90), (50, 0, 70, 30), (45, 70, 70, 90)),
    "across": rectangles((30, 0, 50, 90)),
    "half": rectangles((0, 0, 70, 45)),
    "several": rectangles((5, 5, 25, 20), (5, 22, 25, 40), (40, 50, 60, 80), (26, 41, 39, 49)),
    "one_pixel": rectangles((33, 44, 34, 45)),
    "corner_pixels": rectangles((0, 0, 1, 1), (69, 89, 70, 90), (0, 89, 1, 90), (69, 0, 70, 1)),
    "lines": rectangles((33, 0, 34, 90), (0, 44, 70, 45)),
    "thin_lines": rectangles((10, 5, 12, 85), (20, 5, 25, 85), (40, 5, 46, 85), (55, 5, 62, 85)),
    "diagonal": diagonal(),
    "specks": np.random.default_rng(0).random(SIZE) < 0.02,
    "scattered": np.random.default_rng(1).random(SIZE) < 0.7,
    "ring": ring(),
    "all_but_one": all_but_one(),
    "all_but_a_corner": ~rectangles((0, 0, 1, 1)),
}


@pytest.mark.parametrize("box", [(20, 30, 50, 60), (20, 30, 51, 61), (1, 1, 69, 40), (30, 8, 39, 80), (9, 9, 12, 14)])
def test_rectangle_equals_seamless_clone(box):
    image, hole = photo(), rectangles(box)
    completed = other_content(image, hole)
    expected = seamless_clone(image, completed, hole)
    result = poisson(image, completed, hole)
    assert np.abs(result[hole].astype(int) - expected[hole]).max() <= 1  # it cuts decimals off, we round
    if min(box[2] - box[0], box[3] - box[1]) <= 2 * BAND_PX:
        return  # the band is all there is
    shifted = seamless_clone(image, completed, hole, shift=1)
    assert np.abs(result[hole].astype(int) - shifted[hole]).max() > 10  # this comparison sees a shift by a pixel


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("hole", HOLES.values(), ids=HOLES)
def test_solves_the_poisson_equation_of_the_hole(hole, channels):
    image = photo(channels=channels, dtype=np.float32)
    completed = other_content(image, hole)
    expected = np.clip(reference(image, completed, hole), 0, 1)
    result = poisson(image, completed, hole)
    assert np.abs(result[hole] - expected[hole]).max() * 255 < 0.05


def test_a_thick_hole_of_many_levels_is_solved():
    size = (150, 210)
    hole = cv2.circle(np.zeros(size, np.uint8), (110, 70), 65, 1, -1).astype(bool) & ~rectangles(
        (40, 90, 43, 93), size=size
    )
    image = photo(*size, dtype=np.float32)
    completed = other_content(image, hole)
    expected = np.clip(reference(image, completed, hole), 0, 1)
    assert np.abs(poisson(image, completed, hole)[hole] - expected[hole]).max() * 255 < 0.05


def test_truth_comes_back():
    """Where the completion is right, so is the blend: nothing is moved by a pixel."""
    image, hole = smooth_photo(), HOLES["middle"]
    assert np.abs(poisson(image, image, hole).astype(int) - image)[hole].max() <= 2
    texture = np.random.default_rng(0).integers(-60, 60, (22, 23, 3))  # well inside the hole
    image[24:46, 34:57] += texture.astype(np.uint8)  # wraps around as a subtraction does; far from 0 and 255
    assert np.abs(poisson(image, image, hole).astype(int) - image)[hole].max() <= 2
    moved = np.where(hole[..., None], np.roll(image, 1, axis=1), image)
    assert np.abs(poisson(image, moved, hole).astype(int) - image)[hole].max() > 50


@pytest.mark.parametrize("place", ["middle", "top", "bottom", "left", "right", "corners", "across", "half", "ring"])
@pytest.mark.parametrize("offset", [-40, 40])
def test_an_offset_of_the_completion_is_removed(place, offset):
    """In the middle as at the edges of the image, where no frame may stay."""
    image, hole = smooth_photo(), HOLES[place]
    completed = image.copy()
    completed[hole] += np.array(offset).astype(np.uint8)  # wraps around as a subtraction does; far from 0 and 255
    assert np.abs(completed.astype(int) - image)[hole].min() == 40
    result = poisson(image, completed, hole).astype(int)
    assert np.abs(result - image)[hole].max() <= 4
    assert np.abs(result - image)[hole].mean() <= 2


def test_the_edge_of_the_image_leaves_no_frame():
    """At the edge of the image the completion stays as it is, whatever fast marching gives there."""
    image, hole = photo(dtype=np.float32), HOLES["left"]
    completed = image.copy()
    completed[hole] = np.random.default_rng(0).uniform(0.3, 0.7, (hole.sum(), 3))
    change = poisson(image, completed, hole) - completed
    assert np.abs(change[30:40, 0] - change[30:40, 1]).max() * 255 < 2


AWKWARD_SIZES = [(1, 2), (1, 7), (7, 1), (2, 2), (3, 5), (40, 9), (257, 33)]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", AWKWARD_SIZES)
def test_size_depth_channels_and_known_pixels_stay(size, channels, dtype):
    image, rng = photo(*size, channels, dtype), np.random.default_rng(0)
    for share in (0.1, 0.5, 0.9):
        hole = rng.random(size) < share
        hole.flat[0], hole.flat[-1] = True, False
        completed = image.copy()
        completed[hole] = rng.random((hole.sum(), channels)) * (1 if dtype == np.float32 else np.iinfo(dtype).max)
        before = image.copy(), completed.copy(), hole.copy()
        result = poisson(image, completed, hole)
        assert result.shape == image.shape and result.dtype == image.dtype
        np.testing.assert_array_equal(result[~hole], image[~hole])
        np.testing.assert_array_equal(result[..., 3:], completed[..., 3:])  # alpha
        assert np.isfinite(result).all() and result.min() >= 0 and (dtype != np.float32 or result.max() <= 1)
        for array, copy in zip((image, completed, hole), before, strict=True):
            np.testing.assert_array_equal(array, copy)
            assert not np.shares_memory(result, array)


@pytest.mark.parametrize("hole", HOLES.values(), ids=HOLES)
def test_what_stands_in_the_hole_of_the_image_does_not_count(hole):
    image = photo(dtype=np.float32)
    completed, other = other_content(image, hole), image.copy()
    other[hole] = np.nan
    np.testing.assert_array_equal(poisson(other, completed, hole), poisson(image, completed, hole))


def test_depth_is_used():
    """8, 16 bit and float differ by their own rounding alone."""
    hole = HOLES["several"]
    image = photo(dtype=np.float32)
    completed = other_content(image, hole)
    exact = poisson(image, completed, hole)[hole].astype(float)
    for dtype in (np.uint8, np.uint16):
        top = np.iinfo(dtype).max
        arrays = [np.rint(a.astype(float) * top).astype(dtype) for a in (image, completed)]
        assert np.abs(poisson(*arrays, hole)[hole] / top - exact).max() < 1.6 / top + 1e-5
    shallow = poisson(*(np.rint(a * 255).astype(np.uint8) for a in (image, completed)), hole)[hole]
    assert np.abs(shallow / 255.0 - exact).max() > 0.4 / 255


def test_grey_is_as_three_equal_channels():
    image, hole = photo(channels=1), HOLES["ring"]
    completed = other_content(image, hole)
    colour = poisson(image.repeat(3, axis=2), completed.repeat(3, axis=2), hole)
    np.testing.assert_array_equal(poisson(image, completed, hole).repeat(3, axis=2), colour)


def test_holes_that_do_not_touch_are_independent():
    image, hole = photo(dtype=np.float32), HOLES["corners"]
    completed = other_content(image, hole)
    together = poisson(image, completed, hole)
    for box in ((0, 0, 20, 21), (45, 70, 70, 90)):
        alone = rectangles(box)
        result = poisson(image, np.where(alone[..., None], completed, image), alone)
        assert np.abs(result - together)[alone].max() * 255 < 0.05


@pytest.mark.parametrize("offset", [(0, 180), (201, 0), (223, 230)])
def test_the_place_in_the_image_does_not_count(offset):
    """Fast marching goes block by block: where the blocks meet must not show."""
    image = photo(dtype=np.float32)
    hole = (HOLES["several"] | HOLES["lines"] | HOLES["diagonal"] | ring()) & rectangles((3, 3, 67, 87))
    completed = other_content(image, hole)
    expected = poisson(image, completed, hole)
    padding = ((offset[0], 0), (offset[1], 0))
    wide = [np.pad(a, (*padding, (0, 0)), mode="edge") for a in (image, completed)]
    result = poisson(*wide, np.pad(hole, padding))[offset[0] :, offset[1] :]
    assert np.abs(result - expected).max() * 255 < 0.05


def test_memory_follows_the_hole():
    """A scratch across a large photo takes no array of the photo's size but the result."""
    side = 3000
    image, hole = np.full((side, side, 1), 100, np.uint8), np.zeros((side, side), bool)
    np.fill_diagonal(hole, True)
    completed = image.copy()
    completed[hole] = 200
    tracemalloc.start()
    try:
        result = poisson(image, completed, hole)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (result == 100).all()
    assert peak < 1.5 * result.nbytes


@pytest.mark.parametrize("size", [SIZE, (1, 1)])
@pytest.mark.parametrize("filled", [False, True], ids=["no_hole", "nothing_known"])
def test_without_anything_to_blend_a_copy_is_returned(filled, size):
    image, hole = photo(*size), np.full(size, filled)
    completed = other_content(image, hole)
    result = poisson(image, completed, hole)
    np.testing.assert_array_equal(result, completed)
    assert not np.shares_memory(result, completed)


@pytest.mark.parametrize(
    ("image", "completed", "hole"),
    [
        (photo(), photo(channels=4), HOLES["middle"]),
        (photo(), photo(dtype=np.uint16), HOLES["middle"]),
        (photo(), photo(), HOLES["middle"][1:]),
        (photo(), photo(), HOLES["middle"].astype(np.uint8)),
        (photo()[..., 0], photo()[..., 0], HOLES["middle"]),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(image, completed, hole):
    with pytest.raises(ValueError, match="expected"):
        poisson(image, completed, hole)
