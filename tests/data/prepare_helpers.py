"""A folder of photos of all kinds, and its shards."""

from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from glcic_tf.data.prepare import prepare_folder
from glcic_tf.data.prepare.entry import Settings

ROOT = Path(__file__).parents[2]
SETTINGS = Settings(short_side_px=40)
SHARD_MB = 0.008


def smooth(seed, height, width):
    """Random colours that JPEG keeps well."""
    small = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


COPIED = {*(f"some/small {i}.jpg" for i in range(6)), "upright.jpg"}


def prepared(folder, output, **options):
    return prepare_folder.prepare(
        folder, output, **{"photo_settings": SETTINGS, "shard_mb": SHARD_MB, "processes": 1} | options
    )


def contents(output):
    """{file: bytes}, the notes in parts/ included."""
    return {str(path.relative_to(output)): path.read_bytes() for path in sorted(output.rglob("*")) if path.is_file()}


def examples_of(output):
    """What TensorFlow reads: it checks lengths and CRCs."""
    features = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/filename": tf.io.FixedLenFeature([], tf.string),
        "image/format": tf.io.FixedLenFeature([], tf.string),
        "image/height": tf.io.FixedLenFeature([], tf.int64),
        "image/width": tf.io.FixedLenFeature([], tf.int64),
    }
    paths = sorted(str(path) for path in output.glob("*.tfrecord"))
    dataset = tf.data.TFRecordDataset(paths)
    return [
        {name: value.numpy() for name, value in tf.io.parse_single_example(one, features).items()} for one in dataset
    ]
