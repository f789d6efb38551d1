"""How close a completion is to the original: l1 and PSNR in the hole, PSNR and SSIM over the whole composite.

All functions take 8-bit or floating-point photos of one size: `original` and `completed` [height, width, 3], uint8 in
[0, 255] or float in [0, 1], each by its own dtype. `mask` is [height, width], non-zero = hole.
"""

import numpy as np
from skimage.metrics import structural_similarity

SSIM_WINDOW_PX = 11  # of Wang et al. 2004, who introduced SSIM; sigma 1.5 cuts the Gaussian there
SSIM_SIGMA_PX = 1.5


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
        float, dB, 0 or more; about 16 for diffusion in a large hole; infinity for a perfect completion.

    Raises:
        ValueError: shapes or dtypes don't fit, or the mask has no hole.
    """
    return _decibels(_difference_in_hole(original, completed, mask))


def psnr(original, completed):
    """Peak signal-to-noise ratio over the whole image, known pixels included; grows as the hole shrinks.

    Returns:
        float, dB, 0 or more; infinity for equal images.

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


def all_metrics(original, completed, mask):
    """The four metrics of one image.

    Returns:
        dict of floats with keys `l1`, `psnr_hole`, `psnr` and `ssim`.

    Raises:
        ValueError: shapes or dtypes don't fit, the mask has no hole, or a side is under 11 px.
    """
    return {
        "l1": l1_in_hole(original, completed, mask),
        "psnr_hole": psnr_in_hole(original, completed, mask),
        "psnr": psnr(original, completed),
        "ssim": ssim(original, completed),
    }


def _as_unit_range(original, completed):
    """Both as float64 in [0, 1]."""
    if original.ndim != 3 or original.shape[2] != 3 or original.shape != completed.shape:
        raise ValueError(f"Two images [height, width, 3] of one size are needed: {original.shape}, {completed.shape}.")
    for image in (original, completed):
        if image.dtype != np.uint8 and not np.issubdtype(image.dtype, np.floating):
            raise ValueError(f"Images have to be uint8 or float, not {image.dtype}.")
    return [x / 255.0 if x.dtype == np.uint8 else x.astype(np.float64) for x in (original, completed)]


def _difference_in_hole(original, completed, mask):
    """Difference completed - original at the hole's pixels: [pixels, 3] float64."""
    original, completed = _as_unit_range(original, completed)
    if mask.shape != original.shape[:2]:
        raise ValueError(f"The mask has to be [height, width] of the image {original.shape}, not {mask.shape}.")
    hole = mask != 0
    if not hole.any():
        raise ValueError("The mask has no hole.")
    return completed[hole] - original[hole]


def _decibels(difference):
    mean_square = np.mean(np.square(difference))
    return float(-10 * np.log10(mean_square)) if mean_square > 0 else float("inf")
