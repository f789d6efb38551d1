"""Datasets of batches against `examples.batch`, from any step on and with any number of workers."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from glcic_tf.data import dataset, examples
from glcic_tf.data.examples import Photos
from glcic_tf.data.random_holes import HoleSpec
from glcic_tf.training import stages


def write_photos(folder, count, broken=()):
    """Noise, so that any two crops differ."""
    rng = np.random.default_rng(0)
    paths = [folder / f"{i:04d}.png" for i in range(count)]
    for i, path in enumerate(paths):
        Image.fromarray(rng.integers(0, 256, [20, 28, 3], np.uint8)).save(path)
        if i in broken:
            path.write_bytes(path.read_bytes()[:-40])
    return paths


@pytest.fixture
def stage(small_config):
    """30 steps of four crops of 16 px, from the run's step 10 on."""
    hole = HoleSpec(kind="free_form", brush_min_px=2, brush_max_px=4)
    first = stages.resolve(small_config(4))[0]
    return dataclasses.replace(first, start=10, steps=30, first_example=77, hole=hole)


@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("mirror", [False, True])
def test_dataset_has_the_batches_of_its_steps(tmp_path, stage, workers, mirror):
    paths = write_photos(tmp_path, 101, broken=[0])
    found = list(dataset.batches(Photos(paths), stage, 3, 10, mirror, workers).as_numpy_iterator())
    assert len(found) == 30
    photos = Photos(paths)
    for step, batch in enumerate(found, start=10):
        expected = examples.batch(photos, stage, 3, step, mirror)
        assert batch.keys() == expected.keys()
        for name in batch:
            assert batch[name].dtype == expected[name].dtype
            np.testing.assert_array_equal(batch[name], expected[name], err_msg=f"{name} of step {step}")
    tail = list(dataset.batches(Photos(paths), stage, 3, 38, mirror, workers).as_numpy_iterator())
    assert len(tail) == 2
    for batch, expected in zip(tail, found[28:], strict=True):
        for name in batch:
            np.testing.assert_array_equal(batch[name], expected[name], err_msg=name)


def test_shapes_are_known_before_any_photo_is_read(stage):
    """Static, the batch included, as compiled steps need them."""
    assert dataset.batches(Photos(["missing.png"]), stage, 0, 10).element_spec == {
        "image": tf.TensorSpec([4, 16, 16, 3], tf.uint8),
        "mask": tf.TensorSpec([4, 16, 16, 1], tf.uint8),
        "patch": tf.TensorSpec([4, 2], tf.int32),
        "real_patch": tf.TensorSpec([4, 2], tf.int32),
    }


def test_failures_inside_tf_data_leave_their_reason(tmp_path, stage):
    photos = Photos(write_photos(tmp_path, 8, broken=range(2, 8)))
    with pytest.raises(tf.errors.OpError):
        list(dataset.batches(photos, stage, 0, 10))
    assert "photos cannot be decoded, more than 1%" in photos.error
    assert str(tmp_path) in photos.error
    small = Photos(write_photos(tmp_path, 2), enlarge=False)
    with pytest.raises(tf.errors.OpError):
        list(dataset.batches(small, dataclasses.replace(stage, image_size=24), 0, 10))
    assert "none of the 2 photos can be used" in small.error
