"""Losses and validation figures of training runs as a picture: `glcic curves`."""

import itertools
import json
import math
from pathlib import Path

from absl import flags

from glcic_tf.common import files
from glcic_tf.common.errors import UserError

# Title of each plot, its lines, and whether its axis is logarithmic.
PANELS = (
    ("squared error", ("completion_loss", "known_loss"), True),
    ("PSNR in the hole of validation photos, dB", ("val_psnr_hole",), False),
    ("l1 in the hole of validation photos x 100", ("val_l1",), False),
    ("sharpness of validation photos (original: 1)", ("val_sharpness",), True),
    ("D's mean output", ("d_real", "d_fake"), False),
    ("adversarial losses", ("discriminator_loss", "adversarial_loss", "r1_penalty"), False),
)
SUFFIXES = (".png", ".svg", ".pdf")
_MAX_STEP, _MAX_FIGURE = 2**48, 1e300  # what is more was not logged by a run


def read(workdir):
    """Read the records of a run.

    Args:
        workdir: folder of a run of `glcic train`, with stats.jsonl and config.json.

    Returns:
        list of dicts with `step`, `stage`, `minutes` (of training up to there, at the speed that was logged) and the
        metrics, by step. Where a run was resumed at an earlier step, what was logged last counts.

    Raises:
        UserError: a file is missing or of another kind.
    """
    stats, config = Path(workdir) / "stats.jsonl", Path(workdir) / "config.json"
    try:
        settings = json.loads(config.read_text(encoding="utf-8"))
        lines = stats.read_text(encoding="utf-8").splitlines()
        batches = {name: stage["batch_size"] or settings["batch_size"] for name, stage in settings["stages"].items()}
        merged = []
        for record in filter(None, map(_parsed, lines)):
            while merged and merged[-1]["step"] > record["step"]:
                merged.pop()  # the run went on from an earlier checkpoint
            if merged and merged[-1]["step"] == record["step"]:
                merged[-1].update(record)
            else:
                merged.append(record)
        return _with_minutes(merged, batches)
    except OSError as error:
        raise UserError(
            f"--runs={workdir}: {error.filename}: {error.strerror}; expected the folder of a run of `glcic train`."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, ZeroDivisionError, RecursionError) as error:
        raise UserError(
            f"--runs={workdir}: stats.jsonl or config.json is not as `glcic train` writes it ({type(error).__name__})."
        ) from error


def _parsed(line):
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None  # cut off by a crash
    if not isinstance(record, dict) or type(record.get("step")) is not int or not 0 <= record["step"] < _MAX_STEP:
        return None
    figures = {name: value for name, value in record.items() if name not in ("step", "stage", "phase")}
    fine = all(value is None or type(value) in (int, float) and abs(value) <= _MAX_FIGURE for value in figures.values())
    return record if fine and isinstance(record.get("stage"), str) else None


def _with_minutes(records, batches):
    minutes, before = 0.0, 0
    for record in records:
        speed = record.get("images_per_second")
        if speed:
            minutes += (record["step"] - before) * batches[record["stage"]] / speed / 60
            before = record["step"]
        record["minutes"] = minutes
    return records


def join(runs):
    """Put the records of several runs one after the other: each begins where the one before it ended."""
    joined = []
    for records in runs:
        begin = {key: joined[-1][key] if joined else 0 for key in ("step", "minutes")}
        joined += [record | {key: record[key] + begin[key] for key in begin} for record in records]
    return joined


def plot(records, output, axis="step"):
    """Write a picture of all curves.

    Args:
        records: list of dicts from `read` or `join`.
        output: file, whose suffix is one of SUFFIXES.
        axis: "step" or "minutes".

    Raises:
        UserError: there is nothing to plot, or the file cannot be written.
    """
    import matplotlib  # here: the flags do without

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    shown = [panel for panel in PANELS if any(name in record for record in records for name in panel[1])]
    if not shown:
        raise UserError("--runs: found no figures in stats.jsonl; train for some steps first.")
    rows = -(-len(shown) // 2)
    figure, axes = plt.subplots(rows, 2, figsize=(12, 3.2 * rows), squeeze=False, sharex=True)
    ends = [a[axis] for a, b in itertools.pairwise(records) if a["stage"] != b["stage"]]  # all log their last step
    for plot_axis, (title, names, logarithmic) in zip(axes.flat, shown, strict=False):
        for name in names:
            points = [(record[axis], record[name]) for record in _with_gaps(records, name)]
            if points:
                plot_axis.plot(*zip(*points, strict=True), label=name, linewidth=1.2)
        for end in ends:
            plot_axis.axvline(end, color="grey", linewidth=0.6, linestyle=":")
        plot_axis.set_title(title, fontsize=10)
        plot_axis.set_yscale("log" if logarithmic else "linear")
        plot_axis.grid(alpha=0.3)
        if len(names) > 1:
            plot_axis.legend(fontsize=8)
    for plot_axis in axes.flat[len(shown) :]:
        plot_axis.set_visible(False)
    for plot_axis in axes[-1]:
        plot_axis.set_xlabel({"step": "step", "minutes": "minutes of training"}[axis] + " (dotted: a stage ends)")
    figure.tight_layout()
    try:
        with files.replacing(output) as temporary:
            figure.savefig(temporary, dpi=80, metadata={"Software": None} if Path(output).suffix == ".png" else None)
    finally:
        plt.close(figure)


def _with_gaps(records, name):
    """Those that hold a figure, and one of NaN for every stage that does not have it at all, to interrupt the line."""
    chosen = []
    for _, stage in itertools.groupby(records, key=lambda record: record["stage"]):
        stage = list(stage)
        chosen += [record for record in stage if record.get(name) is not None] or [stage[0] | {name: math.nan}]
    return chosen if any(math.isfinite(record[name]) for record in chosen) else []


def define_curves_flags():
    """Define the command's flags."""
    flags.DEFINE_list("runs", None, "Folders of runs of `glcic train`, in their order.", required=True)
    known = ", ".join(SUFFIXES)
    flags.DEFINE_string("output", None, f"Picture to write ({known}).", required=True)
    flags.register_validator(
        "output", lambda path: Path(path or ".png").suffix.lower() in SUFFIXES, f"expected a file that ends in {known}"
    )
    flags.DEFINE_enum("axis", "step", ["step", "minutes"], "What runs to the right.")


def run_curves():
    """Plot the losses and validation figures of training runs.

      glcic curves --runs run/ --output curves.png

    Several runs are drawn one after the other, as when each started from the weights of the one before it.
    """
    args = flags.FLAGS
    plot(join([read(run) for run in args.runs]), args.output, args.axis)
