"""How far a regular pattern stands out inside the holes: the grid that deconvolutions and dilations can draw.

A pattern that repeats every 2, 4 or 8 px is a peak in the spectrum, along the rows, the columns or the diagonals. The
spectra of windowed tiles inside the holes are averaged over the holes, since that of a single one is noise. The power
at the period is then divided by the power that the neighbouring frequencies in the same direction lead one to expect:
this gives about 1 in photos, whose spectrum is smooth; at 50 the pattern is obvious. Amplitudes are averaged instead of
powers, so that one photo, of a fence or from an interlaced video, does not decide the figure.
"""

import numpy as np

from glcic_tf.evaluation import bootstrap

PERIODS = (2, 4, 8)  # px
TILE_PX = 48  # a multiple of all periods, so that each is a frequency of the tile's spectrum
_STEP_PX = 12  # between tiles
# Frequencies, counted from the period's; a pattern's power spreads over one on either side.
_NEIGHBOURS = (-3, -2, 2, 3)
_WINDOW = np.outer(*2 * [np.hanning(TILE_PX + 1)[:-1]])[..., None]
# Power of rounding to 8 bits, as a least value: a hole of one colour has no power of its own.
_FLOOR = 3 * np.square(_WINDOW).sum() / 12


def amplitudes(image, hole):
    """Find the amplitudes inside a hole at the periods and at their neighbours.

    Args:
        image: [height, width, 3] uint8.
        hole: [height, width], non-zero = hole.

    Returns:
        [periods, directions, 1 + neighbours] float64, the period's first: the root of the mean power over the tiles,
        summed over the colours. None if no tile of 48 x 48 px fits into the hole.
    """
    tiles = [image[y : y + TILE_PX, x : x + TILE_PX] for y, x in _tiles(np.asarray(hole) != 0)]
    if not tiles:
        return None
    power = np.mean([_power(tile.astype(np.float64)) for tile in tiles], axis=0)
    directions = [power[_ALONG, 0], power[0, _ALONG], (power[_ALONG, _ALONG] + power[_ALONG, -_ALONG]) / 2]
    return np.sqrt(np.maximum(np.stack(directions, axis=1), _FLOOR))


def peaks(found):
    """Find how far each period stands out, in the direction in which it does most.

    Args:
        found: list of what `amplitudes` returned for the photos; None is skipped.

    Returns:
        {period: `bootstrap.Mean`}, where n counts the photos whose hole has room for a tile; NaN if there is none.
    """
    found = [values for values in found if values is not None]
    photos = len(found)
    if not photos:
        return {period: bootstrap.Mean(np.nan, np.nan, np.nan, 0) for period in PERIODS}
    found = np.stack(found)

    def ratios(weights):
        """[draws, photos] -> [draws, periods]."""
        power = np.square(np.tensordot(weights / photos, found, 1))
        expected = np.exp((np.log(power[..., 1:]) * _SHARES[:, None]).sum(axis=-1))
        return (power[..., 0] / expected).max(axis=-1)

    figures = [ratios(np.ones((1, photos)))[0], *bootstrap.set_interval(photos, ratios)]
    return {
        period: bootstrap.Mean(*map(float, values), photos) for period, *values in zip(PERIODS, *figures, strict=True)
    }


def _tiles(hole):
    """Upper left corners of the tiles that lie inside the hole, on a lattice from its own corner."""
    rows, columns = np.flatnonzero(hole.any(axis=1)), np.flatnonzero(hole.any(axis=0))
    if not len(rows):
        return []
    total = np.pad(hole, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    ys = np.arange(rows[0], rows[-1] + 2 - TILE_PX, _STEP_PX)
    xs = np.arange(columns[0], columns[-1] + 2 - TILE_PX, _STEP_PX)
    upper, lower = total[ys], total[ys + TILE_PX]
    inside = lower[:, xs + TILE_PX] - lower[:, xs] - upper[:, xs + TILE_PX] + upper[:, xs]
    return [(ys[i], xs[j]) for i, j in np.argwhere(inside == TILE_PX**2)]


def _power(tile):
    """Power spectrum of a tile, summed over the colours; the window keeps its borders from adding frequencies."""
    mean = (tile * _WINDOW).sum(axis=(0, 1)) / _WINDOW.sum()
    return np.square(np.abs(np.fft.fft2((tile - mean) * _WINDOW, axes=(0, 1)))).sum(axis=-1)


def _shares(period):
    """Weights of the neighbours' logarithms in the expected power, from a line over the frequency's logarithm.

    Spectra of photos fall as a power of the frequency, which is such a line.
    """
    x = np.log1p(np.array(_NEIGHBOURS) * period / TILE_PX)  # 0 at the period
    x, mean = x - x.mean(), x.mean()
    return 1 / len(x) - x * mean / np.square(x).sum()


_ALONG = np.array([[TILE_PX // period + offset for offset in (0, *_NEIGHBOURS)] for period in PERIODS])
_SHARES = np.array([_shares(period) for period in PERIODS])
