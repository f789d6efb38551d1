"""Summaries of many images: means and figures of a set with 95 % bootstrap intervals, and means by hole area."""

import typing

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 9999
_SEED = 0  # the interval is part of the report, which is the same from run to run
_DRAWN_AT_ONCE = 2**20  # numbers; bounds the memory for many images
# Bounds of the bins of hole area, as shares of the image: a bin includes its upper bound, as those for the masks of Liu
# et al. 2018 (partial convolutions) do.
AREA_BOUNDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
AREA_BINS = ("0-10 %", "10-20 %", "20-30 %", "30-40 %", "40-50 %", "50-60 %", "over 60 %")


class Mean(typing.NamedTuple):
    """A mean, its 95 % interval and the number of images behind it; NaN where there are too few for a figure."""

    mean: float
    low: float
    high: float
    n: int


def mean_interval(values):
    """Mean with a 95 % interval: the percentile bootstrap over images, seeded.

    Args:
        values: one figure per image, [n]; NaN (the image has no such figure) is left out and not counted.

    Returns:
        `Mean`. For one image the interval is NaN, for none the mean too.

    Raises:
        ValueError: the values are not one-dimensional, or one is infinite.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1:
        raise ValueError(f"Expected one figure per image, [n], found {list(values.shape)}.")
    values = values[~np.isnan(values)]
    if np.isinf(values).any():
        raise ValueError("An infinite figure has no mean.")
    nan = float("nan")
    if len(values) < 2:
        return Mean(float(values[0]) if len(values) else nan, nan, nan, len(values))
    from scipy import stats  # here, as it takes a second to import

    interval = stats.bootstrap(
        (values,),
        np.mean,
        confidence_level=CONFIDENCE,
        n_resamples=RESAMPLES,
        batch=max(1, _DRAWN_AT_ONCE // len(values)),
        method="percentile",  # unlike BCa it is also defined for equal values
        random_state=np.random.default_rng(_SEED),
    ).confidence_interval
    return Mean(float(values.mean()), float(interval.low), float(interval.high), len(values))


def set_interval(photos, figure):
    """95 % interval of a figure that only a whole set of images has: the percentile bootstrap over images, seeded.

    Args:
        photos: number of images, at least 1.
        figure: function from weights [draws, photos], how often each image was drawn, to figures [draws, ...]. A draw
            without a figure is NaN, and left out.

    Returns:
        (low, high), [...] each; NaN for a single image.
    """
    rng, even, found = np.random.default_rng(_SEED), np.full(photos, 1 / photos), []
    at_once = max(1, _DRAWN_AT_ONCE // photos)
    for begin in range(0, RESAMPLES, at_once):
        found.append(figure(rng.multinomial(photos, even, min(at_once, RESAMPLES - begin))))
    found = np.concatenate(found)
    tail = (1 - CONFIDENCE) / 2
    low, high = (
        np.nanquantile(found, (tail, 1 - tail), axis=0) if photos > 1 else np.full((2, *found.shape[1:]), np.nan)
    )
    return low, high


def area_bin(share):
    """Index into AREA_BINS of a hole that covers this share, in (0, 1], of the image."""
    return int(np.searchsorted(AREA_BOUNDS, share, side="left"))


def by_area(shares, values):
    """Summarise figures by the area of the hole.

    Args:
        shares: the share of the image that each hole covers, [n].
        values: one figure per image, [n], as for `mean_interval`.

    Returns:
        dict of a name in AREA_BINS -> `Mean`, in the order of AREA_BINS; bins without an image are left out.
    """
    bins = np.array([area_bin(share) for share in shares], int)
    values = np.asarray(values, np.float64)
    if bins.shape != values.shape:
        raise ValueError(f"Expected as many shares as figures, found {len(bins)} and {list(values.shape)}.")
    return {AREA_BINS[i]: mean_interval(values[bins == i]) for i in np.unique(bins).tolist()}
