"""Checkpoints of the full training state, to resume from. The small model file for users is `model_file`'s business."""

import json
from pathlib import Path

import tensorflow as tf

from glcic_tf import precision
from glcic_tf.errors import UserError

_META_KEY = "meta/.ATTRIBUTES/VARIABLE_VALUE"


class Checkpoints:
    """The checkpoints in a run's folder, the newest `kept` of them.

    Every variable is stored under its own name, and an optimiser apart from its loss scaling. So a checkpoint of one
    replica loads on several, one without loss scaling loads with it, and both the other way round.
    """

    def __init__(self, folder, kept=3):
        self.folder = Path(folder)
        self.kept = kept

    def latest(self):
        """Find the newest checkpoint.

        Returns:
            (path, meta) with the dict that `save` was given, or None if there is no checkpoint.

        Raises:
            UserError: the newest checkpoint cannot be read.
        """
        path = tf.train.latest_checkpoint(str(self.folder))
        if path is None:
            return None
        try:
            return path, json.loads(tf.train.load_checkpoint(path).get_tensor(_META_KEY))
        except (tf.errors.OpError, ValueError, RuntimeError) as error:
            raise _unreadable(path, error) from error

    def save(self, state, meta):
        """Save the state and a dict of JSON's types as checkpoint number `state.step`; delete what is too old.

        The new checkpoint is complete before the folder's index names it: being killed meanwhile costs nothing.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        checkpoint = tf.train.Checkpoint(meta=tf.Variable(json.dumps(meta)), **_parts(state))
        manager = tf.train.CheckpointManager(checkpoint, str(self.folder), max_to_keep=self.kept)
        return manager.save(checkpoint_number=int(state.step.numpy()))

    def restore(self, path, state):
        """Load checkpoint `path` into `state`, which must have been made for the stage that the checkpoint is of.

        Raises:
            UserError: the file is broken, or is of other networks or optimisers.
        """
        with state.strategy.scope():
            try:
                stored = {key.split("/", 1)[0] for key, _ in tf.train.list_variables(path)}
                # A run that did not scale its loss so far starts with a fresh scale.
                parts = {
                    name: part for name, part in _parts(state).items() if name in stored or "loss_scale" not in name
                }
                status = tf.train.Checkpoint(**parts).restore(path)
                status.assert_existing_objects_matched().expect_partial()
            except (tf.errors.OpError, ValueError, RuntimeError, AssertionError) as error:
                raise _unreadable(path, error) from error


def _unreadable(path, error):
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return UserError(
        f"{path}: cannot be restored ({reason}); delete its files so that the run goes on from the one before, "
        "or choose another --workdir."
    )


def _parts(state):
    """What a checkpoint holds, by name: dicts of variables by name, and the step."""
    parts = {"step": state.step, "completion": _named(state.completion.variables)}
    if state.discriminator is not None:
        parts["discriminator"] = _named(state.discriminator.variables)
    for name, optimizer in state.optimizers().items():
        # The first part of the path counts the optimisers that the process has made.
        parts[name] = _named(precision.inner(optimizer).variables, lambda path: path.split("/", 1)[1])
        scale = precision.loss_scale_variables(optimizer)
        if scale:
            parts[f"{name}_loss_scale"] = {key: variable.value for key, variable in scale.items()}
    return parts


def _named(variables, name=lambda path: path):
    named = {name(variable.path): variable.value for variable in variables}
    if len(named) != len(variables):
        raise ValueError("Two variables have the same name.")
    return named
