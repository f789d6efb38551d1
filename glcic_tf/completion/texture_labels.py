"""Which copy fills which pixel of a hole: labels are offsets, and alpha expansion minimises the energy of a labelling.

The energy of giving pixel p the offset a, and its neighbour q the offset b:

* completion: how far the blurred photo at p + a is from the blurred completion at p, so that the network says what
  belongs where;
* border: how far the photo around p + a is from the known pixels around p;
* seam: |I(p + a) - I(p + b)| + |I(q + a) - I(q + b)|, 0 where both come from one place (Kwatra et al. 2003).

Alpha expansion (Boykov et al. 2001) goes through the offsets and lets each take over the pixels where that lowers the
energy, which a minimum cut finds. Images are [3, height, width] here: sums over the channels are faster that way.
"""

import dataclasses

import cv2
import numpy as np

from glcic_tf.completion import min_cut
from glcic_tf.imaging import holes

_NEVER = 1e3  # cost of a copy of what is not known
_OWN_COST = 20.0  # of the completion itself (offset 0), so much that it stays only where no copy reaches
_LEAST_GAIN = 0.02  # sweeps leave changes alone that lower the energy by less
_BAND_PX = 3  # how far seams move when the resolution doubles
NEIGHBOURS = ((0, 1), (1, 0), (0, -1), (-1, 0))  # right, lower, left and upper
_STACK = ((0, 0), *NEIGHBOURS)  # what `Labelling` keeps of a pixel and its neighbours, all under the pixel's offset


@dataclasses.dataclass
class Level:
    """One resolution of the surroundings of a hole.

    Attributes:
        photo: float32 [3, height, width], the completed photo.
        blurred: the same, blurred.
        guide: float32 [3, height, width], what `blurred` at the source of a copy should be.
        usable: bool [height, width], known pixels that may be copied.
        known: bool [height, width], known pixels that copies have to fit.
        hole: bool [height, width], what is to be filled.
        box: (top, left, bottom, right) around the hole.
        guide_weight: weight of the completion in the energy.
        border_weight: weight of what is known beside the hole.
    """

    photo: np.ndarray
    blurred: np.ndarray
    guide: np.ndarray
    usable: np.ndarray
    known: np.ndarray
    hole: np.ndarray
    box: tuple
    guide_weight: float
    border_weight: float

    def __post_init__(self):
        top, left, bottom, right = self.box
        self.own = self.hole[top:bottom, left:right]
        self.own_guide = self.guide[:, top:bottom, left:right]
        known = cut(self.known, top - 1, left - 1, bottom + 1, right + 1, False)
        self.near_known = known * np.float32(self.border_weight)
        self.around = cut(self.photo, top - 1, left - 1, bottom + 1, right + 1)

    def part(self, region):
        """Return the same level with a smaller box: `region`, slices of this one."""
        rows, columns = region
        top, left, _, _ = self.box
        return dataclasses.replace(
            self, box=(top + rows.start, left + columns.start, top + rows.stop, left + columns.stop)
        )


def cut(array, top, left, bottom, right, outside=None):
    """Cut a box out of [..., height, width]; beyond that stands `outside`, or with None the nearest values."""
    height, width = array.shape[-2:]
    if top >= 0 and left >= 0 and bottom <= height and right <= width:
        return array[..., top:bottom, left:right]
    ys, xs = np.arange(top, bottom), np.arange(left, right)
    found = array[..., ys.clip(0, height - 1)[:, None], xs.clip(0, width - 1)]
    if outside is not None:
        found[..., (ys < 0) | (ys >= height), :] = outside
        found[..., (xs < 0) | (xs >= width)] = outside
    return found


def distance(a, b):
    """Sum over the channels of |a - b|, [3, ...]."""
    apart = a - b
    np.abs(apart, out=apart)
    return apart[0] + apart[1] + apart[2]  # in a third of the time of `sum`


def unary(level, offset):
    """Cost of one offset at every pixel of the box without its neighbours: float32 [height, width]."""
    dy, dx = offset
    if dy == dx == 0:
        return np.full(level.own.shape, np.float32(_OWN_COST))
    top, left, bottom, right = level.box
    moved = (top + dy, left + dx, bottom + dy, right + dx)
    off = distance(cut(level.blurred, *moved), level.own_guide)
    cost = level.guide_weight * off
    outer = (moved[0] - 1, moved[1] - 1, moved[2] + 1, moved[3] + 1)
    misfit = distance(cut(level.photo, *outer), level.around) * level.near_known
    cost += misfit[:-2, 1:-1] + misfit[2:, 1:-1] + misfit[1:-1, :-2] + misfit[1:-1, 2:]
    cost[~cut(level.usable, *moved, False)] = _NEVER
    return cost


class Labelling:
    """Offsets of all pixels in the box of a hole, and what alpha expansion needs to know of them.

    Attributes:
        offsets: int [height, width, 2].
        colours: float32 [3, 5, height, width], what each pixel's offset gives that pixel and its NEIGHBOURS.
        cost: float32 [height, width], see `unary`.
    """

    def __init__(self, level, offsets, cost):
        self.level, self.offsets, self.cost = level, offsets, cost
        height, width = level.own.shape
        top, left, _, _ = level.box
        ys = np.arange(top, top + height)[:, None] + offsets[..., 0]
        xs = np.arange(left, left + width) + offsets[..., 1]
        limit_y, limit_x = level.photo.shape[1] - 1, level.photo.shape[2] - 1
        self.colours = np.stack(
            [level.photo[:, (ys + dy).clip(0, limit_y), (xs + dx).clip(0, limit_x)] for dy, dx in _STACK], 1
        )
        self.down = level.own[:-1] & level.own[1:]
        self.across = level.own[:, :-1] & level.own[:, 1:]

    def expand(self, offset, cost, region=np.s_[:, :], free=True):
        """Let one offset take over pixels where that lowers the energy.

        Args:
            offset: int [2].
            cost: float32 [height, width] of the region, see `unary`.
            region: slices of the box.
            free: bool [height, width] of the region: which pixels may change.

        Returns:
            Whether any did.
        """
        own = self.level.own[region]
        height, width = own.shape
        y, x = (side.start or 0 for side in region)
        top, left = self.level.box[0] + y + offset[0], self.level.box[1] + x + offset[1]
        patch = cut(self.level.photo, top - 1, left - 1, top + height + 1, left + width + 1)
        now = self.colours[..., y : y + height, x : x + width]
        new = np.stack([patch[:, 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width] for dy, dx in _STACK], 1)
        d_own, d_right, d_below, d_left, d_above = distance(now, new)
        change = cost - self.cost[region]

        # An edge costs `before` where both keep their offsets, `second` where only the second takes the new one.
        before = distance(now[:, 0, :, :-1], now[:, 3, :, 1:]) + distance(now[:, 1, :, :-1], now[:, 0, :, 1:])
        second, first = d_own[:, :-1] + d_right[:, :-1], d_left[:, 1:] + d_own[:, 1:]
        edges = self.across[y : y + height, x : x + width - 1]
        change[:, :-1] += (first - before) * edges
        change[:, 1:] += (second - before) * edges
        across = np.maximum(first + second - before, 0) * edges
        before = distance(now[:, 0, :-1], now[:, 4, 1:]) + distance(now[:, 2, :-1], now[:, 0, 1:])
        second, first = d_own[:-1] + d_below[:-1], d_above[1:] + d_own[1:]
        edges = self.down[y : y + height - 1, x : x + width]
        change[:-1] += (first - before) * edges
        change[1:] += (second - before) * edges
        down = np.maximum(first + second - before, 0) * edges
        won = min_cut.minimise(change, down, across, own & free & (cost < _NEVER), _LEAST_GAIN)
        if not won.any():
            return False
        self.offsets[region][won] = offset
        self.cost[region][won] = cost[won]
        now[..., won] = new[..., won]
        return True


def label(level, offsets, sweeps):
    """Choose an offset for every pixel of the hole: `Labelling`.

    It begins with the completion itself everywhere. Offsets that suit much of the hole come first, so that large pieces
    are copied as a whole.
    """
    costs = [unary(level, offset) for offset in offsets]
    order = np.argsort([np.minimum(cost, _OWN_COST)[level.own].sum() for cost in costs], kind="stable")
    height, width = level.own.shape
    labelling = Labelling(level, np.zeros((height, width, 2), int), np.full((height, width), np.float32(_OWN_COST)))
    for _ in range(sweeps):
        if not sum([labelling.expand(offsets[number], costs[number]) for number in order]):
            break
    return labelling


def refine(level, offsets):
    """Move the seams of a labelling that was found at half of the resolution, within _BAND_PX of where they are.

    Args:
        level: `Level`.
        offsets: int [height, width, 2] in the box; changed in place.

    Returns:
        `Labelling`.
    """
    codes, first, index = np.unique(offsets[level.own] @ np.array([2**31, 1]), return_index=True, return_inverse=True)
    found = offsets[level.own][first]
    numbers = np.full(level.own.shape, len(codes), np.int16)
    numbers[level.own] = index
    cost = np.full(level.own.shape, np.float32(_NEVER))
    kernel = np.ones((2 * _BAND_PX + 1,) * 2, np.uint8)
    jobs = []
    for number, offset in enumerate(found):
        box = holes.tight_box(numbers == number)
        region = holes.around(box, _BAND_PX, numbers.shape)
        mine = numbers[region] == number
        own_cost = unary(level.part(region), offset)
        cost[region][mine] = own_cost[mine]
        jobs.append((offset, region, own_cost, cv2.dilate(mine.astype(np.uint8), kernel) > 0))
    seams = cost >= _NEVER  # in cells that are partly known, a copy may turn out not to be usable
    for first, second in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        apart = numbers[first] != numbers[second]
        seams[first] |= apart
        seams[second] |= apart
    band = cv2.dilate(seams.astype(np.uint8), kernel) > 0
    labelling = Labelling(level, offsets, cost)
    for offset, region, own_cost, reach in jobs:
        labelling.expand(offset, own_cost, region, reach & band[region])
    lost = level.own & (labelling.cost >= _NEVER)
    if lost.any():
        labelling = Labelling(level, np.where(lost[..., None], 0, labelling.offsets), np.where(lost, _OWN_COST, cost))
    return labelling
