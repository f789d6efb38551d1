"""Methods without learning: what all of them promise, and what sets each one apart."""

import pickle
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from glcic_tf.evaluation import baselines
from glcic_tf.evaluation.baselines import METHODS

PATCH_BASED = ("shift_map", "patch_match")


def photo(height, width, y=100, x=150):
    return data.coffee()[y : y + height, x : x + width].copy()


def rectangle(shape, top, left, height, width):
    hole = np.zeros(shape, bool)
    hole[top : top + height, left : left + width] = True
    return hole


def psnr(original, completed, hole):
    return 10 * np.log10(255**2 / np.mean((original[hole].astype(float) - completed[hole]) ** 2))


HOLES = {
    "one pixel": rectangle((33, 47), 16, 20, 1, 1),
    "corner pixel": rectangle((33, 47), 0, 46, 1, 1),
    "corner": rectangle((33, 47), 0, 0, 12, 20),
    "edge row": rectangle((33, 47), 32, 0, 1, 47),
    "upper part": rectangle((33, 47), 0, 0, 25, 47),
    "several": rectangle((33, 47), 3, 4, 7, 9) | rectangle((33, 47), 20, 30, 8, 17) | rectangle((33, 47), 30, 2, 1, 1),
    "pixels": np.random.default_rng(0).random((33, 47)) < 0.5,
    "all but one": ~rectangle((33, 47), 5, 6, 1, 1),
    "no whole patch known": np.indices((33, 47)).sum(0) % 4 > 0,
}


def complete(method, image, hole):
    """Completed image; None where shift_map says that no shifted copy of the known part reaches most of the hole."""
    try:
        return method(image, hole)
    except RuntimeError as error:
        assert str(error).startswith("shift_map failed on ") and "no shifted copy" in str(error)
        assert hole.mean() > 0.5 or min(hole.shape) < 16  # px
        return None


@pytest.fixture(params=METHODS)
def method(request):
    return METHODS[request.param]


def test_names():
    assert list(METHODS) == ["telea", "navier_stokes", "biharmonic", "shift_map", "patch_match", "mean_colour"]
    assert all(method.__doc__ for method in METHODS.values())


@pytest.mark.parametrize("name", HOLES)
def test_fills_the_hole_alone_and_without_seeing_it(method, name):
    hole, image = HOLES[name], photo(33, 47)
    image[~hole] = np.maximum(image[~hole], 60)  # so that no known pixel is as dark as what the hole is blacked with
    before = image.copy()
    completed = complete(method, image, hole)
    np.testing.assert_array_equal(image, before)
    if completed is None:
        return
    assert completed.shape == image.shape and completed.dtype == np.uint8
    np.testing.assert_array_equal(completed[~hole], image[~hole])
    if method.__name__ != "biharmonic":  # which overshoots; 25: what CIE Lab may lose
        assert completed[hole].min() >= 60 - 25, "black pixels: not filled, or filled from the hole itself"

    other = np.where(hole[..., None], 255 - image, image)
    np.testing.assert_array_equal(method(other, hole), completed)


@pytest.mark.parametrize("shape", [(8, 8), (8, 61), (61, 8), (9, 13), (31, 32), (40, 71)])
def test_awkward_sizes(method, shape):
    rng = np.random.default_rng(zlib.crc32(repr(shape).encode()))
    image = rng.integers(0, 256, (*shape, 3), np.uint8)
    height, width = shape
    for hole in (
        rectangle(shape, height // 4, width // 4, height // 2, width // 2),
        rectangle(shape, 0, 0, height - 1, width),
        rng.random(shape) < 0.7,
    ):
        completed = complete(method, image, hole)
        if completed is None:
            continue
        assert completed.shape == image.shape
        np.testing.assert_array_equal(completed[~hole], image[~hole])


@pytest.mark.parametrize("name", HOLES)
def test_constant_image_stays_constant(method, name):
    image = np.full((33, 47, 3), (200, 90, 30), np.uint8)
    completed = complete(method, image, HOLES[name])
    if completed is None:
        return
    error = np.abs(completed.astype(int) - image).max()
    # OpenCV's marching rounds in each step, and 8 bit Lab cannot hold every colour
    assert error <= {"telea": 10, "shift_map": 10}.get(method.__name__, 1)


def test_same_result_whatever_went_before(method):
    hole, image = rectangle((64, 80), 20, 30, 25, 33), photo(64, 80)
    first = method(image, hole)
    cv2.setRNGSeed(12345)
    method(photo(40, 50, 0, 0), rectangle((40, 50), 5, 5, 12, 30))
    np.testing.assert_array_equal(method(image, hole), first)


def test_arrays_in_any_memory_order(method):
    hole, image = rectangle((40, 50), 10, 20, 15, 10), photo(40, 50)
    expected = method(image, hole)
    np.testing.assert_array_equal(method(np.asfortranarray(image), np.asfortranarray(hole)), expected)
    np.testing.assert_array_equal(method(image[::-1].copy()[::-1], hole[:, ::-1].copy()[:, ::-1]), expected)


def test_no_hole(method):
    image = photo(20, 30)
    completed = method(image, np.zeros((20, 30), bool))
    np.testing.assert_array_equal(completed, image)
    assert not np.shares_memory(completed, image)


@pytest.mark.parametrize(
    ("image", "hole", "message"),
    [
        (np.zeros((20, 30, 3), np.uint8), np.ones((20, 30), bool), "covers the whole image"),
        (np.zeros((20, 30), np.uint8), np.zeros((20, 30), bool), r"image: found uint8 \[20, 30\]"),
        (np.zeros((20, 30, 4), np.uint8), np.zeros((20, 30), bool), r"image: found uint8 \[20, 30, 4\]"),
        (np.zeros((20, 30, 3), np.float32), np.zeros((20, 30), bool), "image: found float32"),
        (np.zeros((7, 30, 3), np.uint8), np.zeros((7, 30), bool), "at least 8 px"),
        (np.zeros((20, 30, 3), np.uint8), np.zeros((30, 20), bool), r"hole: found bool \[30, 20\]"),
        (np.zeros((20, 30, 3), np.uint8), np.zeros((20, 30), np.uint8), r"hole: found uint8 \[20, 30\]"),
    ],
)
def test_bad_arguments(method, image, hole, message):
    with pytest.raises(ValueError, match=message):
        method(image, hole)


def test_shift_map_gives_up_where_next_to_nothing_is_known():
    hole = HOLES["all but one"]
    with pytest.raises(RuntimeError, match=r"^shift_map failed on 33 x 47 px: no shifted copy .* reaches \d+% of"):
        baselines.shift_map(photo(33, 47), hole)


def test_shift_map_fills_what_no_shift_reaches(monkeypatch):
    def sparing(lab, known, completed, algorithm):
        completed[:] = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
        completed[10:14, 12:16] = 0

    image, hole = photo(30, 40), rectangle((30, 40), 8, 9, 12, 14)
    monkeypatch.setattr(cv2.xphoto, "inpaint", sparing)
    completed = baselines.shift_map(image, hole).astype(int)
    assert np.abs(completed[10:14, 12:16].mean((0, 1)) - image[8:16, 10:18].mean((0, 1))).max() < 20
    assert np.abs(completed - image)[~rectangle((30, 40), 10, 12, 4, 4)].max() < 12


def test_failure_names_the_method(monkeypatch):
    def broken(*args):
        raise cv2.error("first line\nsecond line")

    monkeypatch.setattr(cv2, "inpaint", broken)
    monkeypatch.setattr(cv2.xphoto, "inpaint", broken)
    for name in ("telea", "navier_stokes", "shift_map"):
        with pytest.raises(RuntimeError, match=f"^{name} failed on 20 x 30 px: first line$"):
            METHODS[name](photo(20, 30), rectangle((20, 30), 5, 5, 5, 5))


def test_missing_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "patchmatch", None)
    with pytest.raises(RuntimeError, match=r"^patch_match failed.*pip install 'glcic-tf\[evaluate\]'"):
        baselines.patch_match(photo(20, 30), rectangle((20, 30), 5, 5, 5, 5))


def test_pickles(method):
    assert pickle.loads(pickle.dumps(method)) is method


def test_starts_without_tensorflow():
    code = "import sys, glcic_tf.evaluation.baselines; "
    code += "print(*{'tensorflow', 'keras', 'skimage', 'patchmatch'} & set(sys.modules))"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_biharmonic_continues_a_gradient():
    """A plane is biharmonic: diffusion of first order flattens it, this does not."""
    y, x = np.indices((40, 60))
    image = np.stack([2 * y + x, 3 * x + 10, 250 - 4 * y], -1).astype(np.uint8)
    hole = rectangle((40, 60), 12, 20, 16, 22)
    assert np.abs(baselines.biharmonic(image, hole).astype(int) - image).max() <= 1


def test_mean_colour():
    image = np.zeros((10, 10, 3), np.uint8)
    image[:5] = (10, 20, 255)
    hole = rectangle((10, 10), 0, 0, 10, 2)
    assert (baselines.mean_colour(image, hole)[hole] == (5, 10, 128)).all()  # 127.5 to the even number


def stripes():
    y, x = np.indices((96, 112))
    wave = 127 + 100 * np.sin((x + y) * 2 * np.pi / 12)
    return np.stack([wave, 255 - wave, np.full(wave.shape, 80)], -1).astype(np.uint8)


def checkerboard_on_gradient():
    y, x = np.indices((96, 112))
    board = np.where((y // 6 + x // 6) % 2, 150, 40)
    return np.stack([board + y // 4, board, board + x // 4], -1).astype(np.uint8)


@pytest.mark.parametrize("name", PATCH_BASED)
@pytest.mark.parametrize("texture", [stripes, checkerboard_on_gradient])
def test_patch_based_methods_restore_periodic_texture(name, texture):
    image, hole = texture(), rectangle((96, 112), 30, 38, 33, 37)
    diffusion = psnr(image, baselines.telea(image, hole), hole)
    assert psnr(image, METHODS[name](image, hole), hole) > diffusion + 6


@pytest.mark.parametrize("name", PATCH_BASED)
@pytest.mark.parametrize("sample", [data.brick, data.grass, data.gravel], ids=["brick", "grass", "gravel"])
def test_patch_based_methods_keep_the_contrast_of_texture(name, sample):
    """Telea blurs; what is made of patches has about as much contrast as what stood there."""
    image = np.repeat(cv2.resize(sample(), (128, 128), interpolation=cv2.INTER_AREA)[..., None], 3, 2)
    hole = rectangle((128, 128), 40, 40, 48, 48)

    def detail(values):
        return (
            np.abs(np.diff(values[40:88, 40:88, 0].astype(float))).mean()
            / np.abs(np.diff(image[40:88, 40:88, 0].astype(float))).mean()
        )

    assert detail(baselines.telea(image, hole)) < 0.5
    assert 0.6 < detail(METHODS[name](image, hole)) < 1.4


@pytest.mark.parametrize("name", PATCH_BASED)
def test_colours_come_from_known_pixels(name):
    """Reds are known, blue stands in the hole alone: the completion has no blue."""
    image = np.zeros((48, 48, 3), np.uint8)
    image[:, ::2], image[:, 1::2] = (200, 60, 60), (60, 60, 60)
    hole = rectangle((48, 48), 16, 16, 16, 16)
    image[hole] = (60, 60, 255)
    assert np.abs(METHODS[name](image, hole)[hole][:, 1:].astype(int) - 60).max() <= 3
