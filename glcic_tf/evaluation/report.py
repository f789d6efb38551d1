"""The report of an evaluation: a page that opens from disk, tables for machines, and figures."""

import base64
import contextlib
import csv
import json
import math
import warnings
from pathlib import Path

import jinja2
import matplotlib
import numpy as np

from glcic_tf.evaluation.metrics import METRICS, badness

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402  (after the choice of its backend)
from matplotlib.colors import to_hex  # noqa: E402
from matplotlib.ticker import LogLocator  # noqa: E402

_FIGURES = ("box_plots.png", "psnr_by_area.png")
MEMBERS = {"index.html", "metrics.json", "metrics.csv", *_FIGURES}
_FLOOR = 1e-3  # smaller ratios are drawn here, since a logarithmic axis has no 0
_LABEL_LENGTH = 32  # characters of a method's name in the figures
_HERO_CASES = 3
_MARKERS = "osD^vPX"  # 7, coprime to the 10 or 20 colours, so that pairs of marker and colour repeat late


def write(folder, title, notes, problems, rows, summary, by_area, areas, pictures, extremes):
    """Write a report.

    Args:
        folder: folder to write to, which has to exist.
        title: what was compared, and on what.
        notes: list of lines below the title: protocol, how many photos, versions.
        problems: list of lines about photos that were skipped and completions that failed, and why.
        rows: list of dicts with the keys image, method and those in METRICS that were measured for each photo.
        summary: {method: {metric: {"mean", "low", "high", "n"}}}, the methods in the order of the table. A method that
            failed on every photo has n = 0 and NaN.
        by_area: {method: {bin of hole area: {"mean", "low", "high", "n"}}} of PSNR in the hole.
        areas: {image: share of the crop that is hole}.
        pictures: {image: {"original" | "masked" | method: bytes of a JPEG}} to show.
        extremes: {"best": [images], "worst": [images], "method": whose best and worst cases these are, "metric": the
            metric that decides it}, best and worst first; images without pictures are skipped.
    """
    folder = Path(folder)
    measured = [name for name in METRICS if any(name in values for values in summary.values())]
    of_photos = [name for name in measured if not METRICS[name].of_set]
    columns = ["image", "method", *of_photos]
    # backslashreplace, as Linux allows file names that are not valid UTF-8.
    with open(folder / "metrics.csv", "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _shortened(row[name]) for name in columns} for row in rows)
    content = {"title": title, "notes": notes, "problems": problems, "methods": summary, "psnr_hole_by_area": by_area}
    (folder / "metrics.json").write_text(json.dumps(_without_nan(content), indent=1) + "\n", encoding="utf-8")
    counts = {method: max(figure["n"] for figure in values.values()) for method, values in summary.items()}
    colours = _colours([method for method in summary if counts[method]])
    with _drawing():
        compared = [name for name in of_photos if METRICS[name].goal]
        _box_plots(folder / _FIGURES[0], rows, colours, compared)
        _psnr_by_area(folder / _FIGURES[1], rows, colours, areas)
    template = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        Path(__file__).with_name("report.html").read_text(encoding="utf-8")
    )
    page = template.render(
        title=title,
        notes=notes,
        problems=problems,
        table=_table(summary, measured),
        counts=counts,
        colours=colours,
        by_area={method: bins for method, bins in by_area.items() if bins},
        bins=sorted({name for bins in by_area.values() for name in bins}),
        metrics={name: METRICS[name] for name in measured},
        rewards=_rewards(measured),
        compared=compared,
        floor=_FLOOR,
        figures={name: _data_url((folder / name).read_bytes(), "png") for name in _FIGURES},
        areas_differ=len(set(areas.values())) > 1,
        cards=_cards(rows, list(colours), compared, areas, pictures, extremes),
        hero=_hero(pictures, extremes),
        extremes=extremes,
    )
    with open(folder / "index.html", "w", newline="\n", encoding="utf-8", errors="backslashreplace") as file:
        file.write(page)


def _rewards(measured):
    """What the metrics reward, {line: labels of all metrics that reward it}."""
    found = {}
    for metric in (METRICS[name] for name in measured if METRICS[name].goal):
        found.setdefault(metric.rewards, []).append(metric.label)
    return found


def _table(summary, metrics):
    """Cells as text: {method: [{"mean", "interval", "best"} for each metric]}; None where there is no figure."""
    best = _best(summary)
    table = {}
    for method, values in summary.items():
        table[method] = cells = []
        for metric in metrics:
            mean, low, high = (values.get(metric, {}).get(key, math.nan) for key in ("mean", "low", "high"))
            if math.isnan(mean):
                cells.append(None)
                continue
            decimals = METRICS[metric].decimals
            if decimals is None:  # two significant digits of the mean
                decimals = 1 - int(f"{mean:.1e}".split("e")[1])
            interval = None if math.isnan(low) else f"{_rounded(low, decimals)} – {_rounded(high, decimals)}"
            is_best = method in best.get(metric, ())
            cells.append({"mean": _rounded(mean, decimals), "interval": interval, "best": is_best})
    return table


def _rounded(value, decimals):
    return f"{round(value, decimals) + 0.0:.{max(decimals, 0)}f}"  # + 0.0: no "-0.0"


def _best(summary):
    """Which methods are the best of each metric, among those that completed the most photos: {metric: methods}."""
    best = {}
    for metric in (name for name, metric in METRICS.items() if metric.goal):
        found = {method: values[metric] for method, values in summary.items() if metric in values}
        found = {method: figure for method, figure in found.items() if math.isfinite(figure["mean"])}
        if len(found) < 2:
            continue
        most = max(figure["n"] for figure in found.values())
        scores = {method: badness(metric, figure["mean"]) for method, figure in found.items() if figure["n"] == most}
        best[metric] = {method for method, score in scores.items() if score == min(scores.values())}
    return best


def _cards(rows, methods, metrics, areas, pictures, extremes):
    """The photos of the gallery, each with a place for every method, so that these line up in columns."""
    values = {(row["image"], row["method"]): {m: _number(row[m]) for m in metrics} for row in rows}
    return [
        {
            "image": image,
            "area": areas[image],
            "kinds": [kind for kind in ("best", "worst") if image in extremes[kind]],
            "shown": [
                (name, _data_url(shown[name], "jpeg") if name in shown else None, values.get((image, name)))
                for name in ("original", "masked", *methods)
            ],
            "values": {method: values[image, method] for method in methods if (image, method) in values},
        }
        for image, shown in pictures.items()
    ]


def _hero(pictures, extremes):
    """The first of the best cases: [(image, [(name, URL of the picture)])]."""
    names = ("masked", extremes["method"], "original")
    best = [image for image in extremes["best"] if set(names) <= set(pictures.get(image, ()))]
    return [(i, [(name, _data_url(pictures[i][name], "jpeg")) for name in names]) for i in best[:_HERO_CASES]]


@contextlib.contextmanager
def _drawing():
    """Settings of the figures: the user's own are ignored, and names are shown as text, not as formulas."""
    with plt.style.context(["default", {"text.parse_math": False}]), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # characters that the font lacks are drawn as boxes
        yield


def _colours(methods):
    """One colour per method: {method: "#rrggbb"}, the same in all figures."""
    palette = [to_hex(colour) for colour in plt.get_cmap("tab10" if len(methods) <= 10 else "tab20").colors]
    return {method: palette[i % len(palette)] for i, method in enumerate(methods)}


def _label(method):
    """A method's name for a figure: its end, which tells paths apart, without control characters."""
    text = "".join(character if character.isprintable() else "?" for character in method)
    return text if len(text) <= _LABEL_LENGTH else "…" + text[1 - _LABEL_LENGTH :]


def _box_plots(path, rows, colours, metrics):
    labels = [_label(method) for method in colours]
    longest = max(map(len, labels), default=0)
    across = -(-len(metrics) // 2)
    width = max(11, 4 + 1.2 * len(colours)) * across / 3
    size = (width, 8 + 0.12 * max(0, longest - 16))  # labels take no height from the plots
    figure, axes = plt.subplots(2, across, figsize=size, layout="constrained")
    for axis in axes.flat[len(metrics) :]:
        axis.set_axis_off()
    for axis, metric in zip(axes.flat, metrics, strict=False):
        ratio = METRICS[metric].goal == "one"
        values = [[r[metric] for r in rows if r["method"] == m and math.isfinite(r[metric])] for m in colours]
        if ratio:
            values = [[max(value, _FLOOR) for value in some] for some in values]
            axis.axhline(1, color="black", linestyle="--", linewidth=1)
            axis.text(0.99, 1, "original ", transform=axis.get_yaxis_transform(), ha="right", va="bottom", fontsize=8)
            axis.set_yscale("log")
        means = {"marker": "^", "markerfacecolor": "white", "markeredgecolor": "black", "markersize": 5}
        drawn = axis.boxplot(
            values,
            tick_labels=labels,
            showmeans=True,
            meanprops=means,
            medianprops={"color": "black"},
            flierprops={"markersize": 2},
            patch_artist=True,
        )
        for box, colour in zip(drawn["boxes"], colours.values(), strict=True):
            box.set_facecolor(colour)
        if ratio:  # after the limits are known; the usual labels are formulas
            low, high = axis.get_ylim()
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 1000 else (1,), numticks=20))
            axis.yaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_minor_formatter("")
        axis.set_title(METRICS[metric].label)
        plt.setp(axis.get_xticklabels(), rotation=60, ha="right", rotation_mode="anchor")
        axis.grid(axis="y", alpha=0.3)
    _save(figure, path)


def _psnr_by_area(path, rows, colours, areas):
    figure, axis = plt.subplots(figsize=(11, max(5, 0.3 * len(colours))), layout="constrained")
    groups = min(6, max(2, len(areas) // 5))
    edges = np.quantile(list(areas.values()) or [0.0], np.linspace(0, 1, groups + 1))
    handles = []
    for i, (method, colour) in enumerate(colours.items()):
        points = np.array([(areas[r["image"]], r["psnr_hole"]) for r in rows if r["method"] == method]).reshape(-1, 2)
        bins = np.clip(np.searchsorted(edges, points[:, 0], side="right") - 1, 0, groups - 1)
        means = np.array([points[bins == b].mean(axis=0) for b in np.unique(bins)]).reshape(-1, 2)
        marker = _MARKERS[i % len(_MARKERS)]
        handles += axis.plot(100 * means[:, 0], means[:, 1], "-", color=colour, marker=marker, markersize=5)
    axis.set_xlabel(f"hole, % of the crop (means of {groups} groups of photos)")
    axis.set_ylabel(METRICS["psnr_hole"].label)
    axis.grid(alpha=0.3)
    # Labels are set afterwards: a legend leaves out those that start with "_".
    legend = axis.legend(handles, ["method"] * len(handles), loc="center left", bbox_to_anchor=(1.01, 0.5))
    for text, method in zip(legend.get_texts(), colours, strict=True):
        text.set_text(_label(method))
    _save(figure, path)


def _save(figure, path):
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
