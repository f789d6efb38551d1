"""The moving average of C, and equal phases, after each update: against NumPy, step by step."""

import numpy as np
import pytest
import tensorflow as tf

from glcic_tf.training import steps, train_state
from glcic_tf.training.stages import resolve

SIZE, PATCH, BATCH = 16, 8, 4


def make_dataset(count):
    rng = np.random.default_rng(0)
    mask = np.zeros((count, BATCH, SIZE, SIZE, 1), np.uint8)
    mask[:, :, 4:9, 5:11] = 1
    return tf.data.Dataset.from_tensor_slices(
        {
            "image": rng.integers(0, 256, (count, BATCH, SIZE, SIZE, 3), dtype=np.uint8),
            "mask": mask,
            "patch": rng.integers(0, SIZE - PATCH + 1, (count, BATCH, 2), dtype=np.int32),
            "real_patch": rng.integers(0, SIZE - PATCH + 1, (count, BATCH, 2), dtype=np.int32),
        }
    )


def weights(network):
    return {variable.path: variable.numpy() for variable in network.variables}


@pytest.mark.parametrize(
    ("precision", "accumulate_steps", "jit_compile"),
    [("float32", 1, False), ("float32", 2, False), ("float32", 1, True), ("mixed_float16", 1, False)],
)
def test_average_is_that_of_the_weights_after_each_update_of_c(small_config, precision, accumulate_steps, jit_compile):
    """It moves once a step, however many parts that has, and not in the discriminator phase. Decay grows to 0.3."""
    config = small_config(BATCH)
    config.precision, config.accumulate_steps, config.jit_compile = precision, accumulate_steps, jit_compile
    config.average_decay, config.equal_phases = 0.3, True
    config.feature_matching_weight, config.optimizer.clip_norm = 1.0, 1.0
    config.discriminator.use_global = False
    for stage in config.stages.values():
        stage.steps = 4
    state = train_state.TrainState(config, (0.4, 0.5, 0.6), tf.distribute.get_strategy())
    average = weights(state.completion)
    assert state.result is state.average
    for stage in resolve(config):
        state.enter(stage)
        loop, iterator = steps.make_loop(state, stage, jit_compile), iter(make_dataset(4))
        for step in range(stage.start, stage.end):
            before = weights(state.completion)
            assert int(loop(iterator, tf.constant(1))["bad_step"]) == -1 or precision == "mixed_float16"
            now, found = weights(state.completion), weights(state.average)
            if stage.phase == "discriminator":
                assert all(np.array_equal(now[name], before[name]) for name in now)
            else:
                decay = min(0.3, (1 + step) / (10 + step))
                average = {name: decay * average[name] + (1 - decay) * now[name] for name in now}
            for name, expected in average.items():
                np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-6, err_msg=f"step {step} {name}")
    kernels = now["deconv15/kernel"], found["deconv15/kernel"]
    assert not np.array_equal(*kernels)
    for kernel in kernels:
        sums = np.stack([kernel[row::2, column::2].sum((0, 1)) for row in (0, 1) for column in (0, 1)])
        np.testing.assert_allclose(sums, np.broadcast_to(sums[0], sums.shape), atol=1e-6)


def test_without_it_the_result_is_c(small_config):
    state = train_state.TrainState(small_config(BATCH), (0.4, 0.5, 0.6), tf.distribute.get_strategy())
    assert state.average is None and state.result is state.completion
