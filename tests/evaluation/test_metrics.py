import numpy as np
import pytest
from skimage import data
from skimage.filters import gaussian

from glcic_tf.evaluation import metrics


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
    assert metrics.psnr_in_hole(original, completed, mask) == metrics.PSNR_CAP_DB == 99
    assert metrics.psnr(original, completed) < 10


def test_perfect_completion():
    original = photo()
    scores = metrics.all_metrics(original, original.copy(), hole(original.shape))
    perfect = {"l1": 0, "psnr_hole": 99, "psnr": 99, "ssim": pytest.approx(1), "seam": 1, "sharpness": 1}
    assert scores == perfect


def test_psnr_is_capped_above_what_8_bits_reach_and_not_below():
    """One grey level of one pixel in one channel: 20 log10 255 dB and the share of the values it is."""
    original = np.full((40, 40, 3), 100, np.uint8)
    completed = original.copy()
    completed[20, 20, 1] = 101
    assert metrics.psnr(original, completed) == pytest.approx(20 * np.log10(255) + 10 * np.log10(4800))  # 84.9 dB
    large = np.zeros((300, 400, 3))
    barely_off = large.copy()
    barely_off[0, 0, 0] = 1 / 255  # 103.7 dB
    assert metrics.psnr(large, barely_off) == metrics.PSNR_CAP_DB


def ramp(shape, per_px=0.01):
    """Brightness rises by `per_px` from column to column."""
    return np.broadcast_to(per_px * np.arange(shape[1])[None, :, None], (*shape, 3)).copy()


def ratios_by_hand(original, completed, mask):
    """Seam and sharpness by a loop over all pairs of neighbours, from their definitions."""
    border, inside = [], []
    height, width = mask.shape
    for y in range(height):
        for x in range(width):
            for to_y, to_x in ((y + 1, x), (y, x + 1)):
                if to_y == height or to_x == width or not (mask[y, x] or mask[to_y, to_x]):
                    continue
                steps = [image[to_y, to_x] / 255 - image[y, x] / 255 for image in (completed, original)]
                (inside if mask[y, x] and mask[to_y, to_x] else border).append(steps)
    border, inside = np.abs(border).mean((0, 2)), np.square(inside).mean((0, 2))
    return border[0] / border[1], inside[0] / inside[1]


def test_seam_and_sharpness_equal_their_definitions():
    original = photo()[20:60, 30:80]
    mask = np.random.default_rng(0).random(original.shape[:2]) < 0.4  # holes of every shape, at the image's border too
    completed = np.where(mask[..., None], np.flip(original, 1), original)
    seam, sharpness = ratios_by_hand(original, completed, mask)
    assert metrics.seam(original, completed, mask) == pytest.approx(seam)
    assert metrics.sharpness(original, completed, mask) == pytest.approx(sharpness)


def test_known_step_at_the_border():
    """On a ramp of 0.01 per column a hole of 20 x 40 px, 0.05 too bright.

    Its 40 vertical pairs of each of two sides are 0 and become 0.05; the 20 on the left rise from 0.01 to 0.06, the 20
    on the right fall to -0.04. The inside is the ramp as before.
    """
    original = ramp((60, 80))
    mask = hole(original.shape, top=10, left=20, height=20, width=40)
    completed = original + 0.05 * mask[..., None]
    expected = (80 * 0.05 + 20 * 0.06 + 20 * 0.04) / (40 * 0.01)
    assert 40 * 0.01 / 120 < 1 / 255  # so the original counts as one grey level
    assert metrics.seam(original, completed, mask) == pytest.approx(expected * 40 * 0.01 / 120 * 255)
    assert metrics.sharpness(original, completed, mask) == pytest.approx(1)

    steep = ramp((60, 80), 0.012)  # 0.012 * 40 / 120 is above a grey level
    completed = steep + 0.05 * mask[..., None]
    assert metrics.seam(steep, completed, mask) == pytest.approx((80 * 0.05 + 20 * 0.062 + 20 * 0.038) / (40 * 0.012))


def test_a_steeper_ramp_has_the_square_of_the_energy():
    original = ramp((40, 50))
    mask = hole(original.shape, top=5, left=5, height=30, width=30)
    assert metrics.sharpness(original, ramp((40, 50), 0.02), mask) == pytest.approx(4)


def test_noise_adds_its_energy():
    """Each difference of two pixels of independent noise has twice its variance."""
    original = ramp((300, 300), 0.03)
    mask = hole(original.shape, top=10, left=10, height=280, width=280)
    noisy = original + np.random.default_rng(3).normal(0, 0.02, original.shape)
    expected = (0.03**2 / 2 + 2 * 0.02**2) / (0.03**2 / 2)  # the ramp counts in every second pair
    assert metrics.sharpness(original, noisy, mask) == pytest.approx(expected, rel=0.01)


def test_blur_lowers_sharpness_and_a_step_raises_seam_on_a_photo():
    original = photo()
    mask = hole(original.shape)
    values = [
        metrics.sharpness(
            original, np.where(mask[..., None], gaussian(original / 255, s, channel_axis=-1), original), mask
        )
        for s in (0.5, 1, 2, 8)
    ]
    assert 1 > values[0] > values[1] > values[2] > values[3] > 0
    seams = [metrics.seam(original, (original / 255 + step * mask[..., None]), mask) for step in (0, 0.1, 0.2, 0.4)]
    assert seams[0] == 1 and seams == sorted(seams) and seams[3] > 2


def test_flat_originals_give_finite_ratios():
    original = np.full((30, 30, 3), 100, np.uint8)
    mask = hole(original.shape, top=5, left=5, height=20, width=20)
    assert metrics.seam(original, original, mask) == metrics.sharpness(original, original, mask) == 1
    completed = original.copy()
    completed[mask] = 110
    assert metrics.seam(original, completed, mask) == pytest.approx(10)  # grey levels
    assert metrics.sharpness(original, completed, mask) == 1


def test_holes_without_a_border_or_without_an_inside():
    original = photo()[:20, :20]
    everywhere = np.ones((20, 20), bool)
    assert np.isnan(metrics.seam(original, original, everywhere))
    assert metrics.sharpness(original, original, everywhere) == 1
    chequered = np.indices((20, 20)).sum(0) % 2 == 0
    assert np.isnan(metrics.sharpness(original, original, chequered))
    assert metrics.seam(original, original, chequered) == 1


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
    for metric in (metrics.l1_in_hole, metrics.psnr_in_hole, metrics.seam, metrics.sharpness):
        with pytest.raises(ValueError, match=message):
            metric(original, completed, mask)


def test_16_bit_is_refused():
    with pytest.raises(ValueError, match="uint16"):
        metrics.psnr(np.zeros((8, 8, 3), np.uint16), np.zeros((8, 8, 3)))


def test_ssim_of_an_image_smaller_than_its_window_is_refused():
    with pytest.raises(ValueError, match="11 px"):
        metrics.ssim(np.zeros((10, 40, 3)), np.zeros((10, 40, 3)))
