"""The report of an evaluation: a page that opens from disk, tables for machines, and figures."""

import base64
import csv
import json
import math
from pathlib import Path

import jinja2
import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402  (after the choice of its backend)

COLUMNS = ("image", "method", "l1", "psnr_hole", "psnr", "ssim", "seam", "sharpness", "seconds")
METRICS = COLUMNS[2:-1]
LABELS = {
    "l1": "l1 in the hole x 100",
    "psnr_hole": "PSNR in the hole, dB",
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "seam": "seam (original: 1)",
    "sharpness": "sharpness (original: 1)",
    "fid": "FID (Keras's InceptionV3)",
    "seconds": "seconds per photo",
}
_LOWER_IS_BETTER = ("l1",)  # seam and sharpness are best at 1
_FIGURES = ("box_plots.png", "psnr_by_area.png")
MEMBERS = {"index.html", "metrics.json", "metrics.csv", *_FIGURES}


def write(folder, title, notes, rows, summary, by_area, areas, pictures):
    """Write a report.

    Args:
        folder: that exists.
        title: what was compared on what.
        notes: list of lines below it: protocol, what was skipped and why, versions.
        rows: list of dicts with the keys of COLUMNS, in their order.
        summary: {method: {metric: {"mean", "low", "high", "n"}}}, the methods in the order of the table.
        by_area: {method: {bin of hole area: {"mean", "low", "high", "n"}}} of PSNR in the hole.
        areas: {image: share of the crop that is hole}.
        pictures: {image: {"original" | "masked" | method: bytes of a JPEG}}, those to show.
    """
    folder = Path(folder)
    with open(folder / "metrics.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _shortened(row[name]) for name in COLUMNS} for row in rows)
    content = {"title": title, "notes": notes, "methods": summary, "psnr_hole_by_area": by_area}
    (folder / "metrics.json").write_text(json.dumps(_without_nan(content), indent=1) + "\n", encoding="utf-8")
    methods = list(summary)
    _box_plots(folder / _FIGURES[0], rows, methods)
    _psnr_by_area(folder / _FIGURES[1], rows, methods, areas)
    figures = {name: _data_url((folder / name).read_bytes(), "png") for name in _FIGURES}
    template = jinja2.Environment(autoescape=True).from_string(
        Path(__file__).with_name("report.html").read_text(encoding="utf-8")
    )
    values = {(row["image"], row["method"]): {m: _number(row[m]) for m in METRICS} for row in rows}
    cards = [
        {
            "image": image,
            "area": areas[image],
            "shown": [(name, _data_url(data, "jpeg"), values.get((image, name))) for name, data in shown.items()],
            "values": {method: values[image, method] for method in methods if (image, method) in values},
        }
        for image, shown in pictures.items()
    ]
    page = template.render(
        title=title,
        notes=notes,
        summary=summary,
        by_area=by_area,
        bins=list(dict.fromkeys(name for bins in by_area.values() for name in bins)),
        best=_best(summary),
        metrics=[*METRICS, *(["fid"] if any("fid" in values for values in summary.values()) else []), "seconds"],
        labels=LABELS,
        figures=figures,
        cards=cards,
        methods=methods,
    )
    (folder / "index.html").write_text(page, encoding="utf-8")


def _best(summary):
    """Which method is the best of each metric: {metric: method}."""
    best = {}
    for metric in METRICS:
        means = {m: values[metric]["mean"] for m, values in summary.items() if metric in values}
        means = {m: mean for m, mean in means.items() if math.isfinite(mean)}
        if not means:
            continue
        if metric in ("seam", "sharpness"):
            best[metric] = min(means, key=lambda m: abs(math.log(max(means[m], 1e-9))))
        else:
            best[metric] = (min if metric in _LOWER_IS_BETTER else max)(means, key=means.get)
    return best


def _box_plots(path, rows, methods):
    figure, axes = plt.subplots(2, 3, figsize=(4 + 1.2 * len(methods), 8))
    for axis, metric in zip(axes.flat, METRICS, strict=True):
        values = [[r[metric] for r in rows if r["method"] == m and math.isfinite(r[metric])] for m in methods]
        axis.boxplot(values, tick_labels=methods, showmeans=True, flierprops={"markersize": 2})
        axis.set_title(LABELS[metric])
        axis.tick_params(axis="x", rotation=60)
        axis.grid(axis="y", alpha=0.3)
    _save(figure, path)


def _psnr_by_area(path, rows, methods, areas):
    figure, axis = plt.subplots(figsize=(8, 5))
    edges = np.quantile(list(areas.values()), np.linspace(0, 1, 7)) if areas else np.array([0.0, 1.0])
    for method in methods:
        points = np.array([(areas[r["image"]], r["psnr_hole"]) for r in rows if r["method"] == method]).reshape(-1, 2)
        bins = np.clip(np.searchsorted(edges, points[:, 0], side="right") - 1, 0, len(edges) - 2)
        means = np.array([points[bins == b].mean(axis=0) for b in range(len(edges) - 1) if (bins == b).any()])
        if means.size:
            axis.plot(100 * means[:, 0], means[:, 1], "o-", label=method, markersize=4)
    axis.set_xlabel("hole, % of the crop (means of sixths of the photos)")
    axis.set_ylabel(LABELS["psnr_hole"])
    axis.grid(alpha=0.3)
    axis.legend()
    _save(figure, path)


def _save(figure, path):
    figure.tight_layout()
    figure.savefig(path, dpi=90, metadata={"Software": None})  # the same bytes on every run
    plt.close(figure)


def _data_url(data, kind):
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _shortened(value):
    return f"{value:.6g}" if isinstance(value, float) else value


def _number(value):
    return round(value, 4) if math.isfinite(value) else None


def _without_nan(value):
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
