"""Checkpoints of the full training state, to resume from. The small model file for users is written by `model_file`."""

import json
import logging
import shutil
from pathlib import Path

import tensorflow as tf

from glcic_tf.common.errors import UserError, first_line
from glcic_tf.training import optimizers

_logger = logging.getLogger(__name__)
_PREFIX = "ckpt-"
# What TensorFlow raises for a file that is truncated, empty, or not a checkpoint.
_UNREADABLE = (tf.errors.OpError, ValueError, RuntimeError, MemoryError, IndexError)
# What must be in a checkpoint's notes, and of which type.
_NOTES = {"config": dict, "step": int, "stage": int, "fingerprint": str, "photos": int, "mean_pixel": list}
_STAGE_NOTES = {"phase": str, "steps": int}
_META_KEY = "meta/.ATTRIBUTES/VARIABLE_VALUE"


class Checkpoints:
    """The checkpoints in a run's folder, the newest `kept` of them.

    Every variable is stored under its own name, and an optimiser apart from its loss scaling. So a checkpoint of one
    replica loads on several, one without loss scaling loads with it, and vice versa.
    """

    def __init__(self, folder, kept=3):
        self.folder = Path(folder)
        self.kept = kept

    def latest(self):
        """Find the newest checkpoint that can be read, and warn of newer ones that cannot, or are incomplete.

        The list is that of the folder, not of TensorFlow's `checkpoint` file, which may be broken or outdated.

        Returns:
            (path, meta) with the dict that `save` was given, or None if there is no checkpoint.

        Raises:
            UserError: there are checkpoints, but none can be read.
        """
        broken = None
        for path in reversed(self._paths()):
            try:
                return path, _read(path)
            except _UNREADABLE as error:
                broken = broken or _unreadable(path, error)
                _logger.warning("left out: %s", broken)
        if broken:
            raise broken
        return None

    def save(self, state, meta):
        """Save the state and a dict of JSON's types as checkpoint number `state.step`; delete what is too old.

        A run that is killed while saving loses only this checkpoint: it cannot be read, and `latest` skips it.

        Returns:
            Path of the checkpoint, without the suffixes of its files.

        Raises:
            UserError: the folder cannot be written.
        """
        step = int(state.step.numpy())
        path = str(self.folder / f"{_PREFIX}{step}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            tf.train.Checkpoint(meta=tf.Variable(json.dumps(meta)), **parts(state)).write(path)
        except (OSError, tf.errors.OpError) as error:
            self._delete(self.folder.glob(f"{_PREFIX}{step}[._]*"))
            raise UserError(
                f"{path}: cannot be written ({first_line(error)}); check free space and permissions."
            ) from error
        paths = self._paths()
        # Checkpoints with higher numbers could not be read: otherwise the run would have resumed from them.
        kept = set(paths[: paths.index(path) + 1][-self.kept :])
        self._delete(file for file in self.folder.glob(f"{_PREFIX}*") if str(file.with_suffix("")) not in kept)
        return path

    def _delete(self, files):
        for file in files:
            if file.is_dir():  # left by a run that was killed while it was writing
                shutil.rmtree(file, ignore_errors=True)
            else:
                file.unlink(missing_ok=True)

    def _paths(self):
        """Checkpoints that have their index file, oldest first."""
        indices = [path.with_suffix("") for path in self.folder.glob(f"{_PREFIX}*.index")]
        numbered = [path for path in indices if path.name.removeprefix(_PREFIX).isdecimal()]
        return [str(path) for path in sorted(numbered, key=lambda path: int(path.name.removeprefix(_PREFIX)))]

    def restore(self, path, state):
        """Load checkpoint `path` into `state`, which must have been made for the checkpoint's stage.

        Raises:
            UserError: the file is broken, or holds other networks or optimisers.
        """
        with state.strategy.scope():
            try:
                stored = {key.split("/", 1)[0] for key, _ in tf.train.list_variables(path)}
                # A run that has not scaled its loss so far starts with a fresh scale.
                wanted = {
                    name: part for name, part in parts(state).items() if name in stored or "loss_scale" not in name
                }
                status = tf.train.Checkpoint(**wanted).read(path)
                status.assert_existing_objects_matched().expect_partial()
            except (*_UNREADABLE, AssertionError) as error:
                raise _unreadable(path, error) from error


def _read(path):
    """Read a whole checkpoint, which verifies the checksum of every variable; return its notes.

    Raises:
        tf.errors.OpError, ValueError, RuntimeError, MemoryError: it is damaged or incomplete.
    """
    reader = tf.train.load_checkpoint(path)
    for name in reader.get_variable_to_shape_map():
        reader.get_tensor(name)
    meta = json.loads(reader.get_tensor(_META_KEY))
    if not _has(meta, _NOTES) or not _has(meta["config"], {"stages": dict}):
        raise ValueError("its notes are not those of a run")
    if not all(_has(stage, _STAGE_NOTES) for stage in meta["config"]["stages"].values()):
        raise ValueError("its notes name a stage without phase or steps")
    return meta


def _has(notes, kinds):
    return isinstance(notes, dict) and all(isinstance(notes.get(name), kind) for name, kind in kinds.items())


def _unreadable(path, error):
    return UserError(
        f"{path}: cannot be restored ({first_line(error)}); delete it so that the run goes on from the one before, "
        "or choose another --workdir."
    )


def parts(state):
    """Return everything that training changes: {part: {name: tf.Variable}}, and the step."""
    found = {"step": state.step, "completion": _named(state.completion.variables)}
    if state.average is not None:
        found["average"] = _named(state.average.variables)
    if state.discriminator is not None:
        found["discriminator"] = _named(state.discriminator.variables)
    for name, optimizer in state.optimizers().items():
        # The first component of the path numbers the optimisers that the process has made.
        found[name] = _named(optimizers.inner(optimizer).variables, lambda path: path.split("/", 1)[1])
        scale = optimizers.loss_scale_variables(optimizer)
        if scale:
            found[f"{name}_loss_scale"] = {key: variable.value for key, variable in scale.items()}
    return found


def _named(variables, name=lambda path: path):
    named = {name(variable.path): variable.value for variable in variables}
    if len(named) != len(variables):
        raise ValueError("Two variables have the same name.")
    return named
