"""A completion network of a few layers, for tests of what happens around it: to trace the real one takes seconds.

`python -m tests.small_networks train --flag=value` is `glcic train` with it.
"""

import keras
import numpy as np
from keras import layers

from glcic_tf.networks import blocks, completion


def completion_network(
    width=1.0,
    mean_pixel=(0.5, 0.5, 0.5),
    synchronized=False,
    dtype=None,
    relu_first=False,
    epsilon=blocks.BATCH_NORM_EPSILON,
    input_scale=1.0,
    input_offset=(0.0, 0.0, 0.0),
    output="sigmoid",
):
    """Build a C with one layer of each kind of the real one, under its names, from the same blocks."""
    policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
    full = keras.config.floatx()
    like_the_real_one = (relu_first, epsilon, synchronized)
    with blocks.defaults(full):
        image, mask = (keras.Input((None, None, n), name=name) for name, n in (("image", 3), ("mask", 1)))
        known = layers.Rescaling(-1.0, offset=1.0, name="known")(mask)
        seen = blocks.rescaled(image, input_scale, input_offset, "rescaled_image")
        mean = layers.Conv2D(3, 1, use_bias=False, trainable=False, name="mean_pixel")
        x = layers.Add(name="filled")([layers.Multiply(name="known_pixels")([seen, known]), mean(mask)])
        x = layers.Concatenate(name="masked_input")([x, mask])
    with blocks.defaults(policy):
        x = blocks.downsample(x, blocks.scaled(64, width), 3, "conv1")
        x = blocks.norm_and_relu(x, "", 1, *like_the_real_one)
        x = layers.Conv2D(blocks.scaled(256, width), 3, padding="same", dilation_rate=2, name="conv4")(x)
        x = blocks.norm_and_relu(x, "", 4, *like_the_real_one)
        x = layers.Conv2DTranspose(blocks.scaled(64, width), 4, strides=2, padding="same", name="deconv15")(x)
        x = blocks.norm_and_relu(x, "", 15, *like_the_real_one)
    with blocks.defaults(full):
        x = layers.Conv2D(3, 3, padding="same", name="conv17")(x)
        clip, name = output == "clip", "completed"
        x = layers.ReLU(max_value=1.0, name=name)(x) if clip else layers.Activation(output, name=name)(x)
    network = keras.Model({"image": image, "mask": mask}, x, name="completion_network")
    mean.set_weights([np.reshape(np.asarray(mean_pixel, np.float32), (1, 1, 1, 3))])
    return network


if __name__ == "__main__":
    from glcic_tf.__main__ import main

    completion.completion_network = completion_network
    main()
