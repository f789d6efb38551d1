"""Blend completed holes into their surroundings: fast marching and Poisson blending, the paper's post-processing.

The authors fill the hole by fast marching (Telea 2004) and clone what the network completed into that by Poisson
blending (Perez et al. 2003), both with OpenCV. The result has the colours of the former along the border of the hole,
its gradients in a band of BAND_PX along that, and the gradients of the completion further in. OpenCV's seamlessClone
solves this for the bounding box of the hole, though: it recolours known pixels around a hole that is not a rectangle,
leaves a frame along the edge of the image, fails for the smallest holes, and takes 8 bit alone. Here the same equation
is solved for the pixels of the hole and no others. So known pixels cannot change, any depth stays, nothing is given at
the edge of the image, and time and memory follow the holes and not the image. For a rectangle inside the image the two
agree to one grey level.
"""

import cv2
import numpy as np
import scipy.sparse

BAND_PX = 3  # seamlessClone takes the gradients of what it clones only where known pixels are farther than this
_MARCH_RADIUS_PX = 1  # the authors' choice: colours are carried on into the hole as they are
# Fast marching goes block by block; what it gives near known pixels depends on nothing farther away than the margin.
_BLOCK_PX, _MARGIN_PX = 256, 16
# The solver works in float32, in a third of float64's time. The tolerance is relative; what it leaves is below 1e-5 of
# the range of values, 1/400 of a grey level.
_TOLERANCE, _MAX_ITERATIONS = 1e-5, 200
_TINY = np.finfo(np.float32).tiny


def poisson(image, completed, hole, unknown=None):
    """Blend the completed hole of an image into its surroundings (the paper's section "Post-processing").

    Args:
        image: [height, width, 1|3|4] (grey, RGB or RGBA), uint8, uint16, or float in [0, 1]. What stands in the hole
            is not looked at, not even NaN.
        completed: array of the same shape and dtype, equal to `image` outside of the hole.
        hole: bool [height, width], True where `completed` is to be blended.
        unknown: bool [height, width], the hole and what else is not to be blended into; the hole alone by default.

    Returns:
        New array of the same shape and dtype: as `completed` in alpha and outside of the hole, bit for bit, and with
        the blended colour in the hole. A copy of `completed` if the hole is empty or leaves no pixel known.

    Raises:
        ValueError: the shapes or dtypes do not belong together.
    """
    check(image, completed, hole)
    result, unknown = completed.copy(), hole if unknown is None else unknown
    if unknown.all() or not hole.any():
        return result
    channels = 1 if image.shape[2] == 1 else 3  # alpha is not a colour
    top = 1 if image.dtype.kind == "f" else np.iinfo(image.dtype).max
    pixels = np.flatnonzero(hole)  # row by row; all arrays below have one entry for each of these
    at = np.divmod(pixels, hole.shape[1])

    colour = completed[*at, :channels].T.astype(np.float64) / top
    marched, border, inner = _march(image[..., :channels], hole, unknown, pixels)
    correction = _correction(marched - colour, border, inner, _neighbours(pixels, hole.shape[1]))
    blended = np.clip(colour + correction, 0, 1).T * top
    result[*at, :channels] = blended if image.dtype.kind == "f" else np.rint(blended)
    return result


def check(image, completed, hole):
    """Raise ValueError unless shapes and dtypes belong together as `poisson` expects them."""
    if image.shape != completed.shape or image.dtype != completed.dtype:
        raise ValueError(
            f"completed: found {completed.dtype} {list(completed.shape)}; expected {image.dtype} {list(image.shape)}, "
            "as the image has."
        )
    if image.ndim != 3 or hole.shape != image.shape[:2] or hole.dtype != bool:
        raise ValueError(
            f"hole: found {hole.dtype} {list(hole.shape)}; expected bool [height, width] of the image, "
            f"{list(image.shape)}."
        )


def _march(image, hole, unknown, pixels):
    """Carry the colours of known pixels into the hole.

    Args:
        image: [height, width, 1|3], uint8, uint16 or float.
        hole, unknown: bool [height, width].
        pixels: int [count], where the hole is, as indices into the flattened image.

    Returns:
        colours: float64 [1|3, count] in [0, 1], of use only near known pixels.
        border: bool [count], next to a known pixel.
        inner: bool [count], farther than BAND_PX from all known pixels.
    """
    height, width, channels = image.shape
    colours = np.zeros((channels, len(pixels)))
    border, inner = np.zeros(len(pixels), bool), np.ones(len(pixels), bool)
    cross, square = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)), np.ones((3, 3), np.uint8)
    for top in range(0, height, _BLOCK_PX):
        for left in range(0, width, _BLOCK_PX):
            block = np.s_[top : top + _BLOCK_PX, left : left + _BLOCK_PX]
            if not hole[block].any():
                continue
            first_row, first_column = max(top - _MARGIN_PX, 0), max(left - _MARGIN_PX, 0)
            crop = np.s_[first_row : top + _BLOCK_PX + _MARGIN_PX, first_column : left + _BLOCK_PX + _MARGIN_PX]
            ys, xs = np.nonzero(hole[block])
            own = np.searchsorted(pixels, (ys + top) * width + xs + left)
            ys, xs = ys + (top - first_row), xs + (left - first_column)
            mask = unknown[crop].astype(np.uint8)
            # Beyond the edge of the image nothing is known, so nothing there makes a pixel a border pixel: OpenCV
            # erodes as if the hole went on there.
            border[own] = cv2.erode(mask, cross)[ys, xs] == 0
            inner[own] = cv2.erode(mask, square, iterations=BAND_PX)[ys, xs] == 1
            if mask.all():
                continue
            for channel in range(channels):
                # In 16 bit for all: in 8, OpenCV is off by up to two grey levels even where all known pixels are equal.
                known = np.where(mask, 0, image[crop][..., channel])
                marched = cv2.inpaint(_to_uint16(known), mask, _MARCH_RADIUS_PX, cv2.INPAINT_TELEA)
                colours[channel, own] = marched[ys, xs] / 65535
    return colours, border, inner


def _to_uint16(values):
    if values.dtype == np.uint8:
        return values.astype(np.uint16) * 257
    if values.dtype == np.uint16:
        return values
    return np.rint(np.clip(values.astype(np.float32), 0, 1) * 65535).astype(np.uint16)  # float16 would overflow


def _neighbours(pixels, width):
    """Pairs of adjacent hole pixels, as positions in `pixels`: [(left, right), (upper, lower)], each int [pairs]."""
    left = np.flatnonzero((np.diff(pixels) == 1) & (pixels[1:] % width != 0))
    below = np.searchsorted(pixels, pixels + width)
    upper = np.flatnonzero(pixels[np.minimum(below, len(pixels) - 1)] == pixels + width)
    return [(left, left + 1), (upper, below[upper])]


def _correction(difference, border, inner, neighbours):
    """Solve the Poisson equation for what has to be added to the completed colours.

    At the border it is `difference`; from one pixel of the band to the next it changes as `difference` does, so that
    the gradient becomes that of the marched colours; and between inner pixels it is to change as little as possible.

    Args:
        difference: float64 [channels, count], marched minus completed colours.
        border, inner: bool [count].
        neighbours: as `_neighbours` gives them.

    Returns:
        float64 [channels, count].
    """
    correction, free = difference.copy(), ~border
    if not free.any():
        return correction
    right_side, diagonal, elements = np.zeros_like(difference), np.zeros(len(border)), []
    given = np.where(border, difference, 0)
    for a, b in neighbours:  # no pixel stands twice in a, nor in b, so that adding at an index array is safe
        # As in seamlessClone, a gradient belongs to its left or upper pixel.
        gradient = np.where(inner[a], 0, difference[:, a] - difference[:, b])
        right_side[:, a] += gradient + given[:, b]
        right_side[:, b] += given[:, a] - gradient
        diagonal[a] += 1
        diagonal[b] += 1
        both = free[a] & free[b]
        elements.append((a[both], b[both]))
    number = np.cumsum(free) - 1  # of the unknowns
    a, b = (number[np.concatenate(side)] for side in zip(*elements, strict=True))
    count = np.count_nonzero(free)
    between = scipy.sparse.coo_matrix((-np.ones(len(a)), (a, b)), (count, count))
    matrix = (between + between.T + scipy.sparse.diags(diagonal[free])).tocsr()
    import pyamg  # here: it takes a third of a second, and not every hole is blended

    solver = pyamg.ruge_stuben_solver(matrix.astype(np.float32))  # once for all channels
    for channel, values in enumerate(right_side[:, free].astype(np.float32)):
        correction[channel, free] = solver.solve(values, tol=_TOLERANCE, maxiter=_MAX_ITERATIONS, accel="cg")
    return correction
