"""grid: patterns of known size on noise, on photos and on nothing; holes of all shapes."""

import numpy as np
import pytest
import skimage.data
from skimage.filters import gaussian

from glcic_tf.evaluation import grid

WHOLE = np.ones((96, 96), bool)
Y, X = np.mgrid[:96, :96]


def noise(seed, slope=0.0):
    """Noise whose amplitude falls as a power of the frequency: [96, 96, 3] uint8."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(96), np.fft.fftfreq(96)))
    frequency[0, 0] = np.inf
    spectrum = np.fft.fft2(np.random.default_rng(seed).normal(size=(3, 96, 96))) * frequency**-slope
    image = np.fft.ifft2(spectrum).real
    return np.clip(np.rint(128 + 30 * image / image.std()), 0, 255).astype(np.uint8).transpose(1, 2, 0)


def figures(images, hole=WHOLE):
    return {period: peak.mean for period, peak in grid.peaks([grid.amplitudes(x, hole) for x in images]).items()}


@pytest.mark.parametrize("slope", [0, 1, 2])
def test_noise_has_none_however_its_spectrum_falls(slope):
    found = figures([noise(seed, slope) for seed in range(40)])
    assert all(0.7 < value < 1.35 for value in found.values()), found


@pytest.mark.parametrize(
    "image", [gaussian(skimage.data.astronaut(), 1, channel_axis=-1, preserve_range=True), skimage.data.coffee()]
)
def test_photos_have_about_one(image):
    parts = [image[y : y + 96, x : x + 96].astype(np.uint8) for y in range(0, 300, 50) for x in range(0, 400, 50)]
    found = figures(parts)
    assert 0.5 < found[4] < 2 and 0.5 < found[8] < 2, found


PATTERNS = {
    "rows": lambda period: np.cos(2 * np.pi * Y / period),
    "columns": lambda period: np.cos(2 * np.pi * X / period),
    "chequered": lambda period: np.cos(2 * np.pi * Y / period) * np.cos(2 * np.pi * X / period),
    "one diagonal": lambda period: np.cos(2 * np.pi * (Y - X) / period),
}


@pytest.mark.parametrize("kind", PATTERNS)
@pytest.mark.parametrize("period", grid.PERIODS)
def test_a_pattern_stands_out_at_its_period_alone(kind, period):
    pattern = 10 * PATTERNS[kind](period)[..., None]
    found = figures([np.clip(noise(seed, 1) + pattern, 0, 255).astype(np.uint8) for seed in range(20)])
    assert found.pop(period) > 5
    assert all(0.5 < value < 2 for value in found.values()), found


def test_power_of_a_pattern_is_measured_in_proportion():
    """Of white noise of known power: 1 + the pattern's power over the noise's, at one frequency of the tile."""
    rng = np.random.default_rng(1)
    images = [128 + rng.normal(0, 8, (96, 96, 1)) + np.zeros(3) for _ in range(200)]
    with_pattern = [image + 3 * np.cos(np.pi * Y / 2)[..., None] for image in images]
    # A cosine of amplitude a has a^2 / 4 times the square of the window's sum, noise its variance times the sum of
    # squares. The root of the mean power is averaged, which the tiles of a hole leave nearly as it is.
    window = grid._WINDOW
    expected = 1 + 3**2 / 4 * window.sum() ** 2 / (8**2 * np.square(window).sum())
    found = figures([np.rint(image).astype(np.uint8) for image in with_pattern])
    assert found[4] == pytest.approx(expected, rel=0.1)


def test_one_colour_and_a_gradient_have_none():
    flat = np.full((96, 96, 3), 90, np.uint8)
    ramp = np.repeat((2 * X + 20)[..., None], 3, axis=-1).astype(np.uint8)
    for image in (flat, ramp):
        assert all(0.3 < value < 3.5 for value in figures([image]).values()), figures([image])


def test_only_the_inside_of_the_hole_counts():
    hole = np.zeros((96, 96), bool)
    hole[20:80, 15:75] = True
    image = noise(2, 1)
    outside = np.where(hole[..., None], image, 0).astype(np.uint8)
    np.testing.assert_array_equal(grid.amplitudes(image, hole), grid.amplitudes(outside, hole))


@pytest.mark.parametrize("make", [np.zeros, np.ones])
def test_tiles_lie_inside_holes_of_any_shape(make):
    """Against every position tried, on the lattice of the hole's own corner."""
    rng = np.random.default_rng(5)
    for _ in range(10):
        hole = make((130, 110), bool)
        for _ in range(6):
            y, x = rng.integers(0, 90, 2)
            hole[y : y + rng.integers(20, 90), x : x + rng.integers(20, 90)] ^= True
        if not hole.any():
            continue
        top, left = (np.flatnonzero(hole.any(axis=axis))[0] for axis in (1, 0))
        expected = [
            (y, x)
            for y in range(top, 130 - 47, 12)
            for x in range(left, 110 - 47, 12)
            if hole[y : y + 48, x : x + 48].all()
        ]
        assert [tuple(map(int, corner)) for corner in grid._tiles(hole)] == expected


def test_holes_without_room_are_passed_over():
    thin = np.zeros((96, 96), bool)
    thin[40:87] = True
    assert grid.amplitudes(noise(0), thin) is None and grid.amplitudes(noise(0), np.zeros_like(thin)) is None
    some = grid.amplitudes(noise(0), WHOLE)
    assert grid.peaks([None, some])[2].n == 1 and np.isnan(grid.peaks([some])[2].low)
    nothing = grid.peaks([None, None])
    assert all(peak.n == 0 and np.isnan(peak.mean) for peak in nothing.values())


def test_one_photo_does_not_decide():
    """Of forty, one of a fence: averaged powers would leave a fortieth of its peak."""
    photos = [noise(seed, 1) for seed in range(40)]
    fence = np.clip(noise(0, 1) + np.where(X % 4 < 2, 30, -30)[..., None], 0, 255).astype(np.uint8)
    alone, together = figures([fence])[4], figures([*photos[1:], fence])[4]
    assert alone > 200 and 1 < together < (1 + alone / 40) / 2


def test_interval_is_of_the_photos():
    spectra = [grid.amplitudes(noise(seed, 1), WHOLE) for seed in range(40)]
    few, many = grid.peaks(spectra[:10]), grid.peaks(spectra)
    for period in grid.PERIODS:
        assert few[period].low < many[period].mean < few[period].high
        assert many[period].high - many[period].low < few[period].high - few[period].low
    assert grid.peaks(spectra) == many
