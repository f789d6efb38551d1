"""Kernel distance of the completed photos to the real ones (KID; Binkowski et al. 2018, Demystifying MMD GANs).

This is the squared maximum mean discrepancy, with the kernel (x.y / features + 1)^3, between the features of completed
and of real photos: how well the completions could pass for real ones as a set, whatever was in each hole. Two
departures make it suitable for small sets of completions. The features are those of EfficientNet-Lite0 where the hole
is, instead of InceptionV3's of the whole image, most of which is known. And completed and real photos come in pairs
with the same known parts: pairs are left out of the estimate (the U-statistic of Gretton et al. 2012, equation 4),
which is then unbiased for any number of photos; if they counted, it would fall below 0 for good completions.

Figures can be compared with one another, even between sets of different sizes, but not with published KID.
"""

import numpy as np

from glcic_tf.evaluation import bootstrap

FACTOR = 1000.0
_DEGREE = 3
_BLOCK = 1000  # photos that are compared with one another; bounds time and memory, as the subsets of the paper do
_SEED = 0  # of the blocks


def distance(real, completed):
    """Estimate the kernel distance of two sets of features, with an interval.

    For more than 1,000 photos the estimate is the mean over blocks of equal size. The interval is the percentile
    bootstrap over photos; a photo that was drawn twice is not compared with itself.

    Args:
        real, completed: [photos, features]; the same row of both is of the same photo.

    Returns:
        `bootstrap.Mean`, x 1000: around 0 if the completions look like real photos, and below 0 only by chance. It is
        NaN for fewer than 2 photos, and its interval for fewer than 3.

    Raises:
        ValueError: the sets do not have the same shape.
    """
    real, completed = np.asarray(real, np.float64), np.asarray(completed, np.float64)
    if real.ndim != 2 or real.shape != completed.shape:
        raise ValueError(f"Expected two sets [photos, features], found {list(real.shape)}, {list(completed.shape)}.")
    photos = len(real)
    if photos < 2:
        return bootstrap.Mean(np.nan, np.nan, np.nan, photos)
    blocks = np.array_split(np.random.default_rng(_SEED).permutation(photos), -(-photos // _BLOCK))
    terms = [_terms(real[block], completed[block]) for block in blocks]

    def estimates(weights):
        parts = [_weighted_mean(part, weights[:, block]) for part, block in zip(terms, blocks, strict=True)]
        return FACTOR * np.mean(parts, axis=0)

    low, high = bootstrap.set_interval(photos, estimates) if photos > 2 else (np.nan, np.nan)
    return bootstrap.Mean(float(estimates(np.ones((1, photos)))[0]), float(low), float(high), photos)


def _terms(real, completed):
    """What photos i and j contribute: k(r_i, r_j) + k(c_i, c_j) - k(r_i, c_j) - k(c_i, r_j); 0 for i = j."""

    def kernel(a, b):
        return (a @ b.T / a.shape[1] + 1) ** _DEGREE

    mixed = kernel(real, completed)
    terms = kernel(real, real) + kernel(completed, completed) - mixed - mixed.T
    np.fill_diagonal(terms, 0)
    return terms


def _weighted_mean(terms, weights):
    """Weighted mean of the terms over all pairs of different photos: [draws, photos] -> [draws], NaN without any."""
    weights = weights.astype(np.float64)
    pairs = weights.sum(axis=1) ** 2 - np.square(weights).sum(axis=1)
    return np.einsum("ij,ij->i", weights @ terms, weights) / np.where(pairs > 0, pairs, np.nan)
