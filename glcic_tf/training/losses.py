"""The paper's losses: one function for each equation, with one float32 value for each example.

The training step, which knows the global batch, takes the mean over the examples.
"""

import tensorflow as tf

from glcic_tf.training.settings import ADVERSARIAL_FORMS


def completion_loss(completed, images, mask, known_weight=0.0, mean="hole"):
    """Weighted squared error L(x, Mc) (paper, equation 2), as a mean over pixels and channels.

    Args:
        completed, images: [batch, height, width, 3] float32 in [0, 1].
        mask: [batch, height, width, 1] float32, 1 in the hole.
        known_weight: weight of the same error over the known pixels; 0 in the paper.
        mean: the pixels that the mean is over: "hole", those of each hole; "image", all of them, where those outside
            the hole count as 0, as in GLCIC-PyTorch. The paper writes a norm, and does not say which.

    Returns:
        (total, {"hole": ..., "known": ...}), each [batch] float32.
    """
    squared = tf.reduce_mean(tf.math.squared_difference(completed, images), axis=-1, keepdims=True)

    def mean_over(region):
        pixels = tf.reduce_sum(region if mean == "hole" else tf.ones_like(region), [1, 2, 3])
        return tf.reduce_sum(region * squared, [1, 2, 3]) / tf.maximum(pixels, 1.0)

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

    It keeps D smooth: without it D soon tells blurred completions from photos with certainty, and its gradient, which
    is all that C learns from, becomes useless.

    Args:
        gradients: list of [batch, height, width, 3], the gradients of D's logits with respect to its inputs.

    Returns:
        [batch] float32 (float64 if the gradients are); its weight is gamma / 2.
    """
    gradients = [g if g.dtype == tf.float64 else tf.cast(g, tf.float32) for g in gradients]
    return tf.add_n([tf.reduce_sum(tf.square(g), [1, 2, 3]) for g in gradients])


def feature_matching_loss(real, fake):
    """Mean distance between D's features of photos and of their completions, not in the paper.

    As in pix2pixHD (Wang et al. 2018, equation 5): it makes completions look to D like photos, not only win against it.

    Args:
        real, fake: lists of [batch, height, width, channels], one for each layer.

    Returns:
        [batch] float32: the mean over the layers of the mean absolute differences.
    """
    distances = [tf.reduce_mean(tf.abs(a - b), [1, 2, 3]) for a, b in zip(real, fake, strict=True)]
    return tf.add_n([d if d.dtype == tf.float64 else tf.cast(d, tf.float32) for d in distances]) / len(distances)


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
