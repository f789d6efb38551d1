"""How close a completion is to the original, how visible the hole's border and how sharp its inside is.

These are l1 and PSNR in the hole, PSNR and SSIM over the whole composite, and seam and sharpness as ratios to the
original. The table of all metrics, METRICS, also has those of `appearance`.

All functions take 8-bit or floating-point photos of one size: `original` and `completed` [height, width, 3], each
either uint8 in [0, 255] or float in [0, 1]. `mask` is [height, width], non-zero = hole.
"""

import math
import typing

import numpy as np


class Metric(typing.NamedTuple):
    """What tables, figures and pages say about a metric.

    Attributes:
        label: heading, with the unit.
        goal: which values are good: "low", "high" or "one" (the original's); None: none of these.
        decimals: how many a mean is shown with; None: two significant digits.
        rewards: what makes a good value, in one line.
        of_set: the metric is of all photos together; single photos have none.
    """

    label: str
    goal: str | None
    decimals: int | None
    rewards: str
    of_set: bool = False


_GRID = "no regular pattern in the hole: the spectrum's peak at this period over its neighbours; photos have about 1"
# In the order of the tables. The first that was measured ranks the cases of a gallery.
METRICS = {
    "perceptual": Metric(
        "perceptual distance",
        "low",
        3,
        "content and texture of the right kind: features of EfficientNet-Lite0 around the hole, against the original's",
    ),
    "kid": Metric(
        "kid x 1000",
        "low",
        1,
        "holes that look like photos, whatever was there: the same features, all completions against all originals",
        of_set=True,
    ),
    "lpips": Metric("LPIPS", "low", 4, "the same over the composite, as published: VGG16, version 0.1"),
    "l1": Metric(
        "l1 in the hole x 100", "low", 2, "the right colours on average: a blur where the content is uncertain"
    ),
    "psnr_hole": Metric("PSNR in the hole, dB", "high", 2, "the same as l1, and a blur even more"),
    "seam": Metric(
        "seam (original: 1)", "one", 3, "a border that does not show: the step of colour across it, over the original's"
    ),
    "sharpness": Metric(
        "sharpness (original: 1)",
        "one",
        3,
        "as much detail as there was, right or wrong: the squared gradient inside the hole, over the original's",
    ),
    "grid2": Metric("grid 2 px", "one", 2, _GRID, of_set=True),
    "grid4": Metric("grid 4 px", "one", 2, _GRID, of_set=True),
    "grid8": Metric("grid 8 px", "one", 2, _GRID, of_set=True),
    "psnr": Metric("PSNR, dB", "high", 2, "the same as PSNR in the hole, and a small hole: over the composite"),
    "ssim": Metric("SSIM", "high", 3, "the right local contrast, and a small hole: over the composite"),
    "fid": Metric(
        "FID (Keras's InceptionV3)",
        "low",
        2,
        "the same as kid, over the composites; biased for few photos",
        of_set=True,
    ),
    "seconds": Metric("seconds per photo", None, None, "speed, on this machine"),
}

SSIM_WINDOW_PX = 11  # as in Wang et al. 2004, who introduced SSIM
SSIM_SIGMA_PX = 1.5
# The largest PSNR that is returned, as a perfect completion would make every mean infinite. 8-bit images of up to about
# 100,000 px reach it only if they are equal.
PSNR_CAP_DB = 99.0
# Least difference of neighbours in [0, 1] that ratios use: what 8 bits resolve. Smaller ones are rounding, and a flat
# original would make ratios infinite.
_GREY_LEVEL = 1 / 255


def l1_in_hole(original, completed, mask):
    """Mean absolute error inside the hole x 100, on values in [0, 1].

    Returns:
        float in [0, 100]; 0 is a perfect completion.

    Raises:
        ValueError: shapes or dtypes don't fit, or the mask has no hole.
    """
    difference = _difference_in_hole(original, completed, mask)
    return float(np.abs(difference).mean() * 100)


def psnr_in_hole(original, completed, mask):
    """Peak signal-to-noise ratio inside the hole: -10 log10 of the mean squared error, on values in [0, 1].

    Returns:
        float, dB, from 0 to PSNR_CAP_DB; about 16 for diffusion in a large hole; the cap for a perfect completion.

    Raises:
        ValueError: shapes or dtypes don't fit, or the mask has no hole.
    """
    return _decibels(_difference_in_hole(original, completed, mask))


def psnr(original, completed):
    """Peak signal-to-noise ratio over the whole image, known pixels included; grows as the hole shrinks.

    Returns:
        float, dB, from 0 to PSNR_CAP_DB; the cap for equal images.

    Raises:
        ValueError: shapes or dtypes don't fit.
    """
    original, completed = _as_unit_range(original, completed)
    return _decibels(completed - original)


def ssim(original, completed):
    """Structural similarity (Wang et al. 2004) over the whole image, mean of the three channels.

    Gaussian window of 11 px and sigma 1.5, K1 = 0.01, K2 = 0.03, population covariance, as in that paper.

    Returns:
        float in [-1, 1]; 1 for equal images.

    Raises:
        ValueError: shapes or dtypes don't fit, or a side is under 11 px.
    """
    original, completed = _as_unit_range(original, completed)
    if min(original.shape[:2]) < SSIM_WINDOW_PX:
        raise ValueError(f"SSIM needs sides of at least {SSIM_WINDOW_PX} px; the image is {original.shape[:2]}.")
    from skimage.metrics import structural_similarity  # here, as the import takes a second

    return float(
        structural_similarity(
            original,
            completed,
            data_range=1.0,
            channel_axis=-1,
            gaussian_weights=True,  # scikit-image's window for this sigma is SSIM_WINDOW_PX wide
            sigma=SSIM_SIGMA_PX,
            use_sample_covariance=False,
        )
    )


def seam(original, completed, mask):
    """How much more the colour jumps across the hole's border than it does in the original.

    The mean |difference| over all pairs of a hole pixel and a known pixel beside, above or below it, and over the
    channels; of the completed image, divided by that of the original. Each of the two means counts as one grey level
    (1 / 255) if it is less, so that sky and walls do not make the ratio infinite.

    Returns:
        float above 0; 1 is as in the original, above 1 a visible seam, below 1 a border smoother than it was. NaN if
        the hole has no border: it covers the image.

    Raises:
        ValueError: shapes or dtypes don't fit, or the mask has no hole.
    """
    original, completed, hole = _checked(original, completed, mask)
    down, across = hole[1:] != hole[:-1], hole[:, 1:] != hole[:, :-1]
    if not (down.any() or across.any()):
        return float("nan")
    jumps = [np.abs(_steps(image, down, across)).mean() for image in (completed, original)]
    return float(max(jumps[0], _GREY_LEVEL) / max(jumps[1], _GREY_LEVEL))


def sharpness(original, completed, mask):
    """How much detail the hole was filled with, right or wrong, relative to the original's.

    The gradient's energy: the mean squared difference over all pairs of neighbours (beside, above and below) that both
    lie in the hole, and over the channels; of the completed image, divided by that of the original. Each of the two
    counts as one grey level squared if it is less.

    Returns:
        float above 0; 1 is as much detail as in the original, near 0 a flat or blurred filling, above 1 more detail or
        noise. NaN if no two pixels of the hole are neighbours.

    Raises:
        ValueError: shapes or dtypes don't fit, or the mask has no hole.
    """
    original, completed, hole = _checked(original, completed, mask)
    down, across = hole[1:] & hole[:-1], hole[:, 1:] & hole[:, :-1]
    if not (down.any() or across.any()):
        return float("nan")
    energies = [np.square(_steps(image, down, across)).mean() for image in (completed, original)]
    return float(max(energies[0], _GREY_LEVEL**2) / max(energies[1], _GREY_LEVEL**2))


def all_metrics(original, completed, mask):
    """All metrics of one image.

    Returns:
        dict of floats with keys `l1`, `psnr_hole`, `psnr`, `ssim`, `seam` and `sharpness`; the last two may be NaN.

    Raises:
        ValueError: shapes or dtypes don't fit, the mask has no hole, or a side is under 11 px.
    """
    return {
        "l1": l1_in_hole(original, completed, mask),
        "psnr_hole": psnr_in_hole(original, completed, mask),
        "psnr": psnr(original, completed),
        "ssim": ssim(original, completed),
        "seam": seam(original, completed, mask),
        "sharpness": sharpness(original, completed, mask),
    }


def badness(metric, value):
    """Return a number that is lower for better values of a metric with a goal; the report's script does the same."""
    goal = METRICS[metric].goal
    return abs(math.log(max(value, 1e-9))) if goal == "one" else value if goal == "low" else -value


def _as_unit_range(original, completed):
    """Both as float64 in [0, 1]."""
    if original.ndim != 3 or original.shape[2] != 3 or original.shape != completed.shape:
        raise ValueError(
            f"Expected two images [height, width, 3] of one size, found {original.shape} and {completed.shape}."
        )
    for image in (original, completed):
        if image.dtype != np.uint8 and not np.issubdtype(image.dtype, np.floating):
            raise ValueError(f"Images have to be uint8 or float, not {image.dtype}.")
    return [x / 255.0 if x.dtype == np.uint8 else x.astype(np.float64) for x in (original, completed)]


def _checked(original, completed, mask):
    """Both images as float64 in [0, 1], and the hole as bool [height, width]."""
    original, completed = _as_unit_range(original, completed)
    if mask.shape != original.shape[:2]:
        raise ValueError(f"The mask has to be [height, width] of the image, {original.shape[:2]}, not {mask.shape}.")
    hole = mask != 0
    if not hole.any():
        raise ValueError("The mask has no hole.")
    return original, completed, hole


def _difference_in_hole(original, completed, mask):
    """Difference completed - original at the hole's pixels: [pixels, 3] float64."""
    original, completed, hole = _checked(original, completed, mask)
    return completed[hole] - original[hole]


def _steps(image, down, across):
    """Differences [pairs, 3] of the pairs of pixels below one another (`down`) and side by side (`across`)."""
    return np.concatenate([np.diff(image, axis=0)[down], np.diff(image, axis=1)[across]])


def _decibels(difference):
    mean_square = np.mean(np.square(difference))
    return min(float(-10 * np.log10(mean_square)), PSNR_CAP_DB) if mean_square > 0 else PSNR_CAP_DB
