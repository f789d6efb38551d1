"""A tiny run's config, and comparisons of what runs leave."""

import numpy as np
import tensorflow as tf

from glcic_tf.configs import tiny
from glcic_tf.training.checkpoints import Checkpoints


def make_config(steps=20):
    config = tiny.get_config()
    config.checkpoint_every_steps = config.log_every_steps = 5
    config.sample_every_steps = 10
    config.steps_per_loop = 5
    for stage in config.stages.values():
        stage.steps = steps
    return config


def variables(workdir):
    """Every variable of the newest checkpoint but the notes."""
    return stored(Checkpoints(workdir / "checkpoints").latest()[0])


def stored(path):
    reader = tf.train.load_checkpoint(path)
    names = [name for name in reader.get_variable_to_shape_map() if not name.startswith(("meta/", "_CHECKPOINTABLE"))]
    return {name: reader.get_tensor(name) for name in names if "save_counter" not in name}


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
