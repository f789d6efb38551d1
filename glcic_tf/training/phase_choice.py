"""Which stages a call trains: those of --phase, from the run's step on. TensorFlow is not needed."""

import itertools

from glcic_tf.common.errors import UsageError, UserError
from glcic_tf.training.stages import PHASES


def stages_to_do(stages, phase, step, folder, begun, init_from="", ends=None):
    """Choose the stages of a call.

    Args:
        stages: list of stages.Stage in their order: the run's, or those that a bundle holds.
        phase: one of PHASES, or "all".
        step: steps that the run has done.
        folder: the run's folder, for messages.
        begun: whether the folder holds a state of the run.
        init_from: the config's; if it is set, a run that has not begun may leave out earlier phases.
        ends: {phase: the run's step at which it is over}, if `stages` are not all of the run's.

    Returns:
        list of stages.Stage, empty if they are done. If phases are left out, the first begins after `step`.

    Raises:
        UserError: there is no such phase, or others must be trained first.
    """
    ends = {stage.phase: stage.end for stage in stages} if ends is None else ends
    left = [stage for stage in stages if stage.end > step]
    if phase == "all":
        return left
    if phase not in PHASES:
        raise UsageError(f"--phase={phase}: expected one of {', '.join(PHASES)} or all.")
    if phase not in ends:
        raise UserError(f"--phase={phase}: the config has no stage of this phase.")
    if ends[phase] <= step:
        return []
    if phase not in [stage.phase for stage in left]:
        raise UserError(f"--phase={phase}: the bundle holds no stage of this phase; export it with --phase={phase}.")
    if left[0].phase != phase and not begun and not init_from:
        raise UserError(
            f"--phase={phase} needs a trained completion network, and {folder} holds none: run --phase=completion "
            "first, or name a model file with --config.init_from."
        )
    if left[0].phase != phase and begun:
        raise UserError(
            f"--phase={phase}: the run in {folder} is in its {left[0].phase} phase (step {step} of {left[0].end}); run "
            f"--phase={left[0].phase} first, or --phase=all."
        )
    left = itertools.dropwhile(lambda stage: stage.phase != phase, left)
    return list(itertools.takewhile(lambda stage: stage.phase == phase, left))


def phase_ends(config):
    """Return {phase: the run's step at which it is over} for a config from `stages.to_dict`.

    Raises:
        KeyError, TypeError: it is not such a config.
    """
    stages = config["stages"].values()
    return dict(zip((s["phase"] for s in stages), itertools.accumulate(s["steps"] for s in stages), strict=True))
