"""Offsets that copies for a hole may have: the candidates among which `texture_labels` chooses."""

import cv2
import numpy as np

_RADIUS_PX = 3
_REPEATED = 6  # so many of the most frequent offsets are candidates with their multiples
_AT_ONCE = 2**22  # pairs of patches that are compared, 16 MB
_NEARNESS = 1e-3  # of two patches that are as similar, the nearer one counts


def candidates(level, rng, by_statistics_count, by_completion_count):
    """Candidates for a `texture_labels.Level`: int [count, 2], (dy, dx), all different; empty if little is known."""
    photo, blurred = (np.ascontiguousarray(np.moveaxis(image, 0, -1)) for image in (level.photo, level.blurred))
    found = [
        by_statistics(photo, level.usable, level.box, by_statistics_count, rng),
        by_completion(blurred, level.usable, level.hole, by_completion_count, rng),
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
    features = _features(photo, r, 1)[ys, xs]
    features = _project(features, 16, rng)
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
    features = _features(blurred, radius, step)
    pick = np.sort(rng.choice(len(ys), min(count, len(ys)), replace=False))
    query, given = features[ys[pick], xs[pick]], features[sy, sx]
    best = (query @ given.T - (given * given).sum(1) / 2).argmax(1)
    return np.stack([sy[best] - ys[pick], sx[best] - xs[pick]], 1)


def _features(image, radius, step):
    """Patches around all pixels: float32 [height, width, values]."""
    padded = np.pad(image, ((radius, radius), (radius, radius), (0, 0)), mode="edge")
    height, width = image.shape[:2]
    span = range(0, 2 * radius + 1, step)
    return np.concatenate([padded[dy : dy + height, dx : dx + width] for dy in span for dx in span], axis=-1)


def _project(features, count, rng):
    sample = features[rng.choice(len(features), min(len(features), 4000), replace=False)]
    mean = sample.mean(0)
    _, vectors = np.linalg.eigh(np.cov(sample - mean, rowvar=False))
    return (features - mean) @ vectors[:, -count:].astype(np.float32)
