"""Checks that training goes well: losses, loss scales and weights are finite numbers. TensorFlow is not needed."""

import numpy as np

from glcic_tf.common.errors import UserError

MIN_LOSS_SCALE = 1.0


def check_loss(step, bad_step, scale, last_good):
    """Raise UserError if the loss was not a number at `bad_step` (-1: it always was), or its scale fell too low.

    Args:
        step: steps that the run has done.
        bad_step: as `steps.make_loop` returns it.
        scale: the smallest loss scale; None: the loss is not scaled. A scaled loss may overflow now and then.
        last_good: function that returns a sentence about the checkpoint that is kept.
    """
    if scale is None and bad_step >= 0:
        raise UserError(f"step {bad_step + 1}: the loss is not a finite number. {_advice(last_good)}")
    if scale is not None and scale < MIN_LOSS_SCALE:
        raise UserError(f"step {step}: the loss scale fell to {scale:g}; the loss overflows. {_advice(last_good)}")


def check_weights(step, arrays, last_good):
    """Raise UserError if a weight or a batch statistic is not a number; `arrays`: pairs of a name and a NumPy array."""
    for name, array in arrays:
        if not np.all(np.isfinite(array)):
            raise UserError(f"step {step}: {name} is not finite. {_advice(last_good)}")


def _advice(last_good):
    return f"Lower the learning rate or use another precision; {last_good()}."
