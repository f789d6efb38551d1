"""Keras' optimisers with one operation for each weight's update, which changes the weight and its slots in place.

Keras spells an update as a dozen operations. What they pass to each other is as large as the weights, and some of them,
such as ADADELTA's decay, need no gradient: TensorFlow does these when the step begins, and holds the results beside the
activations. Names, slots and results are those of Keras' own classes, up to rounding.
"""

import keras
import tensorflow as tf


class Adadelta(keras.optimizers.Adadelta):
    """Zeiler's ADADELTA (2012)."""

    def update_step(self, grad, variable, learning_rate):
        """Update one weight, given its gradient of the same shape; both averages decay first."""
        index, dtype = self._get_variable_index(variable), variable.dtype
        tf.raw_ops.ResourceApplyAdadelta(
            var=variable.handle,
            accum=_handle(self._accumulated_grads[index]),
            accum_update=_handle(self._accumulated_delta_vars[index]),
            lr=tf.cast(learning_rate, dtype),
            rho=tf.constant(self.rho, dtype),
            epsilon=tf.constant(self.epsilon, dtype),
            grad=tf.cast(grad, dtype),
            use_locking=True,
        )


class Adam(keras.optimizers.Adam):
    """Adam (Kingma and Ba, 2015), without `amsgrad`."""

    def update_step(self, gradient, variable, learning_rate):
        """Update one weight, given its gradient of the same shape."""
        index, dtype = self._get_variable_index(variable), variable.dtype
        beta_1, beta_2 = tf.constant(self.beta_1, dtype), tf.constant(self.beta_2, dtype)
        step = tf.cast(self.iterations + 1, dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=_handle(self._momentums[index]),
            v=_handle(self._velocities[index]),
            beta1_power=beta_1**step,
            beta2_power=beta_2**step,
            lr=tf.cast(learning_rate, dtype),
            beta1=beta_1,
            beta2=beta_2,
            epsilon=tf.constant(self.epsilon, dtype),
            grad=tf.cast(gradient, dtype),
            use_locking=True,
        )


def _handle(slot):
    return slot.value.handle
