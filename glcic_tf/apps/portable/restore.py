"""Take a state that `run` saved back into a run folder of `glcic train`. Needs TensorFlow."""

import logging
from pathlib import Path

import ml_collections
import numpy as np
import tensorflow as tf

from glcic_tf.apps.portable import state_files
from glcic_tf.common.errors import UserError
from glcic_tf.training import checkpoints
from glcic_tf.training.run import Run
from glcic_tf.training.stages import resolve

_logger = logging.getLogger(__name__)


def restore(state, workdir):
    """Write a checkpoint and a model file of a state into a run folder, from where `glcic train` goes on.

    Args:
        state: folder that `run` saved: `out/state/step-<number>`, or `out/`, for the newest in it.
        workdir: the run's folder; made if need be.

    Returns:
        The run's step.

    Raises:
        UserError: the state is missing or damaged, or the folder holds another run or a later step.
    """
    folder = Path(state)
    if (folder / "state").is_dir():
        found = state_files.Saved(folder / "state").latest(_logger.warning)
        if found is None:
            raise UserError(f"--state={state}: holds no state that can be read.")
        arrays, position = found
    else:
        arrays, position = state_files.load(folder)
    config = ml_collections.ConfigDict(position["config"])
    stages = resolve(config)
    run = Run(config, stages, tf.distribute.get_strategy(), workdir)
    if run.step > position["step"]:
        raise UserError(f"--workdir={workdir}: is at step {run.step} already, the state at {position['step']}.")
    stage = stages[position["stage"]]
    run.begin(position["mean_pixel"], position["photos"], position["fingerprint"], position.get("network"))
    for index in dict.fromkeys(i for i in (position["completion_stage"], stage.index) if i is not None):
        run.state.enter(stages[index])
    run.state.step.assign(position["step"])
    lacking = _assign(run.state, arrays)
    if lacking:
        _logger.warning("begins anew, since the state lacks it: %s", ", ".join(lacking))
    run.saver.save_model(run.state, stage, last=stage is run.stages[-1])
    run.saver.save(run.state, stage)
    return run.step


def _assign(state, arrays):
    """Set the variables that the arrays have; return the parts that they lack."""
    lacking = []
    for part, variables in checkpoints.parts(state).items():
        if part == "step":
            continue
        if not any(name.startswith(f"{part}/") for name in arrays):
            lacking.append(part)
            continue
        for name, variable in variables.items():
            array = arrays.get(f"{part}/{name}")
            if array is None or array.shape != tuple(variable.shape):
                found = "nothing" if array is None else list(array.shape)
                raise UserError(f"the state's {part}/{name}: found {found}, expected {list(variable.shape)}.")
            variable.assign(np.asarray(array, variable.dtype.as_numpy_dtype))
    return lacking
