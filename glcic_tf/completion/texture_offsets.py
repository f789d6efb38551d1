"""Offsets that copies for a hole may have: the candidates among which `texture_labels` chooses."""

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

_RADIUS_PX = 3  # of patches
_STEPS = [(dy, dx) for dy in range(-_RADIUS_PX, _RADIUS_PX + 1) for dx in range(-_RADIUS_PX, _RADIUS_PX + 1)]
_REPEATED = 6  # so many of the most frequent offsets are candidates with their multiples
_AT_ONCE = 2**22  # pairs of patches that are compared, 16 MB
_NEARNESS = 1e-3  # of two patches that are as similar, the nearer one counts
_ROUNDS = 3  # one does a third of the good of three
_PATCH_VALUES = 20  # what is left of the 3 x 7 x 7 of a patch
_COMPLETION_WEIGHT = 2.0  # of the three values of the blurred completion beside these
_MOST_PAIRS = 6 * 10**7  # of patches compared in a round: a tenth of a second or two


def candidates(level, rng, counts):
    """Find candidates for a `texture_labels.Level`: int [count, 2], (dy, dx), all different; empty if little is known.

    `counts` limits each of the three kinds: by statistics, by completion and by synthesis.
    """
    photo, blurred = (np.ascontiguousarray(np.moveaxis(image, 0, -1)) for image in (level.photo, level.blurred))
    found = [
        by_statistics(photo, level.usable, level.box, counts[0], rng),
        by_completion(blurred, level.usable, level.hole, counts[1], rng),
        by_synthesis(photo, blurred, level.usable, level.hole, counts[2], rng),
    ]
    return np.unique(np.concatenate(found), axis=0)


def by_statistics(photo, known, box, count, rng, queries=1000):
    """Find the dominant offsets between similar known patches (He and Sun 2012)."""
    height, width = known.shape
    r = _RADIUS_PX
    whole = cv2.erode(known.astype(np.uint8), np.ones((2 * r + 1,) * 2, np.uint8), borderValue=0) > 0
    side = max(box[2] - box[0], box[3] - box[1])
    near = np.zeros_like(whole)
    near[max(0, box[0] - side) : box[2] + side, max(0, box[1] - side) : box[3] + side] = True
    ys, xs = np.nonzero(whole & near)
    if len(ys) < 2:
        return np.zeros((0, 2), int)
    features = _patches(photo, ys, xs)
    features = (features - features.mean(0)) @ _directions(features, 16, rng)
    pick = np.sort(rng.choice(len(ys), min(len(ys), queries), replace=False))
    least = max(height, width) / 15
    squares = (features * features).sum(1) / 2
    farther = _NEARNESS * squares.mean() / least
    best = _most_similar(features, squares, ys, xs, pick, farther, least)
    found = np.stack([ys[best] - ys[pick], xs[best] - xs[pick]], 1)
    votes = np.zeros((2 * height + 1, 2 * width + 1), np.float32)
    np.add.at(votes, (found[:, 0] + height, found[:, 1] + width), 1)
    votes = cv2.GaussianBlur(votes, (0, 0), 1.4)
    peaks = (votes == cv2.dilate(votes, np.ones((5, 5)))) & (votes > 1e-3)
    dy, dx = np.nonzero(peaks)
    order = np.argsort(-votes[dy, dx], kind="stable")[:count]
    found = np.stack([dy[order] - height, dx[order] - width], 1)
    # What repeats goes on repeating: multiples reach the middle of the hole.
    reach = np.array([box[2] - box[0], box[3] - box[1]])
    times = [range(2, 1 + int((reach / np.maximum(np.abs(offset), 1)).min()) + 1) for offset in found[:_REPEATED]]
    return np.array([*found, *(n * offset for offset, ns in zip(found, times, strict=False) for n in ns)])


def _most_similar(features, squares, ys, xs, pick, farther, least):
    """Find for some of the pixels (ys, xs) which other, not nearer than `least`, is most like it: positions, [picked].

    All that the distance to a pixel decides stands in one table, of which each picked pixel sees another part: so the
    pixels lie in a grid here, in which those that do not count are infinitely unlike.
    """
    top, left = ys.min(), xs.min()
    height, width = ys.max() + 1 - top, xs.max() + 1 - left
    at = (ys - top) * width + xs - left
    position = np.zeros(height * width, int)
    position[at] = np.arange(len(at))
    unlike = np.full((height, width), np.float32(np.inf))
    unlike.flat[at] = squares
    grid = np.zeros((features.shape[1], height * width), np.float32)
    grid[:, at] = features.T
    away = [np.abs(np.arange(1 - side, side)) for side in (height, width)]
    farness = farther * np.add.outer(*away).astype(np.float32)
    farness[np.ix_(*(distance < least for distance in away))] = np.inf
    best = np.empty(len(pick), int)
    count = max(1, _AT_ONCE // grid.shape[1])
    for first in range(0, len(pick), count):
        part = pick[first : first + count]
        for i, like in enumerate((features[part] @ grid).reshape(-1, height, width), first):
            y, x = ys[pick[i]] - top, xs[pick[i]] - left
            like -= unlike
            like -= farness[height - 1 - y : 2 * height - 1 - y, width - 1 - x : 2 * width - 1 - x]
            best[i] = position[like.argmax()]
    return best


def by_completion(blurred, usable, hole, count, rng, radius=6, step=2):
    """Match patches of the blurred completion with patches of the blurred photo: offsets at places of the hole."""
    ys, xs = np.nonzero(hole)
    source = cv2.erode(usable.astype(np.uint8), np.ones((2 * _RADIUS_PX + 1,) * 2, np.uint8), borderValue=0) > 0
    sy, sx = np.nonzero(source)
    if not len(sy):
        return np.zeros((0, 2), int)
    pick = np.sort(rng.choice(len(ys), min(count, len(ys)), replace=False))
    padded = np.pad(blurred, ((radius, radius), (radius, radius), (0, 0)), mode="edge")
    query = _patches(padded, ys[pick] + radius, xs[pick] + radius, radius, step)
    given = _patches(padded, sy + radius, sx + radius, radius, step)
    best, _ = _nearest(query, given)
    return np.stack([sy[best] - ys[pick], sx[best] - xs[pick]], 1)


def by_synthesis(photo, blurred, usable, hole, count, rng):
    """Find the offsets that patches of the hole have most often in a synthesis that begins with the completion.

    Round by round, each patch over the hole finds the known patch most like it, and each pixel becomes the mean of what
    the patches over it found (Wexler, Shechtman and Irani, "Space-Time Completion of Video", 2007). What the patches
    agree upon is the photo's own, where the completion alone would be matched by what is as blurred as it is.
    """
    kernel = np.ones((2 * _RADIUS_PX + 1,) * 2, np.uint8)
    over = cv2.dilate(hole.astype(np.uint8), kernel) > 0
    over[:_RADIUS_PX] = over[-_RADIUS_PX:] = over[:, :_RADIUS_PX] = over[:, -_RADIUS_PX:] = False
    ys, xs = np.nonzero(over)
    sy, sx = np.nonzero(cv2.erode(usable.astype(np.uint8), kernel, borderValue=0))
    if not len(ys) or not len(sy):
        return np.zeros((0, 2), int)
    if len(sy) > (most := max(1, _MOST_PAIRS // len(ys))):
        pick = np.sort(rng.choice(len(sy), most, replace=False))
        sy, sx = sy[pick], sx[pick]
    given = _patches(photo, sy, sx)
    mean, directions = given.mean(0), _directions(given, _PATCH_VALUES, rng)
    given = np.hstack([(given - mean) @ directions, _COMPLETION_WEIGHT * blurred[sy, sx]])
    guide = _COMPLETION_WEIGHT * blurred[ys, xs]
    filled, inside = photo.copy(), hole[..., None]
    for _ in range(_ROUNDS):
        query = np.hstack([(_patches(filled, ys, xs) - mean) @ directions, guide])
        best, unlike = _nearest(query, given)
        weight = np.exp(-unlike / (2 * np.percentile(unlike, 75) + 1e-6))[:, None]
        total, weights = np.zeros_like(photo), np.full((*hole.shape, 1), np.float32(1e-9))
        for dy, dx in _STEPS:
            total[ys + dy, xs + dx] += weight * photo[sy[best] + dy, sx[best] + dx]
            weights[ys + dy, xs + dx] += weight
        filled = np.where(inside & (weights > 1e-8), total / weights, filled)
    own = hole[ys, xs]
    found, times = np.unique(np.stack([sy[best] - ys, sx[best] - xs], 1)[own], axis=0, return_counts=True)
    return found[np.argsort(-times, kind="stable")[:count]]


def _nearest(query, given):
    """Find for rows of one matrix the nearest rows of another: positions, and squared distances."""
    squares = (given * given).sum(1) / 2
    best, like = np.empty(len(query), int), np.empty(len(query), np.float32)
    count = max(1, _AT_ONCE // len(given))
    for first in range(0, len(query), count):
        part = np.s_[first : first + count]
        score = query[part] @ given.T
        score -= squares
        best[part] = score.argmax(1)
        like[part] = score[np.arange(len(score)), best[part]]
    return best, np.maximum((query * query).sum(1) - 2 * like, 0)


def _patches(image, ys, xs, radius=_RADIUS_PX, step=1):
    """Every `step`-th pixel of the patches around pixels that are not near the border: float32 [count, values]."""
    side = 2 * radius + 1
    windows = sliding_window_view(image, (side, side), axis=(0, 1))[..., ::step, ::step]
    windows = np.moveaxis(windows, 2, -1)[ys - radius, xs - radius]  # with whole pixels last it is many times as fast
    return windows.reshape(len(ys), -1)


def _directions(features, count, rng):
    """Find the principal directions of rows: float32 [values, count]."""
    sample = features[rng.choice(len(features), min(len(features), 4000), replace=False)]
    _, vectors = np.linalg.eigh(np.cov(sample - sample.mean(0), rowvar=False))
    return vectors[:, -count:].astype(np.float32)
