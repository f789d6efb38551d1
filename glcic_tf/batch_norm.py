"""Keras' batch normalisation with TensorFlow's fused kernels in training."""

import keras
import tensorflow as tf

_KERAS_OWN = {"module": "keras.layers", "class_name": "BatchNormalization", "registered_name": None}


@keras.saving.register_keras_serializable("glcic_tf")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalisation of [batch, height, width, channels] over the examples of one replica.

    The same as Keras' own layer to rounding, moving statistics too. In training, Keras composes it of a dozen
    operations, in float32 under every policy; here it is one that reads and writes in the policy's dtype and computes
    in float32, and one for its gradient. In float64, for which there are no such kernels, and where it does not train,
    it is Keras' own.

    It differentiates twice rightly, as R1 needs it. Keras' layer does so only with synchronized=True, which of this
    one says nothing else: `tf.nn.moments` stops the gradient at the mean, which is right for the first derivative and
    wrong for the second.
    """

    def call(self, inputs, training=None, mask=None):
        """Normalise; the batch's statistics move the moving ones if `training`."""
        if not (training and self.trainable) or inputs.dtype == tf.float64 or mask is not None:
            return super().call(inputs, training=training, mask=mask)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.convert_to_tensor(self.gamma),
            offset=tf.convert_to_tensor(self.beta),
            mean=[],
            variance=[],
            epsilon=self.epsilon,
            is_training=True,
        )
        n = tf.cast(tf.size(inputs) // inputs.shape[-1], variance.dtype)
        variance *= (n - 1) / n  # the kernel gives the unbiased one; Keras averages the other
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + value * (1 - self.momentum))
        return outputs


def as_keras_own(config):
    """Return a layer's config with Keras' own class in place of the one above; that of any other layer as it is."""
    return config | _KERAS_OWN if config.get("class_name") == FusedBatchNormalization.__name__ else config
