"""The figures of a run: means since the last line of the log, and stats.jsonl. TensorFlow is not needed.

Every line has `step`, `phase` and `stage`, and figures by name.
"""

import json
import math
from pathlib import Path

from glcic_tf.common.errors import UserError

_INPUT = ("images_per_second", "input_share")


class StatsFile:
    """A run's stats.jsonl; lines are always appended."""

    def __init__(self, path):
        self.path = Path(path)
        try:
            if self.path.is_file() and not self.path.read_bytes().endswith(b"\n"):
                self._write("\n")  # ends a line that was cut off by a crash
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read ({error.strerror}); check its permissions.") from error

    def append(self, step, stage, values):
        """Write a line; `values`: numbers by name, null if they are not finite, as JSON has no NaN."""
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._write(json.dumps({"step": step, "phase": stage.phase, "stage": stage.name, **finite}) + "\n")

    def _write(self, text):
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot be written ({error.strerror}); check free space and permissions."
            ) from error


def shown(values):
    """Figures by name as text for the terminal."""
    return "  ".join(f"{name} {value:.4g}" for name, value in values.items())


def tag(name):
    """A figure's name in TensorBoard, which groups figures by the part before the slash."""
    if name.startswith("val_"):
        return f"validation/{name.removeprefix('val_')}"
    if name in _INPUT:
        return f"input/{name}"
    if name.endswith("_learning_rate") or name == "loss_scale":
        return f"optimizer/{name}"
    return f"discriminator/{name.removeprefix('d_')}" if name.startswith("d_") else f"loss/{name}"


def optimizer_figures(rates, loss_scale):
    """The optimisers' figures to log, by name.

    Args:
        rates: learning rates by name of the optimiser, such as `completion_optimizer`.
        loss_scale: None if the loss is not scaled.
    """
    figures = {name.replace("optimizer", "learning_rate"): float(rate) for name, rate in rates.items()}
    return figures if loss_scale is None else figures | {"loss_scale": float(loss_scale)}


class Window:
    """Results since the last line of the log.

    Args:
        read: converts a result, such as one on a device, into a number.

    Attributes:
        steps: how many there were.
        seconds, waited: how long they took, and how much of that was spent waiting for input.
    """

    def __init__(self, read=float):
        self._read = read
        self.clear()

    def clear(self):
        """Forget everything, after a line was written."""
        self._results, self.steps, self.seconds, self.waited = [], 0, 0.0, 0.0

    def add(self, results, n, seconds=0.0, waited=0.0):
        """Add the means over n steps, by name."""
        self._results.append((results, n))
        self.steps += n
        self.seconds += seconds
        self.waited += waited

    def means(self):
        """Means over all steps, by name."""
        totals = dict.fromkeys(self._results[0][0], 0.0)
        for results, n in self._results:
            for name in totals:
                totals[name] += self._read(results[name]) * n
        return {name: total / self.steps for name, total in totals.items()}

    def speed(self, batch_size):
        """Photos per second, and the share of the time that was spent waiting for them."""
        figures = self.steps * batch_size / self.seconds, self.waited / self.seconds
        return dict(zip(_INPUT, figures, strict=True))
