"""Local patches and composites, on the device.

Shapes are static; coordinates are (y, x) in px. A mask is 1 in the hole and 0 where pixels are known.
"""

import tensorflow as tf


def local_patch(images, origin, patch_size):
    """Cut one square patch out of each image (paper, section 3.3); differentiable.

    Args:
        images: [batch, height, width, channels].
        origin: [batch, 2] int32, upper left corners (y, x); the patches lie inside the images.
        patch_size: side, px.

    Returns:
        [batch, patch_size, patch_size, channels].
    """
    offsets = tf.range(patch_size)
    rows = tf.gather(images, origin[:, :1] + offsets, axis=1, batch_dims=1)
    return tf.gather(rows, origin[:, 1:] + offsets, axis=2, batch_dims=1)


def composite(completed, images, mask):
    """What the discriminator and the user see: `completed` in the hole, `images` elsewhere; all [batch, ...]."""
    return mask * completed + (1.0 - mask) * images
