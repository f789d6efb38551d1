"""Layers that compute what Keras' own do, but train faster; in every file those of Keras stand in their place.

Batch normalisation is over all replicas, and on a single one by TensorFlow's fused kernels. Where XLA compiles the step
for an accelerator, which is bound by the bytes that it reads and writes, some things are spelled differently.
"""

import contextlib
import contextvars
import functools

import keras
import tensorflow as tf

_for_xla = contextvars.ContextVar("for_xla", default=False)


@contextlib.contextmanager
def traced_for_xla():
    """Say that what this thread traces inside will be compiled by XLA, and never run by TensorFlow's own kernels."""
    token = _for_xla.set(True)
    try:
        yield
    finally:
        _for_xla.reset(token)


@keras.saving.register_keras_serializable("glcic_tf")
class DilatedConv2D(keras.layers.Conv2D):
    """A dilated convolution as one operation where that can be trained and is faster.

    TensorFlow's own CPU kernels have no gradient of it, so Keras spells it as a rearrangement into a batch of smaller
    images, an ordinary convolution, and the way back. oneDNN's kernels have one: in bfloat16 they are faster by 5 %
    (dilation 2) to 45 % (16), in float32 only from 8 on, by 4 to 17 %. XLA would copy whole maps for the rearrangement.
    Where it remains, the rearranged images are made again for the gradient, instead of being kept until then.
    """

    def convolution_op(self, inputs, kernel):
        """Convolve: [batch, height, width, channels] -> [batch, height', width', filters]."""
        faster = inputs.dtype == tf.bfloat16 or inputs.dtype == tf.float32 and min(self.dilation_rate) >= 8
        if _for_xla.get() or faster and _has_gradient_of_dilated(inputs.dtype):
            return tf.nn.conv2d(inputs, kernel, self.strides, self.padding.upper(), dilations=self.dilation_rate)
        return tf.recompute_grad(super().convolution_op)(inputs, kernel)


@functools.cache
def _has_gradient_of_dilated(dtype):
    """Say whether TensorFlow can differentiate a dilated convolution on this machine, by trying."""

    @tf.function(autograph=False)
    def gradients():
        image, kernel = tf.zeros([1, 4, 4, 1], dtype), tf.zeros([3, 3, 1, 1], dtype)
        return tf.gradients(tf.nn.conv2d(image, kernel, 1, "SAME", dilations=2), [image, kernel])

    with tf.init_scope():
        try:
            gradients()
        except tf.errors.OpError:
            return False
    return True


@keras.saving.register_keras_serializable("glcic_tf")
class PaddedConv2D(keras.layers.Conv2D):
    """A convolution without padding that takes over that of a ZeroPadding2D layer before it.

    So the padded copy need not be kept for the gradient. In 32 bit both become one operation. On a CPU, its gradient is
    computed by TensorFlow's own kernels: for 3 x 3 with a stride of 2 they take 0.7 times as long as oneDNN's. (For
    5 x 5 they take longer.) In 16 bit they would take 20 times as long, so there the copy is made again; not for XLA.
    """

    def convolution_op(self, inputs, kernel):
        """Convolve: [batch, height, width, channels] -> [batch, height', width', filters]."""
        if tf.executing_eagerly() or inputs.op.type != "Pad":
            return super().convolution_op(inputs, kernel)
        inputs, padding = inputs.op.inputs
        if _for_xla.get() or inputs.dtype.size >= 4:
            return tf.nn.conv2d(inputs, kernel, self.strides, tf.get_static_value(padding).tolist())
        convolve = super().convolution_op
        return tf.recompute_grad(lambda x, kernel: convolve(tf.pad(x, padding), kernel))(inputs, kernel)


@keras.saving.register_keras_serializable("glcic_tf")
class SyncBatchNormalization(keras.layers.BatchNormalization):
    """Normalise [batch, height, width, channels] over the examples of all replicas, which have equally many.

    The results, moving statistics too, equal those of Keras' own layer with synchronized=True up to rounding, but
    training is faster:

    - On one replica, Keras uses a dozen operations, in float32 under every policy. Here one operation reads and writes
      in the policy's dtype and computes in float32, and another computes its gradient. In float64, for which there are
      no such kernels, Keras' own are used.
    - On several replicas, Keras sums three vectors over them, one after the other; here they are summed together.
    - For XLA, the statistics are sums of the inputs and of their squares, which it computes in the pass that writes the
      inputs. The moving mean is taken off first: the squares of what is far from 0 would leave no digits for a
      difference.

    Its second derivatives are right, as R1 needs them. Those of Keras' layer without `synchronized` are not:
    `tf.nn.moments` stops the gradient at the mean, which is right for the first derivative and wrong for the second.
    """

    def call(self, inputs, training=None, mask=None):
        """Normalise; if `training`, the batch's statistics update the moving ones."""
        alone = _replicas() == 1 and inputs.dtype != tf.float64 and mask is None
        if not (training and self.trainable and alone) or _for_xla.get():
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
        if mask is not None or replicas == 1 and not _for_xla.get():
            return super()._moments(inputs, mask)
        axes, shift = list(range(len(inputs.shape) - 1)), 0
        if replicas == 1:
            shift = tf.stop_gradient(tf.cast(self.moving_mean, inputs.dtype))
            inputs -= shift
        sums = tf.stack([tf.reduce_sum(inputs, axes), tf.reduce_sum(tf.square(inputs), axes)])
        if replicas > 1:
            sums = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, sums)
        n = tf.size(inputs) // inputs.shape[-1] * replicas
        mean, mean_square = tf.unstack(sums / tf.cast(n, sums.dtype))
        return mean + shift, tf.maximum(mean_square - tf.square(mean), 0)


def _replicas():
    replica = tf.distribute.get_replica_context()
    return replica.num_replicas_in_sync if replica else 1


_KERAS_OWN = {kind.__name__: kind.__base__.__name__ for kind in (DilatedConv2D, PaddedConv2D, SyncBatchNormalization)}


def as_keras_own(config):
    """Return a layer's config with Keras' own class in place of one of those above; other layers' as they are."""
    own = _KERAS_OWN.get(config.get("class_name"))
    return config | {"module": "keras.layers", "class_name": own, "registered_name": None} if own else config
