"""What an evaluation has measured so far, and summaries of it."""

import collections

from glcic_tf.data import sources
from glcic_tf.evaluation import bootstrap, metrics
from glcic_tf.evaluation.appearance import Appearance

_EXTREMES = 6  # best and worst cases in the gallery, each


class Measurements:
    """Figures, messages and pictures of all methods on all photos.

    Attributes:
        found: {photo: {method: its metrics and seconds}}.
        areas: {photo: share of the crop that is hole}.
        too_small: how many photos are smaller than the crop.
        skipped: messages about photos that cannot be used.
    """

    def __init__(self, networks=None):
        """Start empty. `networks`: from `appearance.load_networks`; None: figures that need one are not measured."""
        self._appearance = Appearance(networks or {})
        self.found, self.areas, self._pictures = collections.defaultdict(dict), {}, collections.defaultdict(dict)
        self.too_small, self.skipped, self._seen = 0, [], set()
        self._failed = {}  # {message: files}

    def add(self, name, measured):
        """Add what `evaluate.measure` returned for a photo; problems of the photo itself are counted once."""
        first = name not in self._seen
        self._seen.add(name)
        if isinstance(measured, str):
            if first:
                self.skipped.append(measured)
            return
        if measured is None:
            self.too_small += first
            return
        self.areas[name] = float(measured.hole.mean())
        seen = self._appearance.add(name, measured.hole, measured.images)
        self.found[name] |= {method: seen[method] | found for method, found in measured.found.items()}
        self._pictures[name] |= measured.pictures
        for path, message in measured.failed:
            self.add_failure(path, message)

    def add_failure(self, path, message):
        """Note that a method failed on a file."""
        self._failed.setdefault(message, []).append(path)

    def failures(self):
        """Return how many completions failed."""
        return sum(map(len, self._failed.values()))

    def problems(self):
        """Lines about everything that could not be measured; the same failure on many photos is one line."""
        lines = list(self.skipped)
        for message, paths in self._failed.items():
            others = f" (and on {_count(len(paths) - 1, 'more photo')})" if len(paths) > 1 else ""
            lines.append(f"{paths[0]}: {message}{others}.")
        return lines

    def notes(self, size):
        """Lines that say how many photos were measured, and how many were not; `size`: side of the crop, px."""
        notes = [f"{_count(len(self.found), 'photo')} measured."]
        if self.too_small:
            notes.append(f"{_count(self.too_small, 'photo')} skipped: smaller than {size} px.")
        if self.skipped:
            notes.append(f"{_count(len(self.skipped), 'photo')} skipped: the photo or its mask cannot be used.")
        if self.failures():
            notes.append(f"{_count(self.failures(), 'completion')} failed.")
        capped = sum(found["psnr_hole"] >= metrics.PSNR_CAP_DB for by in self.found.values() for found in by.values())
        if capped:
            notes.append(f"Perfect: {_count(capped, 'completion')}, whose PSNR counts as {metrics.PSNR_CAP_DB:g} dB.")
        return [*notes, *self._appearance.notes()]

    def rows(self, methods):
        """Rows of the table: by photo, then in the order of the methods."""
        return [
            {"image": name, "method": method, **self.found[name][method]}
            for name in sorted(self.found)
            for method in methods
            if method in self.found[name]
        ]

    def means(self, method):
        """A method's figures with their intervals, {metric: bootstrap.Mean}, in the order of metrics.METRICS.

        All are NaN, of 0 photos, for a method that failed on every one.
        """
        rows = self._rows_of(method)
        means = {metric: bootstrap.mean_interval([row[metric] for row in rows]) for metric in self._photo_metrics()}
        means |= self._appearance.means(method)
        return {metric: means[metric] for metric in metrics.METRICS if metric in means}

    def by_area(self, method):
        """PSNR in the hole by bins of hole area, {bin: bootstrap.Mean}."""
        rows = self._rows_of(method)
        return bootstrap.by_area([self.areas[row["image"]] for row in rows], [row["psnr_hole"] for row in rows])

    def _rows_of(self, method):
        return self.rows([method])

    def _photo_metrics(self):
        """Names of the metrics that each photo has, in the order of metrics.METRICS."""
        found = {metric for by_method in self.found.values() for figures in by_method.values() for metric in figures}
        return [metric for metric in metrics.METRICS if metric in found]

    def gallery(self, method, count):
        """Choose pictures: the best and worst cases of a method by the first metric, and others evenly spread.

        Returns:
            ({photo: {"original" | "masked" | method: JPEG}}, {"method": method, "metric": the metric, "best": photos,
            "worst": photos}).
        """
        metric = self._photo_metrics()[0]
        names = sorted(name for name, shown in self._pictures.items() if shown)
        ranked = [name for name in names if method in self.found[name]]
        ranked.sort(key=lambda name: metrics.badness(metric, self.found[name][method][metric]))
        extremes = min(_EXTREMES, count // 4)
        best, worst = ranked[:extremes], ranked[extremes:][::-1][:extremes]
        rest = [name for name in names if name not in {*best, *worst}]
        shown = {*best, *worst, *sources.spread(rest, max(0, count - len(best) - len(worst)))}
        extremes = {"method": method, "metric": metric, "best": best, "worst": worst}
        return {name: self._pictures[name] for name in sorted(shown)}, extremes


def _count(n, noun):
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
