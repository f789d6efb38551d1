"""Minimum cuts of binary energies over a grid, the step that alpha expansion repeats (Boykov et al. 2001).

Most pixels are decided without a cut: one that gains nothing even if all its neighbours join, or that gains even if
none does, has the same state in every optimum, and this spreads. SciPy finds the maximum flow through those left.
"""

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

_ROUNDS = 64  # of deciding pixels by their neighbours; what is open after that goes to the flow
_MOST_FLOW = 2**30  # all capacities together: SciPy's flows have 32 bit


def minimise(unary, down, across, free, least_gain=0.0):
    """Find the x in {0, 1} that minimises sum of unary x_p - sum over neighbours p, q of weight x_p x_q.

    Args:
        unary: float [height, width].
        down: float [height - 1, width], weights >= 0 of each pixel and the one below.
        across: float [height, width - 1], weights >= 0 of each pixel and the one to the right.
        free: bool [height, width]; elsewhere x is 0.
        least_gain: all zeros will do where the energy cannot get lower than minus this.

    Returns:
        bool [height, width].
    """
    most, marginal = _decide(free, free, unary, down, across)
    # No set of pixels gains more than each of its pixels if all others had joined before.
    if -marginal[most].sum() <= least_gain:
        return np.zeros_like(free)
    least, marginal = _decide(np.zeros_like(free), most, unary, down, across)
    undecided = most & ~least
    if undecided.any():
        least = least | _cut(marginal, down, across, undecided)
    return least


def _marginal(x, unary, down, across):
    """What x_p = 1 instead of 0 adds to the energy, for each p, given all others."""
    marginal = unary.copy()
    marginal[1:] -= down * x[:-1]
    marginal[:-1] -= down * x[1:]
    marginal[:, 1:] -= across * x[:, :-1]
    marginal[:, :-1] -= across * x[:, 1:]
    return marginal


def _decide(x, among, unary, down, across):
    """Set x, within `among`, to what the marginals ask for, until nothing changes; x begins with all ones or none.

    Returns:
        x, and the marginals given x.
    """
    marginal, count = _marginal(x, unary, down, across), np.count_nonzero(x)
    for _ in range(_ROUNDS):
        x = (marginal < 0) & among
        marginal = _marginal(x, unary, down, across)
        before, count = count, np.count_nonzero(x)
        if count == before:
            break
    return x, marginal


def _cut(unary, down, across, undecided):
    """Minimise over the undecided pixels alone: bool [height, width], where x becomes 1.

    A pixel on the sink's side of the cut has x = 1. A weight w between p and q is w / 2 on the arcs both ways, which
    adds w / 2 to the energy where one of the two has x = 1; so it is taken off their unary terms.
    """
    height, width = undecided.shape
    count = np.count_nonzero(undecided)
    number = np.full((height + 2, width + 2), -1, np.int32)
    number[1:-1, 1:-1][undecided] = np.arange(count)
    down, across = np.pad(down / 2, ((1, 1), (0, 0))), np.pad(across / 2, ((0, 0), (1, 1)))
    # Neighbours in ascending order of their numbers, as SciPy wants them: above, left, right, below.
    neighbours = [number[:-2, 1:-1], number[1:-1, :-2], number[1:-1, 2:], number[2:, 1:-1]]
    heads = np.stack([near[undecided] for near in neighbours], 1)
    weights = np.stack([w[undecided] for w in (down[:-1], across[:, :-1], across[:, 1:], down[1:])], 1)
    weights[heads < 0] = 0
    unary = unary[undecided] - weights.sum(1)

    source, sink = np.full((count, 1), count, np.int32), np.full((count, 1), count + 1, np.int32)
    nothing, to_sink, from_source = np.zeros((count, 1)), np.maximum(-unary, 0), np.maximum(unary, 0)
    heads = np.concatenate([heads, source, sink], 1)
    weights = np.concatenate([weights, nothing, to_sink[:, None]], 1)
    given = heads >= 0
    every = np.arange(count, dtype=np.int32)
    weights = np.concatenate([weights[given], from_source, nothing[:, 0]])
    starts = np.concatenate([[0], np.cumsum(given.sum(1)), [given.sum() + count, given.sum() + 2 * count]])
    capacity = np.rint(weights * (_MOST_FLOW / weights.sum())).astype(np.int32)
    graph = csr_matrix((capacity, np.concatenate([heads[given], every, every]), starts), (count + 2, count + 2))
    graph.data = capacity - maximum_flow(graph, count, count + 1).flow.data  # its arcs both ways are all there already
    graph.eliminate_zeros()
    found = np.ones(count + 2, bool)
    found[breadth_first_order(graph, count, return_predecessors=False)] = False
    result = np.zeros_like(undecided)
    result[undecided] = found[:count]
    return result
