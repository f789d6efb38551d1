import numpy as np
import pytest
from skimage import data

from glcic_tf import metrics


def photo():
    return data.coffee()[40:200, 100:300]


def hole(shape, top=30, left=50, height=40, width=60):
    mask = np.zeros(shape[:2], bool)
    mask[top : top + height, left : left + width] = True
    return mask


def ssim_by_hand(a, b):
    """SSIM of Wang et al. (2004) from its formula: explicit 11 x 11 Gaussian, `valid` windows, mean over channels."""
    offsets = np.arange(11) - 5
    line = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(line, line)
    window /= window.sum()

    def blur(x):
        return np.einsum("yxij,ij->yx", np.lib.stride_tricks.sliding_window_view(x, (11, 11)), window)

    values = []
    for x, y in zip(np.moveaxis(a, -1, 0), np.moveaxis(b, -1, 0), strict=True):
        mean_x, mean_y = blur(x), blur(y)
        var_x, var_y, cov = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2, blur(x * y) - mean_x * mean_y
        numerator = (2 * mean_x * mean_y + 0.01**2) * (2 * cov + 0.03**2)
        values.append((numerator / ((mean_x**2 + mean_y**2 + 0.01**2) * (var_x + var_y + 0.03**2))).mean())
    return np.mean(values)


def test_known_offset():
    """0.1 too bright in a hole of 1/8 of the image: l1 10, 20 dB in the hole, 10 log10 8 = 9.03 dB more over all."""
    original = np.full((80, 160, 3), 0.5)
    mask = hole(original.shape, height=40, width=40)
    completed = original + 0.1 * mask[..., None]
    assert metrics.l1_in_hole(original, completed, mask) == pytest.approx(10)
    assert metrics.psnr_in_hole(original, completed, mask) == pytest.approx(20)
    assert metrics.psnr(original, completed) == pytest.approx(20 + 10 * np.log10(8))


def test_known_offset_of_one_channel_in_grey_levels():
    original = np.full((60, 60, 3), 100, np.uint8)
    mask = hole(original.shape, top=0, left=10, height=20, width=30)
    completed = original.copy()
    completed[mask, 1] -= 51  # a fifth of the range, in one channel of three
    assert metrics.l1_in_hole(original, completed, mask) == pytest.approx(100 * 0.2 / 3)
    assert metrics.psnr_in_hole(original, completed, mask) == pytest.approx(-10 * np.log10(0.04 / 3))
    assert metrics.psnr(original, completed) == pytest.approx(-10 * np.log10(0.04 / 3 * 600 / 3600))


def test_known_noise():
    """Gaussian noise of sigma 0.05: mean |error| sigma sqrt(2 / pi), mean square sigma^2."""
    original = np.full((400, 400, 3), 0.5)
    noisy = original + np.random.default_rng(1).normal(0, 0.05, original.shape)
    everywhere = np.ones((400, 400), bool)
    assert metrics.l1_in_hole(original, noisy, everywhere) == pytest.approx(5 * np.sqrt(2 / np.pi), rel=0.01)
    assert metrics.psnr_in_hole(original, noisy, everywhere) == pytest.approx(-20 * np.log10(0.05), abs=0.05)
    assert metrics.psnr(original, noisy) == metrics.psnr_in_hole(original, noisy, everywhere)


def test_what_lies_outside_the_hole_counts_only_for_the_whole_image():
    original = photo()
    mask = hole(original.shape)
    completed = np.where(mask[..., None], original, 0).astype(np.uint8)
    assert metrics.l1_in_hole(original, completed, mask) == 0
    assert metrics.psnr_in_hole(original, completed, mask) == np.inf
    assert metrics.psnr(original, completed) < 10


def test_perfect_completion():
    original = photo()
    scores = metrics.all_metrics(original, original.copy(), hole(original.shape))
    assert scores == {"l1": 0, "psnr_hole": np.inf, "psnr": np.inf, "ssim": pytest.approx(1)}


def test_ssim_equals_its_formula():
    original = photo()
    rng = np.random.default_rng(2)
    completed = np.clip(original + rng.normal(0, 25, original.shape), 0, 255).astype(np.uint8)
    completed[hole(original.shape)] = 128
    expected = ssim_by_hand(original / 255, completed / 255)
    assert 0.2 < expected < 0.8
    assert metrics.ssim(original, completed) == pytest.approx(expected, abs=1e-6)


def test_ssim_of_flat_images_is_its_luminance_term():
    dark, bright = np.full((2, 11, 11, 3), [[[[0.2]]], [[[0.6]]]])
    assert metrics.ssim(dark, bright) == pytest.approx((2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4))


def test_8_bit_and_float_agree():
    original = photo()
    completed = np.flip(original, 1)
    mask = hole(original.shape)
    as_float = metrics.all_metrics((original / 255).astype(np.float32), (completed / 255).astype(np.float64), mask)
    assert metrics.all_metrics(original, completed, mask.astype(np.uint8) * 255) == pytest.approx(as_float, abs=1e-5)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((8, 8, 3), (8, 9, 3), (8, 8)), "one size"),
        (((8, 8), (8, 8), (8, 8)), r"\[height, width, 3\]"),
        (((8, 8, 3), (8, 8, 3), (8, 8, 1)), r"mask has to be \[height, width\]"),
        (((8, 8, 3), (8, 8, 3), (8, 8)), "no hole"),
    ],
)
def test_what_does_not_fit_is_refused(shapes, message):
    original, completed, mask = (np.zeros(shape) for shape in shapes)
    with pytest.raises(ValueError, match=message):
        metrics.l1_in_hole(original, completed, mask)


def test_16_bit_is_refused():
    with pytest.raises(ValueError, match="uint16"):
        metrics.psnr(np.zeros((8, 8, 3), np.uint16), np.zeros((8, 8, 3)))


def test_ssim_of_an_image_smaller_than_its_window_is_refused():
    with pytest.raises(ValueError, match="11 px"):
        metrics.ssim(np.zeros((10, 40, 3)), np.zeros((10, 40, 3)))
