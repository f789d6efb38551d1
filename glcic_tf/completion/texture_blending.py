"""Blend a mosaic of copies into its surroundings, and its parts into each other, by gradients (Perez et al. 2003).

What is added to the copies is a membrane: at the border of the hole it is the difference of the known pixels from what
stands beside the copy where that comes from, so that a copy that goes on as the photo does is left as it is; across a
seam it makes up for the difference of the two copies; and elsewhere it changes as little as can be, and fades.
"""

import numpy as np
from scipy.sparse import coo_matrix, diags

from glcic_tf.completion.texture_labels import NEIGHBOURS, cut

_REACH_CELLS = 16.0  # how far into the hole a difference in colour at its border is carried
_TOLERANCE, _MAX_ITERATIONS = 1e-4, 200
_TINY = np.float32(1e-30)
_WARM_ITERATIONS = 25  # begun with the solution at half of the resolution


def correction(labelling, start=None, reach=_REACH_CELLS):
    """Compute what has to be added to the copies.

    Args:
        labelling: `texture_labels.Labelling`.
        start: float [3, height, width], the solution as far as known; None: nothing is known.

    Returns:
        float32 [3, height, width], 0 outside of the hole.
    """
    level, colours = labelling.level, labelling.colours
    own = level.own
    height, width = own.shape
    top, left, bottom, right = level.box
    known = cut(level.known, top - 1, left - 1, bottom + 1, right + 1, False)
    photo = cut(level.photo, top - 1, left - 1, bottom + 1, right + 1)
    diagonal = np.full(own.shape, 1 / reach**2, np.float32)
    wanted = np.zeros((3, height, width), np.float32)
    for neighbour, (dy, dx) in enumerate(NEIGHBOURS, 1):
        beside = np.s_[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
        diagonal += known[beside]
        wanted += (photo[:, *beside] - colours[:, neighbour]) * known[beside]
    # Across a seam goes the mean gradient of both copies; elsewhere the copy's own, and the step is 0.
    across = (colours[:, 1, :, :-1] - colours[:, 0, :, 1:] + colours[:, 0, :, :-1] - colours[:, 3, :, 1:]) / 2
    down = (colours[:, 2, :-1] - colours[:, 0, 1:] + colours[:, 0, :-1] - colours[:, 4, 1:]) / 2
    number = np.cumsum(own).reshape(own.shape) - 1
    pairs = []
    for step, first, second in ((across, np.s_[:, :-1], np.s_[:, 1:]), (down, np.s_[:-1], np.s_[1:])):
        both = own[first] & own[second]
        step = step * both
        wanted[:, *_2d(first)] -= step
        wanted[:, *_2d(second)] += step
        diagonal[first] += both
        diagonal[second] += both
        pairs.append((number[first][both], number[second][both]))
    p, q = (np.concatenate(ends) for ends in zip(*pairs, strict=True))
    count = np.count_nonzero(own)
    between = coo_matrix((-np.ones(len(p), np.float32), (p, q)), (count, count))
    matrix = (between + between.T + diags(diagonal[own])).tocsr()
    first = np.zeros((count, 3), np.float32) if start is None else start[:, own].T.astype(np.float32)
    solved = _conjugate_gradients(
        matrix, wanted[:, own].T, first, diagonal[own][:, None], _MAX_ITERATIONS if start is None else _WARM_ITERATIONS
    )
    result = np.zeros((3, height, width), np.float32)
    result[:, own] = solved.T
    return result


def _2d(index):
    return index if isinstance(index, tuple) else (index, slice(None))


def _conjugate_gradients(matrix, wanted, x, diagonal, iterations):
    """Solve matrix @ x = wanted, [count, 3], beginning with x, which is changed; preconditioned with the diagonal.

    In place as far as can be: new arrays of this size would take most of the time.
    """
    residual = wanted - matrix @ x
    scaled = residual / diagonal
    direction = scaled.copy()
    energy = _dot(residual, scaled)
    enough = _TOLERANCE**2 * _dot(wanted, wanted / diagonal)
    for _ in range(iterations):
        if (energy <= enough).all():
            break
        moved = matrix @ direction
        step = energy / np.maximum(_dot(direction, moved), _TINY)
        x += np.multiply(step, direction, out=scaled)
        residual -= np.multiply(step, moved, out=moved)
        np.divide(residual, diagonal, out=scaled)
        before, energy = energy, _dot(residual, scaled)
        direction *= energy / np.maximum(before, _TINY)
        direction += scaled
    return x


def _dot(a, b):
    return np.einsum("ij,ij->j", a, b)
