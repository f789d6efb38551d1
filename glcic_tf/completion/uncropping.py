"""Extend a photo's canvas on any side, so that what lies beyond its border is completed: `uncrop`."""

import typing


class Margins(typing.NamedTuple):
    """How many px to add on each side of a photo."""

    left: int
    top: int
    right: int
    bottom: int

    def around(self, shape):
        """Return (height, width) of a photo of `shape`, (height, width, ...), with these margins."""
        return shape[0] + self.top + self.bottom, shape[1] + self.left + self.right

    def box(self, shape):
        """Slice of the extended photo that is the photo of `shape`, (height, width, ...)."""
        return slice(self.top, self.top + shape[0]), slice(self.left, self.left + shape[1])


def margins(values):
    """Return Margins from left, top, right and bottom: whole numbers of px, or their digits.

    Raises:
        ValueError: these are not four numbers from 0 up, or nothing but zeros.
    """
    values = tuple(values)
    try:
        found = Margins(*(int(value) for value in values))
    except (TypeError, ValueError, OverflowError):
        found = None
    if found is None or min(found) < 0 or not any(found) or any(int(v) != float(v) for v in values):
        given = ",".join(str(value)[:20] for value in values[:8])
        raise ValueError(
            f"uncrop: expected px to add at left,top,right,bottom, from 0 up and not all 0; found {given}."
        )
    return found


def extend(pixels, added):
    """Add margins to pixels, [height, width] or [height, width, channels]: a new array, its border repeated in them."""
    import numpy as np  # here: flags are checked without it

    sides = [(added.top, added.bottom), (added.left, added.right)]
    return np.pad(pixels, sides + [(0, 0)] * (pixels.ndim - 2), mode="edge")


def extend_hole(hole, added):
    """Add margins to a hole, bool [height, width]; all of them is hole."""
    import numpy as np

    return np.pad(hole, [(added.top, added.bottom), (added.left, added.right)], constant_values=True)
