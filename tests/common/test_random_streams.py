"""Random streams against Philox written out by hand, and what is made of their numbers."""

import itertools

import numpy as np
import pytest

from glcic_tf.common import random_streams
from glcic_tf.common.random_streams import permutation, stream, to_integers

PURPOSES = ("PHOTO_ORDER", "CROP", "HOLE", "REAL_HOLE", "VALIDATION_HOLE", "INITIAL_WEIGHTS")


def philox(key, counter):
    """One block of Philox4x64-10 (Salmon et al., SC 2011): four words of 64 bits."""
    a, b, c, d = counter
    k, m = key
    for _ in range(10):
        left, right = a * 0xD2E7470EE14C6C93, c * 0xCA5A826395121157
        a, b, c, d = (right >> 64) ^ b ^ k, right % 2**64, (left >> 64) ^ d ^ m, left % 2**64
        k, m = (k + 0x9E3779B97F4A7C15) % 2**64, (m + 0xBB67AE8584CAA73B) % 2**64
    return a, b, c, d


@pytest.mark.parametrize(("seed", "purpose", "number"), [(0, 0, 0), (7, 3, 12), (2**31 - 1, 4, 2**33 + 5)])
def test_numbers_are_the_upper_bits_of_philox(seed, purpose, number):
    words = [word for block in (1, 2, 3) for word in philox((seed, purpose), (block, 0, number, 0))]
    expected = [(word >> 11) / 2**53 for word in words]
    assert stream(seed, purpose, number).random(12).tolist() == expected
    one_by_one = stream(seed, purpose, number)
    assert [one_by_one.random() for _ in range(12)] == expected, "numbers depend on how many are asked for at once"


def test_purposes_keep_their_numbers():
    assert [getattr(random_streams, name) for name in PURPOSES] == list(range(6))


def test_every_seed_purpose_and_number_has_numbers_of_its_own():
    seeds, numbers = (0, 1, 2, 3, 2**31 - 1), (0, 1, 2, 3, 2**32, 2**32 + 1, 2**62)
    drawn = {tuple(stream(*which).random(2)) for which in itertools.product(seeds, range(5), numbers)}
    assert len(drawn) == 5 * 5 * 7


def test_neighbouring_streams_are_uniform_and_independent():
    numbers = np.stack([[stream(seed, 1, number).random(3) for number in range(200)] for seed in range(10)])
    flat = numbers.reshape(-1, 3)
    assert (np.abs(np.histogram(flat, bins=10, range=(0, 1))[0] - 600) < 5 * np.sqrt(6000 * 0.1 * 0.9)).all()
    assert np.abs(np.corrcoef(flat.T) - np.eye(3)).max() < 5 / np.sqrt(2000)
    for one, next_one in ((numbers[:-1], numbers[1:]), (numbers[:, :-1], numbers[:, 1:])):
        assert abs(np.corrcoef(one.ravel(), next_one.ravel())[0, 1]) < 5 / np.sqrt(one.size)


def test_integers_reach_both_ends_and_keep_between_them():
    low, high = np.array([-2, 0, 5, 7]), np.array([1, 0, 6, 300])
    drawn = np.stack([to_integers(stream(0, 1, number).random(4), low, high) for number in range(50)])
    assert drawn.dtype == np.int32
    assert (drawn >= low).all() and (drawn <= high).all()
    assert [set(drawn[:, i].tolist()) for i in range(3)] == [{-2, -1, 0, 1}, {0}, {5, 6}]
    ends = np.array([0.0, np.nextafter(1.0, 0.0)])
    for top in (0, 1, 2, 6, 96, 2**31 - 1):
        assert to_integers(ends, 0, top).tolist() == [0, top]


def test_every_order_is_equally_likely():
    orders, counts = np.unique(
        [permutation(stream(0, 0, epoch), 3) for epoch in range(1200)], axis=0, return_counts=True
    )
    np.testing.assert_array_equal(orders, list(itertools.permutations(range(3))))
    assert (np.abs(counts - 200) < 5 * np.sqrt(1200 / 6 * 5 / 6)).all(), counts


@pytest.mark.parametrize("count", [1, 2, 1000])
def test_order_has_everything_once(count):
    order = permutation(stream(0, 0, 0), count)
    assert order.dtype == np.uint32
    assert sorted(order.tolist()) == list(range(count))
