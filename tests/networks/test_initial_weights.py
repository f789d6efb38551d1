"""First weights: the right distribution, and the same numbers for ever."""

import hashlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from glcic_tf.networks.completion import completion_network
from glcic_tf.networks.discriminator import context_discriminator
from glcic_tf.networks.initial_weights import draw
from glcic_tf.training import train_state
from glcic_tf.training.stages import resolve


def test_kernels_have_the_numbers_that_philox_gives_for_seed_and_path():
    """Computed again from the generator's bits; the literals keep them as they are in this version."""
    shape, seed, path = (5, 5, 4, 8), 7, "conv1/kernel"
    number = int(hashlib.sha256(path.encode()).hexdigest()[:16], 16)
    bits = np.random.Philox(key=np.array([seed, 5], np.uint64), counter=np.array([0, 0, number, 0], np.uint64))
    uniform = (bits.random_raw(5 * 5 * 4 * 8) >> np.uint64(11)) / 2**53
    limit = np.sqrt(6 / (5 * 5 * 4 + 5 * 5 * 8))
    expected = np.float32(-limit + 2 * limit * uniform).reshape(shape)
    drawn = draw(path, shape, seed)
    assert drawn.dtype == np.float32
    np.testing.assert_allclose(drawn, expected, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(drawn.ravel()[:3], [0.028937856, 0.0653235, -0.08452934], rtol=1e-6)


@pytest.mark.parametrize("kernel", [(5, 5, 4, 64), (3, 3, 256, 128), (4, 4, 64, 128), (8192, 64), (64, 1)])
def test_kernels_are_glorot_uniform_as_keras_has_it(kernel):
    drawn = draw("layer/kernel", kernel, 0).ravel()
    theirs = np.asarray(keras.initializers.GlorotUniform(seed=1)(kernel)).ravel()
    limit = np.sqrt(6 / (drawn.size / kernel[-1] + drawn.size / kernel[-2]))  # of fan in and fan out
    for values in (drawn, theirs):
        assert np.abs(values).max() <= limit * (1 + 1e-6) and np.abs(values).max() > limit * (1 - 20 / values.size)
    # The largest distance from the uniform distribution's function; one draw in a thousand passes 1.95 / sqrt(n).
    expected = (np.sort(drawn) / limit + 1) / 2
    distance = np.abs(expected - (np.arange(drawn.size) + 0.5) / drawn.size).max()
    assert distance < 1.95 / np.sqrt(drawn.size)
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 5 / np.sqrt(drawn.size)


def test_every_seed_and_path_has_its_own_numbers_and_every_call_the_same():
    shape = (3, 3, 8, 8)
    drawn = [draw(path, shape, seed) for path in ("conv1/kernel", "conv2/kernel") for seed in (0, 1, 2**31)]
    for i, ours in enumerate(drawn):
        for theirs in drawn[:i]:
            assert abs(np.corrcoef(ours.ravel(), theirs.ravel())[0, 1]) < 0.2  # 5 standard deviations
    np.testing.assert_array_equal(draw("conv1/kernel", shape, 0), drawn[0])


@pytest.mark.parametrize(
    ("kind", "value"), [("bias", 0), ("beta", 0), ("gamma", 1), ("moving_mean", 0), ("moving_variance", 1)]
)
def test_other_variables_begin_as_in_keras(kind, value):
    drawn = draw(f"bn1/{kind}", (6,), 3)
    assert drawn.dtype == np.float32 and drawn.shape == (6,) and (drawn == value).all()


def test_what_is_not_known_is_an_error():
    with pytest.raises(ValueError, match="No first value is known for dense/alpha"):
        draw("dense/alpha", (3,), 0)


def test_keras_would_begin_with_the_same_constants_and_limits():
    """Both networks as Keras itself makes them: kernels have the same spread, everything else the same values.

    Equal phases take 3 of the 16 dimensions of a deconvolution's kernel, and so much of its variance.
    """
    for network in (completion_network(1 / 4), context_discriminator(64, 32, 1 / 4)):
        for variable in network.variables:
            if variable.path == "mean_pixel/kernel":
                continue
            ours, theirs = draw(variable.path, tuple(variable.shape), 0), variable.numpy()
            if variable.path.endswith("/kernel"):
                share = 13 / 16 if variable.path.startswith("deconv") else 1
                expected = theirs.std() * np.sqrt(share)
                assert ours.std() == pytest.approx(expected, rel=6 / np.sqrt(ours.size)), variable.path
            else:
                np.testing.assert_array_equal(ours, theirs, err_msg=variable.path)


def test_a_run_begins_with_them_whatever_keras_seed_is(small_config):
    config = small_config(4)
    stages = {stage.phase: stage for stage in resolve(config)}
    keras.utils.set_random_seed(99)
    state = train_state.TrainState(config, (0.4, 0.5, 0.6), tf.distribute.get_strategy())
    for phase in ("discriminator", "joint"):
        state.enter(stages[phase])
    seeds = {"completion": config.seed, "discriminator": config.seed + 1 + stages["discriminator"].index}
    for part, seed in seeds.items():
        for variable in getattr(state, part).variables:
            if variable.path == "mean_pixel/kernel":
                np.testing.assert_allclose(variable.numpy().ravel(), (0.4, 0.5, 0.6), rtol=1e-6)
            else:
                expected = draw(variable.path, tuple(variable.shape), seed)
                np.testing.assert_array_equal(variable.numpy(), expected, err_msg=f"{part}/{variable.path}")
