"""What a run leaves in its folder for later: checkpoints, model files, and the best of both."""

import logging
from pathlib import Path

import keras

from glcic_tf.export import savedmodel
from glcic_tf.networks import frames, model_file
from glcic_tf.training import health
from glcic_tf.training.checkpoints import Checkpoints
from glcic_tf.training.settings import BEST_FIGURES

_logger = logging.getLogger(__name__)


class Saver:
    """Writes a run's state.

    Args:
        workdir: the run's folder.
        config: ConfigDict.
        writes: False for workers that are not the chief, which only check their weights.

    Attributes:
        meta: what every checkpoint notes about the run besides its position: dict of JSON's types.
        best: stage, figure, value and step of the best checkpoint so far, None without one.
    """

    def __init__(self, workdir, config, writes=True):
        self.workdir, self._config, self._writes = Path(workdir), config, writes
        self.checkpoints = Checkpoints(self.workdir / "checkpoints", config.checkpoints_kept)
        self._best_checkpoints = Checkpoints(self.workdir / "best", kept=1)
        self.meta, self.best = {}, None

    def last_good(self):
        """Say which checkpoint is kept."""
        latest = self.checkpoints.latest()
        return f"the last good checkpoint is kept: {latest[0]}" if latest else "no checkpoint was saved yet"

    def check_weights(self, state):
        """Raise UserError if a weight or a batch statistic is not a number."""
        for network in filter(None, [state.completion, state.average, state.discriminator]):
            arrays = ((v.path, keras.ops.convert_to_numpy(v)) for v in network.variables)
            health.check_weights(int(state.step.numpy()), arrays, self.last_good)

    def save(self, state, stage):
        """Save a checkpoint of the state, which is in `stage`; raise UserError if a weight is not a number."""
        self.check_weights(state)
        if self._writes:
            self._save_to(self.checkpoints, state, stage)

    def keep_best(self, state, stage, figures):
        """Keep a checkpoint and a model file if the validation figure of config.keep_best is the stage's best so far.

        The next stage replaces both, as figures at other sizes and holes cannot be compared.
        """
        name = self._config.keep_best
        if not name or not self._writes:
            return
        step, value = int(state.step.numpy()), figures[name]
        best = self.best
        if best and (best["stage"], best["figure"]) == (stage.index, name):
            sign = BEST_FIGURES[name]
            if not sign * value > sign * best["value"]:
                return
        self.check_weights(state)
        self.best = {"stage": stage.index, "figure": name, "value": value, "step": step}
        model_file.save(state.result, self.workdir / "best.keras", _notes(state, stage) | {name: value})
        self._save_to(self._best_checkpoints, state, stage)
        _logger.info("best so far: %s %.4g at step %d", name, value, step)

    def _save_to(self, checkpoints, state, stage):
        position = {"step": int(state.step.numpy()), "phase": stage.phase, "stage": stage.index}
        best = {"best": self.best} if self.best else {}
        checkpoints.save(state, {**position, "completion_stage": state.completion_stage, **self.meta, **best})

    def save_model(self, state, stage, last):
        """Save C for users: a model file named after the phase and, after the `last` stage, a SavedModel.

        A SavedModel takes photos of any size, so a network for a single size gets none.
        """
        if not self._writes:
            return
        path, notes = self.workdir / f"{stage.phase}.keras", _notes(state, stage)
        model_file.save(state.result, path, notes)
        _logger.info("wrote %s", path)
        if last and frames.of_model(state.result) is None:
            path = self.workdir / "savedmodel"
            savedmodel.savedmodel(state.result, path, overwrite=True, metadata=notes)
            _logger.info("wrote %s", path)


def _notes(state, stage):
    return {
        "phase": stage.phase,
        "step": int(state.step.numpy()),
        "image_size": stage.image_size,
        "hole_kind": stage.hole.kind,
        "hole_min_px": stage.hole.min_px,
        "hole_max_px": stage.hole.max_px,
    }
