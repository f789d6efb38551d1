"""Stages and photos for the tests of examples and batches."""

import numpy as np
from PIL import Image

from glcic_tf.data.random_holes import HoleSpec
from glcic_tf.training.settings import OptimizerSpec
from glcic_tf.training.stages import Stage


def stage(**changes):
    """Two steps of four crops of 16 px."""
    values = dict(
        name="completion",
        index=0,
        phase="completion",
        start=0,
        steps=2,
        first_example=0,
        image_size=16,
        patch_size=8,
        short_edge_min_px=16,
        short_edge_max_px=24,
        batch_size=4,
        known_weight=0.0,
        known_weight_end=0.0,
        loss_mean="hole",
        adversarial_weight=0.0,
        adversarial_form="minimax",
        feature_matching_weight=0.0,
        r1_gamma=0.0,
        hole=HoleSpec(min_px=3, max_px=6),
        optimizer=OptimizerSpec(),
        discriminator_optimizer=OptimizerSpec(),
    )
    return Stage(**values | changes)


def write_photos(folder, count, size=(20, 28)):
    """Noise, so that any two crops differ; photo i's blue is i everywhere."""
    rng = np.random.default_rng(0)
    paths = [folder / f"{i:04d}.png" for i in range(count)]
    for i, path in enumerate(paths):
        pixels = rng.integers(0, 256, [*size, 3], np.uint8)
        pixels[..., 2] = i
        Image.fromarray(pixels).save(path)
    return paths


def break_photo(path):
    path.write_bytes(path.read_bytes()[:-40])
