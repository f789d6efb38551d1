"""kid: against sums over pairs written out, closed forms, and what an unbiased estimate has to be."""

import numpy as np
import pytest

from glcic_tf.evaluation import kid


def random(photos, features, seed, shift=0.0):
    return np.random.default_rng(seed).normal(shift, 1, (photos, features))


def kernel(a, b):
    return (a @ b / len(a) + 1) ** 3


def by_pairs(real, completed):
    """The estimate, pair by pair."""
    n = len(real)
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    terms = [
        kernel(real[i], real[j])
        + kernel(completed[i], completed[j])
        - kernel(real[i], completed[j])
        - kernel(completed[i], real[j])
        for i, j in pairs
    ]
    return 1000 * np.mean(terms)


def test_equals_the_sum_over_pairs():
    real, completed = random(7, 5, 0), random(7, 5, 1, 0.5)
    found = kid.distance(real, completed)
    assert found.mean == pytest.approx(by_pairs(real, completed)) and found.n == 7
    assert found.low < found.mean < found.high


def test_of_points_it_is_the_distance_of_their_kernels():
    """All photos alike: k(a, a) + k(b, b) - 2 k(a, b), without any spread."""
    a, b = np.array([1.0, 2.0, 0.5]), np.array([0.0, 1.0, 3.0])
    found = kid.distance(np.tile(a, (4, 1)), np.tile(b, (4, 1)))
    expected = 1000 * (kernel(a, a) + kernel(b, b) - 2 * kernel(a, b))
    assert found[:3] == pytest.approx((expected,) * 3)


def test_equal_sets_have_none():
    real = random(9, 6, 2)
    assert kid.distance(real, real)[:3] == pytest.approx((0, 0, 0), abs=1e-9)


def test_unbiased_where_completions_resemble_their_originals():
    """Sets of one distribution, drawn in pairs that are nearly the same: the mean over many draws is 0."""
    drawn = np.random.default_rng(3)
    shared = drawn.normal(size=(400, 6, 8))
    figures = [kid.distance(s + 0.1 * drawn.normal(size=s.shape), s).mean for s in shared[:, :4]]
    others = [kid.distance(s + 0.1 * drawn.normal(size=s.shape), s + 0.3).mean for s in shared[:, :4]]
    assert abs(np.mean(figures)) < 3 * np.std(figures) / 20 and np.mean(others) > 10 * np.std(others) / 20


def test_interval_covers_and_shrinks():
    few, many = (kid.distance(random(n, 16, 4), random(n, 16, 5, 0.3)) for n in (30, 480))
    assert few.low < many.mean < few.high and many.high - many.low < (few.high - few.low) / 2


def test_many_photos_are_compared_in_blocks(monkeypatch):
    real, completed = random(50, 4, 6), random(50, 4, 7, 0.4)
    whole = kid.distance(real, completed)
    monkeypatch.setattr(kid, "_BLOCK", 20)
    parts = kid.distance(real, completed)
    assert parts.n == 50 and parts.low < whole.mean < parts.high and parts != whole
    blocks = np.array_split(np.random.default_rng(0).permutation(50), 3)
    assert parts.mean == pytest.approx(np.mean([by_pairs(real[block], completed[block]) for block in blocks]))


def test_the_same_every_time():
    sets = random(12, 5, 8), random(12, 5, 9)
    assert kid.distance(*sets) == kid.distance(*sets)


@pytest.mark.parametrize(("photos", "nan"), [(0, 3), (1, 3), (2, 2)])
def test_too_few_photos_have_no_figure(photos, nan):
    found = kid.distance(random(photos, 5, 10), random(photos, 5, 11))
    assert found.n == photos and sum(np.isnan(found[:3])) == nan


@pytest.mark.parametrize("shapes", [((3, 4), (4, 4)), ((3, 4), (3, 5)), ((3,), (3,))])
def test_other_shapes_are_refused(shapes):
    with pytest.raises(ValueError, match="two sets"):
        kid.distance(*map(np.zeros, shapes))
