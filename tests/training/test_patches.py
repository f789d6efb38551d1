"""Local patches and composites against NumPy."""

import numpy as np
import tensorflow as tf

from glcic_tf.training.patches import composite, local_patch


def test_local_patch_equals_slicing_and_passes_gradients_back():
    rng = np.random.default_rng(0)
    images = rng.random([5, 10, 12, 3], np.float32)
    origin = np.array([[0, 0], [6, 8], [0, 8], [6, 0], [2, 3]])  # four corners and the middle
    upstream = rng.random([5, 4, 4, 3], np.float32)

    @tf.function(autograph=False)
    def cut(images, origin):
        with tf.GradientTape() as tape:
            tape.watch(images)
            patches = local_patch(images, origin, 4)
            total = tf.reduce_sum(patches * upstream)
        return patches, tape.gradient(total, images)

    patches, gradient = cut(tf.constant(images), tf.constant(origin, tf.int32))
    expected = np.zeros_like(images)
    for i, (y, x) in enumerate(origin):
        np.testing.assert_array_equal(patches[i], images[i, y : y + 4, x : x + 4])
        expected[i, y : y + 4, x : x + 4] = upstream[i]
    np.testing.assert_array_equal(tf.convert_to_tensor(gradient), expected)


def test_composite_keeps_known_pixels_bit_for_bit():
    rng = np.random.default_rng(0)
    images, completed = rng.random([2, 3, 16, 16, 3], np.float32)
    images[0] = np.round(images[0] * 255) / np.float32(255)
    mask = (rng.random([3, 16, 16, 1]) < 0.5).astype(np.float32)
    result = composite(tf.constant(completed), tf.constant(images), tf.constant(mask)).numpy()
    np.testing.assert_array_equal(result, np.where(mask == 1, completed, images))
