"""Batch normalisation for training: over all replicas, and on a single one by TensorFlow's fused kernels."""

import keras
import tensorflow as tf

_KERAS_OWN = {"module": "keras.layers", "class_name": "BatchNormalization", "registered_name": None}


@keras.saving.register_keras_serializable("glcic_tf")
class SyncBatchNormalization(keras.layers.BatchNormalization):
    """Normalise [batch, height, width, channels] over the examples of all replicas, which have equally many.

    The results, moving statistics too, equal those of Keras' own layer with synchronized=True up to rounding, but
    training is faster:

    - On one replica, Keras uses a dozen operations, in float32 under every policy. Here one operation reads and writes
      in the policy's dtype and computes in float32, and another computes its gradient. In float64, for which there are
      no such kernels, Keras' own are used.
    - On several replicas, Keras sums three vectors over them, one after the other; here they are summed together.

    Its second derivatives are right, as R1 needs them. Those of Keras' layer without `synchronized` are not:
    `tf.nn.moments` stops the gradient at the mean, which is right for the first derivative and wrong for the second.
    """

    def call(self, inputs, training=None, mask=None):
        """Normalise; if `training`, the batch's statistics update the moving ones."""
        alone = _replicas() == 1 and inputs.dtype != tf.float64 and mask is None
        if not (training and self.trainable and alone):
            return super().call(inputs, training=training, mask=mask)
        # XLA computes the variance as E[x^2] - E[x]^2, which rounding can make negative if the mean is large. So each
        # channel is first shifted by one of its values, which changes neither the outputs nor any of their derivatives.
        value = tf.stop_gradient(inputs[:1, :1, :1])
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs - value,
            scale=tf.convert_to_tensor(self.gamma),
            offset=tf.convert_to_tensor(self.beta),
            mean=[],
            variance=[],
            epsilon=self.epsilon,
            is_training=True,
        )
        mean += tf.cast(value[0, 0, 0], mean.dtype)
        n = tf.cast(tf.size(inputs) // inputs.shape[-1], variance.dtype)
        variance *= (n - 1) / n  # the kernel returns the unbiased variance; Keras averages the biased one
        for moving, current in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + current * (1 - self.momentum))
        return outputs

    def _moments(self, inputs, mask):
        """Return mean and variance [channels] over all replicas; overrides the method that Keras' `call` uses."""
        replicas = _replicas()
        if mask is not None or replicas == 1:
            return super()._moments(inputs, mask)
        axes = list(range(len(inputs.shape) - 1))
        sums = tf.stack([tf.reduce_sum(inputs, axes), tf.reduce_sum(tf.square(inputs), axes)])
        sums = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, sums)
        n = tf.size(inputs) // inputs.shape[-1] * replicas
        mean, mean_square = tf.unstack(sums / tf.cast(n, sums.dtype))
        return mean, tf.maximum(mean_square - tf.square(mean), 0)


def _replicas():
    replica = tf.distribute.get_replica_context()
    return replica.num_replicas_in_sync if replica else 1


def as_keras_own(config):
    """Return a layer's config with Keras' own class in place of the one above; other layers' configs as they are."""
    return config | _KERAS_OWN if config.get("class_name") == SyncBatchNormalization.__name__ else config
