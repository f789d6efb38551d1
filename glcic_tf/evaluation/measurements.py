"""What an evaluation has measured so far, and its summaries."""

import collections

from glcic_tf.data import sources
from glcic_tf.evaluation import bootstrap, fid, metrics, report

_EXTREMES = 6  # best and worst cases in the gallery, each


class Measurements:
    """Figures, messages and pictures of all methods on all photos.

    Attributes:
        found: {photo: {method: its metrics and seconds}}.
        areas: {photo: share of the crop that is hole}.
        too_small: how many photos are smaller than the crop.
        skipped: messages about photos that cannot be used.
    """

    def __init__(self, inception=None):
        """Start with nothing. `inception`: network for FID, see `fid.load_network`; None: no FID."""
        self._inception, self._features = inception, {}
        self.found, self.areas, self._pictures = collections.defaultdict(dict), {}, collections.defaultdict(dict)
        self.too_small, self.skipped, self._seen = 0, [], set()
        self._failed = {}  # {message: files}

    def add(self, name, measured):
        """Add what `evaluate.measure` returned for a photo; what concerns the photo itself is counted once."""
        first = name not in self._seen
        self._seen.add(name)
        if isinstance(measured, str):
            if first:
                self.skipped.append(measured)
            return
        if measured is None:
            self.too_small += first
            return
        area, found, failed, pictures, pixels = measured
        for method, image in pixels.items():
            if method != "original" or first:
                statistics = self._features.setdefault(method, fid.Statistics(self._inception.output_shape[-1]))
                statistics.add(fid.features(image[None], self._inception))
        self.areas[name] = area
        self.found[name] |= found
        self._pictures[name] |= pictures
        for path, message in failed:
            self.add_failure(path, message)

    def add_failure(self, path, message):
        """Note that a method failed on a file."""
        self._failed.setdefault(message, []).append(path)

    def failures(self):
        """How many completions failed."""
        return sum(map(len, self._failed.values()))

    def problems(self):
        """Lines about all that could not be measured; the same failure on many photos is one line."""
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
        return notes

    def rows(self, methods):
        """Rows of the table: by photo, then in the order of the methods."""
        return [
            {"image": name, "method": method, **self.found[name][method]}
            for name in sorted(self.found)
            for method in methods
            if method in self.found[name]
        ]

    def means(self, method):
        """Means of a method's metrics and seconds with their intervals, {metric: summary.Mean}, and FID if asked for.

        All are NaN, of 0 photos, for a method that failed on every one.
        """
        rows = self._rows_of(method)
        means = {
            metric: bootstrap.mean_interval([row[metric] for row in rows]) for metric in (*report.METRICS, "seconds")
        }
        if method in self._features and self._features[method].n > 1:
            distance = fid.distance(self._features["original"], self._features[method])
            means["fid"] = bootstrap.Mean(distance, float("nan"), float("nan"), self._features[method].n)
        return means

    def by_area(self, method):
        """PSNR in the hole by bins of hole area, {bin: summary.Mean}."""
        rows = self._rows_of(method)
        return bootstrap.by_area([self.areas[row["image"]] for row in rows], [row["psnr_hole"] for row in rows])

    def _rows_of(self, method):
        return self.rows([method])

    def gallery(self, method, count):
        """Pictures to show: the best and worst cases of a method by PSNR in the hole, and others evenly spread.

        Returns:
            ({photo: {"original" | "masked" | method: JPEG}}, {"method": method, "best": photos, "worst": photos}).
        """
        names = sorted(name for name, shown in self._pictures.items() if shown)
        ranked = [name for name in names if method in self.found[name]]
        ranked.sort(key=lambda name: self.found[name][method]["psnr_hole"], reverse=True)
        extremes = min(_EXTREMES, count // 4)
        best, worst = ranked[:extremes], ranked[extremes:][::-1][:extremes]
        rest = [name for name in names if name not in {*best, *worst}]
        shown = {*best, *worst, *sources.spread(rest, max(0, count - len(best) - len(worst)))}
        extremes = {"method": method, "best": best, "worst": worst}
        return {name: self._pictures[name] for name in sorted(shown)}, extremes


def _count(n, noun):
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
