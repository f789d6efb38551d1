"""Photos and masks for the tests of the SavedModel, and its signature as a function."""

import numpy as np
import tensorflow as tf


def signature_of(path):
    loaded = tf.saved_model.load(str(path))

    def call(image, mask):
        assert loaded  # lives as long as its function
        return loaded.signatures["serving_default"](image=tf.constant(image), mask=tf.constant(mask))[
            "completed"
        ].numpy()

    return call


def photo(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def mask_of(*shape, boxes=()):
    """Mask uint8 [batch, height, width, 1], 255 in boxes (example, top, left, bottom, right)."""
    mask = np.zeros((*shape, 1), np.uint8)
    for i, top, left, bottom, right in boxes:
        mask[i, top:bottom, left:right] = 255
    return mask
