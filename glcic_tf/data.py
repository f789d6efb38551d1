"""Training batches as a tf.data.Dataset, addressed by step; the examples themselves are made in `examples`."""

import tensorflow as tf

from glcic_tf import examples


def batches(photos, stage, seed, start, mirror=False, workers=0):
    """Make the dataset of a stage's batches, from the run's step `start` on to the stage's end.

    Args:
        photos: an examples.Photos.
        stage: a schedule.Stage.
        seed: the run's seed.
        start: the run's step of the first batch.
        mirror: mirror half of the crops left to right.
        workers: photos read at once; 0: TensorFlow's choice.

    Returns:
        tf.data.Dataset of dicts as `examples.batch` makes them:
            `image` [batch, image_size, image_size, 3] uint8 RGB;
            `mask` [batch, image_size, image_size, 1] uint8, 1 in the hole;
            `patch` [batch, 2] int32, upper left corner (y, x) of the local patch on the hole;
            `real_patch` [batch, 2] int32, that of the patch of the real image, on another hole.
    """
    size = stage.image_size
    shapes = {"image": [size, size, 3], "mask": [size, size, 1], "patch": [2], "real_patch": [2]}

    def make(number):
        made = examples.example(photos, stage, seed, number, mirror)
        return [made[name] for name in shapes]

    @tf.autograph.experimental.do_not_convert  # it has nothing to convert
    def example(number):
        # Not stateful: an example depends on its number alone, and TensorFlow may make several at once.
        made = tf.numpy_function(make, [number], [tf.uint8, tf.uint8, tf.int32, tf.int32], stateful=False)
        return {name: tf.ensure_shape(value, shapes[name]) for name, value in zip(shapes, made, strict=True)}

    dataset = tf.data.Dataset.range(examples.first_example(stage, start), examples.first_example(stage, stage.end))
    dataset = dataset.map(example, num_parallel_calls=workers or tf.data.AUTOTUNE, deterministic=True)
    return dataset.batch(stage.batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)
