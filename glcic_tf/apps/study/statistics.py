"""Figures of a study: shares with intervals, d', and agreement between participants. None where there is no figure."""

import math
import statistics
import typing

CONFIDENCE = 0.95
_NORMAL = statistics.NormalDist()


class Share(typing.NamedTuple):
    """`count` of `n` answers, and the 95 % interval of Wilson (1927)."""

    count: int
    n: int
    share: float | None
    low: float | None
    high: float | None


def share(count, n):
    """Share with its Wilson interval, which stays in [0, 1] and has a width for 0 and n, too.

    It takes answers as independent; those of one participant, or to one picture, are not quite, so that it is rather
    too narrow.

    Args:
        count: answers of a kind, 0 to n.
        n: all answers.

    Returns:
        `Share`; of no answers without figures.
    """
    if not 0 <= count <= n:
        raise ValueError(f"Expected 0 <= count <= n, found {count} of {n}.")
    if not n:
        return Share(0, 0, None, None, None)
    z = _NORMAL.inv_cdf(0.5 + CONFIDENCE / 2)
    centre = (count + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(count * (n - count) / n + z * z / 4)
    # By definition the interval ends at 0 and 1 there, which rounding misses.
    return Share(count, n, count / n, centre - half if count else 0.0, centre + half if count < n else 1.0)


class Detection(typing.NamedTuple):
    """How well completed pictures are told from real ones (signal detection; completed is the signal).

    Attributes:
        hit_rate: share of completed pictures judged not natural (sensitivity).
        false_alarm_rate: share of real pictures judged not natural (1 - specificity).
        d_prime: 0: not at all; 1 and 2: 69 % and 84 % right without bias.
        criterion: above 0: leans towards natural.
    """

    hit_rate: float | None
    false_alarm_rate: float | None
    d_prime: float | None
    criterion: float | None


def detection(hits, completed, false_alarms, real):
    """Work out d' with the log-linear correction (Hautus 1995): half an answer is added to both sides of each rate.

    So d' is finite for rates of 0 and 1, too, and drawn to 0 for few answers. The two rates are given uncorrected.

    Args:
        hits: completed pictures judged not natural.
        completed: answers to completed pictures.
        false_alarms: real pictures judged not natural.
        real: answers to real pictures.

    Returns:
        `Detection`; without d' unless there are answers to both kinds.
    """
    rates = [count / n if n else None for count, n in ((hits, completed), (false_alarms, real))]
    if None in rates:
        return Detection(*rates, None, None)
    z_hit = _NORMAL.inv_cdf((hits + 0.5) / (completed + 1))
    z_false = _NORMAL.inv_cdf((false_alarms + 0.5) / (real + 1))
    return Detection(*rates, z_hit - z_false, -(z_hit + z_false) / 2)


def krippendorff_alpha(counts):
    """Agreement between participants: Krippendorff's alpha for nominal data (Krippendorff 2004, section 11.3).

    1: all agree on each picture; 0: as by chance. Pictures may have different numbers of answers.

    Args:
        counts: for each picture, how many gave each answer: [pictures, answers].

    Returns:
        alpha; None if no picture has two answers, or all answers to such pictures are the same.
    """
    counts = [row for row in counts if sum(row) > 1]
    n = sum(map(sum, counts))
    totals = [sum(column) for column in zip(*counts, strict=True)]
    # Ordered pairs of answers that differ: within the pictures, each answer weighing 1 in all; and of all answers.
    observed = sum((sum(row) ** 2 - sum(c * c for c in row)) / (sum(row) - 1) for row in counts)
    expected = n * n - sum(t * t for t in totals)
    return 1 - (n - 1) * observed / expected if expected else None


def median(values):
    """Median of the values that are not None; None if there are none."""
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None
