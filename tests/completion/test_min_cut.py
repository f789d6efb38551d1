"""Minimum cuts against trying every labelling."""

import itertools

import numpy as np
import pytest

from glcic_tf.completion import min_cut


def _energy(x, unary, down, across):
    return (unary * x).sum() - (down * x[:-1] * x[1:]).sum() - (across * x[:, :-1] * x[:, 1:]).sum()


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 5), (3, 4)])
@pytest.mark.parametrize("scale", [0.3, 0.7, 2.0])
@pytest.mark.parametrize("whole", [False, True])  # whole numbers: several labellings may be the best
def test_finds_the_least_energy_of_all_labellings(shape, scale, whole):
    rng = np.random.default_rng(0)
    height, width = shape
    for _ in range(8):
        down, across = rng.exponential(scale, (height - 1, width)), rng.exponential(scale, (height, width - 1))
        unary = rng.normal(scale, 1, shape)
        if whole:
            unary, down, across = np.rint(2 * unary), np.rint(2 * down), np.rint(2 * across)
        free = rng.random(shape) < 0.9
        every = (np.reshape(x, shape) for x in itertools.product((0, 1), repeat=height * width))
        least = min(_energy(x, unary, down, across) for x in every if not x[~free].any())
        found = min_cut.minimise(unary, down, across, free)
        assert found.dtype == bool and not found[~free].any()
        np.testing.assert_allclose(_energy(found, unary, down, across), least, atol=1e-5)


def _least_of_strip(unary, down, across):
    """The least energy, column by column: of all states of a column, the best way to come to each."""
    states = np.array(list(itertools.product((0, 1), repeat=len(unary))))
    least = np.zeros(1)
    for column in range(unary.shape[1]):
        own = states @ unary[:, column] - (states[:, :-1] * states[:, 1:]) @ down[:, column]
        if column:
            joint = np.einsum("ip,jp,p->ij", states, states, across[:, column - 1])
            least = (least[:, None] - joint).min(0)
        least = least + own
    return least.min()


@pytest.mark.parametrize("gain", [-0.3, 0.5, 0.9, 1.3])  # most pixels gain, some do, few do
def test_finds_the_least_energy_of_long_strips(gain):
    rng = np.random.default_rng(1)
    for _ in range(5):
        unary = rng.normal(gain, 1, (5, 60)).astype(np.float32)
        down, across = (rng.exponential(0.5, shape).astype(np.float32) for shape in ((4, 60), (5, 59)))
        found = min_cut.minimise(unary, down, across, np.ones((5, 60), bool))
        assert 0 < np.count_nonzero(found) < found.size
        np.testing.assert_allclose(
            _energy(found, unary, down, across), _least_of_strip(unary, down, across), rtol=1e-5, atol=1e-4
        )


def test_cuts_where_neighbours_alone_decide_nothing():
    # A chain that gains only if all of it joins: 5 pixels at 1 each, 4 edges of 1.5 each.
    unary, across = np.ones((1, 5)), np.full((1, 4), 1.5)
    assert min_cut.minimise(unary, np.zeros((0, 5)), across, np.ones((1, 5), bool)).all()
    unary += 0.3
    assert not min_cut.minimise(unary, np.zeros((0, 5)), across, np.ones((1, 5), bool)).any()


def test_leaves_gains_alone_that_are_too_small():
    unary, none = np.array([[-0.5, 1.0]]), np.zeros((1, 1))
    free, down = np.ones((1, 2), bool), np.zeros((0, 2))
    assert min_cut.minimise(unary, down, none, free, least_gain=0.4).tolist() == [[True, False]]
    assert not min_cut.minimise(unary, down, none, free, least_gain=0.6).any()
