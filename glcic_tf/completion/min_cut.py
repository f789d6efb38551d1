"""Minimum cuts of binary energies over a grid, the step that alpha expansion repeats (Boykov et al. 2001).

Most pixels are decided without a cut: one that gains nothing even if all its neighbours join, or that gains even if
none does, has the same state in every optimum, and this spreads. SciPy finds the maximum flow through those left.
"""

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

_ROUNDS = 4  # of deciding pixels by their neighbours; more decide some, which the flow would find as fast
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

    A weight w between p and q is w / 2 on the arcs both ways, which adds w / 2 to the energy where one of the two has
    x = 1; so it is taken off their unary terms. The source stands for x = 1: Dinic's algorithm searches from the source
    again and again, and few pixels gain something and many lose, so this takes half of the time of the other way round.
    """
    height, width = undecided.shape
    row = width + 2  # of the grid with a margin of 1 px
    position = np.flatnonzero(np.pad(undecided, 1))
    count = len(position)
    number = np.full((height + 2) * row, -1, np.int32)
    number[position] = np.arange(count, dtype=np.int32)
    below, beside = np.zeros((2, height + 2, row), down.dtype)
    below[1:-2, 1:-1], beside[1:-1, 1:-2] = down / 2, across / 2
    below, beside = below.ravel(), beside.ravel()
    # Neighbours in ascending order of their numbers, as SciPy wants them, then the source or the sink.
    arcs = ((-row, below[position - row]), (-1, beside[position - 1]), (1, beside[position]), (row, below[position]))
    heads, weights = np.empty((count, 5), np.int32), np.empty((count, 4), down.dtype)
    for i, (step, weight) in enumerate(arcs):
        heads[:, i], weights[:, i] = number[position + step], weight
    weights[heads[:, :4] < 0] = 0
    gain = weights.sum(1) - unary[undecided]
    scale = _MOST_FLOW / (weights.sum(dtype=float) + np.abs(gain).sum(dtype=float))
    gain = np.rint(gain * scale).astype(np.int32)
    capacity = np.empty((count, 5), np.int32)
    capacity[:, :4], capacity[:, 4] = np.rint(weights * scale), np.maximum(-gain, 0)

    source, sink = count, count + 1
    gaining, losing = (np.flatnonzero(some).astype(np.int32) for some in (gain > 0, gain <= 0))
    heads[:, 4] = sink
    heads[gaining, 4] = source
    given = heads >= 0
    starts = np.cumsum(np.concatenate([[0], given.sum(1), [len(gaining), len(losing)]]), dtype=np.int32)
    data = np.concatenate([capacity[given], gain[gaining], np.zeros(len(losing), np.int32)])
    graph = csr_matrix((data, np.concatenate([heads[given], gaining, losing]), starts), (count + 2, count + 2))
    flow = maximum_flow(graph, source, sink).flow.data  # in the same order: the arcs both ways are all there already
    # x = 0 where flow could still reach the sink. That is searched from the sink, along arcs turned round: pixels have
    # the same capacity both ways, so what is left of the arc q-p is in the place of p-q: capacity and flow from p to q.
    graph.data[starts[sink] :] = -gain[losing]
    graph.data = np.maximum(graph.data + flow, 0)
    graph.eliminate_zeros()
    found = np.ones(count + 2, bool)
    found[breadth_first_order(graph, sink, return_predecessors=False)] = False
    result = np.zeros_like(undecided)
    result[undecided] = found[:count]
    return result
