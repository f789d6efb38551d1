"""The report of a study: a page that opens from disk, figures for machines, and all answers without names."""

import base64
import csv
import dataclasses
import json
from pathlib import Path

import jinja2
import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402  (after the choice of its backend)
from matplotlib.ticker import LogLocator  # noqa: E402

from glcic_tf.apps.study import answers, manifest, statistics  # noqa: E402
from glcic_tf.apps.study.manifest import COMPLETED, REAL  # noqa: E402
from glcic_tf.common import files  # noqa: E402

# Section 4 of the paper: shares judged real of its completions of faces, and of real faces.
PAPER_COMPLETED, PAPER_REAL = 0.770, 0.965
COLUMNS = ("participant", "item", "photo", "kind", "method", "natural", "right", "milliseconds")
_FIGURES = ("judged_real.png", "response_times.png")
MEMBERS = {"index.html", "report.json", "answers.csv", *_FIGURES}
_HARDEST = 12
_LABEL_LENGTH = 32  # characters of a method's name in the figures


@dataclasses.dataclass(frozen=True)
class _Row:
    participant: int
    item: manifest.Item
    natural: bool
    milliseconds: float | None

    @property
    def right(self):
        return self.natural == (self.item.kind == REAL)


def report(folder, output, overwrite=False):
    """Write the report of a study, also while it is going on.

    Args:
        folder: of the study.
        output: folder of the report.
        overwrite: replace a report that is there.

    Returns:
        What report.json holds, see `figures`.

    Raises:
        UserError: no study, or a place that cannot be written.
    """
    study = manifest.read(folder)
    participants, found = answers.read(folder)
    items = {item.id: item for item in study.items}
    rows = [_Row(number, items[id], natural, ms) for number, id, natural, ms in found if id in items]
    result = figures(study, participants, rows)
    with files.replacing_folder(output, overwrite, "a report", "report.json", MEMBERS) as temporary:
        _write_csv(temporary / "answers.csv", rows)
        (temporary / "report.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        with plt.style.context(["default", {"text.parse_math": False}]):
            _plot_shares(temporary / _FIGURES[0], result)
            _plot_times(temporary / _FIGURES[1], study, rows)
        _write_page(temporary, Path(folder) / manifest.PICTURES, result)
    print(f"{output}: {result['participants']} participants, {len(rows)} answers")
    print(result["beside_the_paper"])
    return result


def figures(study, participants, rows):
    """Work out all figures: a dict for JSON, None where there is none.

    Args:
        study: `manifest.Study`.
        participants: numbers of all who joined.
        rows: list of their `_Row`, without practice.
    """
    real = [row for row in rows if row.item.kind == REAL]
    completed = [row for row in rows if row.item.kind == COMPLETED]
    counts = {item.id: [0, 0] for item in study.items}
    for row in rows:
        counts[row.item.id][row.natural] += 1
    numbers = {number: [row for row in rows if row.participant == number] for number in participants}
    all_completed = _share(completed)
    return {
        "study": study.title,
        "items": len(study.items),
        "participants": sum(map(bool, numbers.values())),
        "finished": sum(len(own) == len(study.items) for own in numbers.values()),
        "answers": len(rows),
        "beside_the_paper": _line(all_completed, _share(real)),
        "judged_real": {"real": _share(real)}
        | {method: _share([row for row in completed if row.item.method == method]) for method in study.methods},
        "all_completed": all_completed,
        "detection": {
            method: _detection([r for r in completed if r.item.method == method], real) for method in study.methods
        }
        | {"all": _detection(completed, real)},
        "median_ms": {"real": _median(real)}
        | {method: _median([row for row in completed if row.item.method == method]) for method in study.methods},
        "krippendorff_alpha": statistics.krippendorff_alpha(counts.values()),
        "by_participant": {
            str(number): {
                "answers": len(own),
                "right": statistics.share(sum(row.right for row in own), len(own))._asdict(),
                **_detection([r for r in own if r.item.kind == COMPLETED], [r for r in own if r.item.kind == REAL]),
                "median_ms": _median(own),
            }
            for number, own in numbers.items()
            if own
        },
        "hardest": _hardest(rows),
    }


def _share(rows):
    return statistics.share(sum(row.natural for row in rows), len(rows))._asdict()


def _detection(completed, real):
    hits, false_alarms = (sum(not row.natural for row in rows) for rows in (completed, real))
    return statistics.detection(hits, len(completed), false_alarms, len(real))._asdict()


def _median(rows):
    return statistics.median(row.milliseconds for row in rows)


def _hardest(rows):
    """The items that most answers get wrong, as dicts, hardest first; those that all get right are left out."""
    by_item = {}
    for row in rows:
        by_item.setdefault(row.item, []).append(row.right)
    wrong = {
        item: (rights.count(False) / len(rights), len(rights)) for item, rights in by_item.items() if not all(rights)
    }
    order = sorted(wrong, key=lambda item: (-wrong[item][0], -wrong[item][1], item.id))
    return [
        dataclasses.asdict(item) | {"wrong": wrong[item][0], "answers": wrong[item][1]} for item in order[:_HARDEST]
    ]


def _line(completed, real):
    """What to set beside the paper's figure, in a sentence."""
    paper = f"the paper's study: {PAPER_COMPLETED:.1%} of its completions of faces, {PAPER_REAL:.1%} of real faces"
    return f"Judged real: {_percent(completed)} of completed pictures, {_percent(real)} of real ones; {paper}."


def _percent(share):
    if not share["n"]:
        return "– (no answers)"
    return f"{share['share']:.1%} ({share['low']:.1%} – {share['high']:.1%}, {share['n']} answers)"


def _write_csv(path, rows):
    # backslashreplace: Linux allows file names that are no text in UTF-8.
    with open(path, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in rows:
            item, ms = row.item, "" if row.milliseconds is None else f"{row.milliseconds:.1f}"
            truth = (item.id, item.photo, item.kind, item.method or "")
            writer.writerow([row.participant, *truth, int(row.natural), int(row.right), ms])


def _plot_shares(path, result):
    shares = {method: share for method, share in result["judged_real"].items() if share["n"]}
    figure, axis = plt.subplots(figsize=(9, 1.6 + 0.45 * max(2, len(shares))), layout="constrained")
    places = range(len(shares))
    for place, (method, share) in zip(places, shares.items(), strict=True):
        low, high = ([100 * abs(share["share"] - share[end])] for end in ("low", "high"))
        colour = "tab:green" if method == "real" else "tab:blue"
        axis.errorbar(100 * share["share"], place, xerr=[low, high], fmt="o", color=colour, capsize=4)
    for value, colour, name in ((PAPER_COMPLETED, "tab:blue", "completed"), (PAPER_REAL, "tab:green", "real")):
        axis.axvline(100 * value, color=colour, linestyle="--", linewidth=1)
        axis.text(100 * value, 1.01, f"paper, {name}", transform=axis.get_xaxis_transform(), ha="center", fontsize=8)
    axis.set_yticks(places, [_label(method) for method in shares])
    axis.set_ylim(len(shares) - 0.5, -0.5) if shares else None
    axis.set_xlim(0, 101)
    axis.set_xlabel("judged real, % of answers (95 % intervals)")
    axis.grid(axis="x", alpha=0.3)
    _save(figure, path)


def _plot_times(path, study, rows):
    groups = {"real": [row for row in rows if row.item.kind == REAL]}
    groups |= {method: [row for row in rows if row.item.method == method] for method in study.methods}
    times = {name: [r.milliseconds / 1000 for r in own if r.milliseconds is not None] for name, own in groups.items()}
    times = {name: [max(value, 0.01) for value in own] for name, own in times.items() if own}
    figure, axis = plt.subplots(figsize=(max(6, 2 + 1.2 * len(times)), 5), layout="constrained")
    if times:
        axis.boxplot(list(times.values()), flierprops={"markersize": 3}, medianprops={"color": "black"})
        axis.set_xticks(range(1, len(times) + 1), [_label(name) for name in times], rotation=30, ha="right")
        axis.set_yscale("log")
        low, high = axis.get_ylim()
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 1000 else (1,), numticks=20))
        axis.yaxis.set_major_formatter("{x:g}")  # the usual labels are formulas
        axis.yaxis.set_minor_formatter("")
    axis.set_ylabel("response time, s")
    axis.grid(axis="y", alpha=0.3)
    _save(figure, path)


def _label(name):
    """A method's name for a figure: the end of it, which tells paths apart, without control characters."""
    text = "".join(character if character.isprintable() else "?" for character in name)
    return text if len(text) <= _LABEL_LENGTH else "…" + text[1 - _LABEL_LENGTH :]


def _save(figure, path):
    figure.savefig(path, dpi=90, metadata={"Software": None})  # the same bytes on every run
    plt.close(figure)


def _write_page(folder, pictures, result):
    template = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        Path(__file__).with_name("study_report.html").read_text(encoding="utf-8")
    )
    page = template.render(
        **result,
        percent=_percent,
        figures={name: _data_url(folder / name) for name in _FIGURES},
        pictures={item["id"]: _data_url(pictures / f"{item['id']}.png") for item in result["hardest"]},
    )
    with open(folder / "index.html", "w", newline="\n", encoding="utf-8", errors="backslashreplace") as file:
        file.write(page)


def _data_url(path):
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
