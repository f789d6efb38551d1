"""Training batches as a tf.data.Dataset, addressed by step; the examples themselves are made in `examples`."""

import numpy as np
import tensorflow as tf

from glcic_tf.data import examples


def batches(photos, stage, seed, start, mirror=False, workers=0, context=None, accumulate_steps=1):
    """Make the dataset of a stage's batches, from the run's step `start` on to the stage's end.

    Args:
        photos: an examples.Photos.
        stage: a stages.Stage.
        seed: the run's seed.
        start: the run's step of the first batch.
        mirror: mirror half of the crops left to right.
        workers: photos read at once; 0: TensorFlow's choice.
        context: tf.distribute.InputContext: make the shares of the batches that this worker's replicas take, one
            replica after the other; None: whole batches.
        accumulate_steps: parts that a replica takes its share in. The first parts of all replicas together are the
            first examples of the batch, and so on: so what trains together does not depend on the number of replicas.

    Returns:
        tf.data.Dataset of dicts as `examples.batch` makes them; `batch` is the batch's size or that of a share:
            `image` [batch, image_size, image_size, 3] uint8 RGB;
            `mask` [batch, image_size, image_size, 1] uint8, 1 in the hole;
            `patch` [batch, 2] int32, upper left corner (y, x) of the local patch on the hole;
            `real_patch` [batch, 2] int32, that of the patch of the real image, on another hole.
    """
    size = stage.image_size
    shapes = {"image": [size, size, 3], "mask": [size, size, 1], "patch": [2], "real_patch": [2]}

    context = context or tf.distribute.InputContext()
    replicas, pipelines = context.num_replicas_in_sync, context.num_input_pipelines
    places = np.arange(stage.batch_size).reshape(accumulate_steps, replicas, -1)
    places = places.swapaxes(0, 1).reshape(pipelines, -1)[context.input_pipeline_id]

    def make(index):
        step, place = divmod(int(index), len(places))
        made = examples.example(photos, stage, seed, examples.first_example(stage, step) + places[place], mirror)
        return [made[name] for name in shapes]

    @tf.autograph.experimental.do_not_convert  # it has nothing to convert
    def example(index):
        # Not stateful: an example depends on its number alone, and TensorFlow may make several at once.
        made = tf.numpy_function(make, [index], [tf.uint8, tf.uint8, tf.int32, tf.int32], stateful=False)
        return {name: tf.ensure_shape(value, shapes[name]) for name, value in zip(shapes, made, strict=True)}

    dataset = tf.data.Dataset.range(start * len(places), stage.end * len(places))
    dataset = dataset.map(example, num_parallel_calls=workers or tf.data.AUTOTUNE, deterministic=True)
    dataset = dataset.batch(stage.batch_size // replicas, drop_remainder=True)
    if pipelines > 1:  # without an end, workers need not ask each other in each step whether all have a batch
        dataset = dataset.repeat()
    return dataset.prefetch(tf.data.AUTOTUNE)
