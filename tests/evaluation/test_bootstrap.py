"""bootstrap: intervals against what they mean, and bins against their names."""

import numpy as np
import pytest

from glcic_tf.evaluation import bootstrap
from glcic_tf.evaluation.bootstrap import AREA_BINS, Mean, by_area, mean_interval


def test_interval_is_that_of_the_normal_distribution_for_many_images():
    """For 2,000 values the mean's distribution is normal: +- 1.96 standard errors."""
    values = np.random.default_rng(0).gamma(2, 3, 2000)
    mean, low, high, n = mean_interval(values)
    error = values.std() / np.sqrt(len(values))
    assert (mean, n) == (values.mean(), 2000)
    assert low == pytest.approx(mean - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(mean + 1.96 * error, abs=0.1 * error)


def test_interval_of_two_images_is_that_of_all_resamples():
    """Means of two draws of 0 and 1 are 0, 0.5 and 1 with chances 1/4, 1/2 and 1/4."""
    assert mean_interval([0, 1]) == Mean(0.5, 0, 1, 2)


def test_interval_holds_the_truth_nineteen_times_of_twenty():
    rng = np.random.default_rng(1)
    intervals = [mean_interval(rng.normal(5, 2, 60)) for _ in range(200)]
    covered = np.mean([low <= 5 <= high for _, low, high, _ in intervals])
    assert 0.88 <= covered <= 0.99


def test_interval_of_a_set_is_that_of_means_for_a_mean():
    """Also of several figures at once, and where a draw may have none."""
    values = np.random.default_rng(4).normal(5, 2, (80, 3))
    low, high = bootstrap.set_interval(80, lambda weights: weights @ values / 80)
    for i in range(3):
        expected = mean_interval(values[:, i])
        assert (low[i], high[i]) == pytest.approx((expected.low, expected.high), abs=0.03)

    def of_the_first_twenty(weights):
        count = weights[:, :20].sum(axis=1)
        return np.where(count > 15, weights[:, :20] @ values[:20, 0] / np.maximum(count, 1), np.nan)

    low, high = bootstrap.set_interval(80, of_the_first_twenty)
    assert low < values[:20, 0].mean() < high


def test_a_set_of_one_has_no_interval():
    assert np.isnan(bootstrap.set_interval(1, lambda weights: weights.sum(axis=1))).all()


def test_the_same_from_call_to_call_and_whatever_was_drawn_before():
    values = np.random.default_rng(2).random(50)
    first = mean_interval(values)
    np.random.seed(7)
    assert mean_interval(list(values)) == first


def test_memory_bound_changes_no_mean(monkeypatch):
    values = np.random.default_rng(3).random(500)
    whole = mean_interval(values)
    monkeypatch.setattr(bootstrap, "_DRAWN_AT_ONCE", 1000)
    assert mean_interval(values) == pytest.approx(whole, rel=0.005)


def test_few_images():
    assert mean_interval([3.0, 3.0, 3.0]) == Mean(3, 3, 3, 3)
    mean, low, high, n = mean_interval([4])
    assert (mean, n) == (4, 1) and np.isnan([low, high]).all()
    mean, low, high, n = mean_interval([])
    assert n == 0 and np.isnan([mean, low, high]).all()


def test_nan_is_left_out():
    assert mean_interval([np.nan, 1, 2, np.nan, 3]) == mean_interval([1, 2, 3])
    assert mean_interval([np.nan, 1]).n == 1


@pytest.mark.parametrize("values", [[[1, 2], [3, 4]], 1.0, [1, np.inf]])
def test_what_has_no_mean_is_refused(values):
    with pytest.raises(ValueError):
        mean_interval(values)


@pytest.mark.parametrize(
    ("share", "name"),
    [
        (1e-5, "0-10 %"),
        (0.1, "0-10 %"),
        (0.1001, "10-20 %"),
        (0.3, "20-30 %"),
        (0.45, "40-50 %"),
        (0.6, "50-60 %"),
        (0.601, "over 60 %"),
        (1.0, "over 60 %"),
    ],
)
def test_bins_of_area(share, name):
    assert AREA_BINS[bootstrap.area_bin(share)] == name


def test_figures_by_area():
    found = by_area([0.55, 0.05, 0.9, 0.06, 0.07], [1, 2, 3, 4, np.nan])
    assert list(found) == ["0-10 %", "50-60 %", "over 60 %"]
    assert found["0-10 %"] == mean_interval([2, 4])
    assert found["50-60 %"][::3] == (1, 1)
    assert by_area([], []) == {}
    with pytest.raises(ValueError, match="as many shares"):
        by_area([0.1], [1, 2])
