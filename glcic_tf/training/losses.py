"""The paper's losses, one function an equation, in float32, a value per example.

The mean over the examples is taken by the training step, which knows the global batch.
"""

import tensorflow as tf

from glcic_tf.training.settings import ADVERSARIAL_FORMS


def completion_loss(completed, images, mask, known_weight=0.0):
    """Weighted squared error L(x, Mc) (paper, equation 2), as a mean over the pixels and channels of the hole.

    Args:
        completed, images: [batch, height, width, 3] float32 in [0, 1].
        mask: [batch, height, width, 1] float32, 1 in the hole.
        known_weight: weight of the same error over the known pixels; 0 in the paper.

    Returns:
        (total, {"hole": ..., "known": ...}), each [batch] float32.
    """
    squared = tf.reduce_mean(tf.math.squared_difference(completed, images), axis=-1, keepdims=True)

    def mean_over(region):
        return tf.reduce_sum(region * squared, [1, 2, 3]) / tf.maximum(tf.reduce_sum(region, [1, 2, 3]), 1.0)

    hole, known = mean_over(mask), mean_over(1.0 - mask)
    return hole + known_weight * known, {"hole": hole, "known": known}


def discriminator_loss(real_logits, fake_logits):
    """Binary cross-entropy -log D(x) - log(1 - D(C(x))) (paper, equation 3, the max), from logits.

    Args:
        real_logits, fake_logits: [batch, 1] float32.

    Returns:
        (total, {"real": ..., "fake": ...}), each [batch] float32.
    """
    real = tf.squeeze(tf.nn.softplus(-real_logits), -1)
    fake = tf.squeeze(tf.nn.softplus(fake_logits), -1)
    return real + fake, {"real": real, "fake": fake}


def r1_penalty(gradients):
    """Squared norm of D's gradient at real images (R1; Mescheder et al. 2018, equation 9), not in the paper.

    It keeps D smooth: without it D soon tells blurred completions from photos with certainty, and its gradient, all
    that C learns from, becomes useless.

    Args:
        gradients: those of D's logits with respect to its inputs, list of [batch, height, width, 3].

    Returns:
        [batch] float32 (float64 for such gradients); its weight is gamma / 2.
    """
    gradients = [g if g.dtype == tf.float64 else tf.cast(g, tf.float32) for g in gradients]
    return tf.add_n([tf.reduce_sum(tf.square(g), [1, 2, 3]) for g in gradients])


def adversarial_loss(fake_logits, form="minimax"):
    """What C minimises against D, from logits, [batch, 1] -> [batch] float32.

    `minimax`: log(1 - D(C(x))), as the paper writes it (equation 3, the min); its gradient fades while D wins.
    `non_saturating`: -log D(C(x)), the usual form in practice, with the same fixed point.
    """
    fake_logits = tf.squeeze(fake_logits, -1)
    if form == "minimax":
        return -tf.nn.softplus(fake_logits)
    if form == "non_saturating":
        return tf.nn.softplus(-fake_logits)
    raise ValueError(f"Unknown form {form!r}; known: {', '.join(ADVERSARIAL_FORMS)}.")
