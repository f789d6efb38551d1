"""Optimisers against NumPy, learning rates, and loss scaling on one replica (several: test_distribution.py)."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from glcic_tf.training import optimizers
from glcic_tf.training.settings import OPTIMIZERS, OptimizerSpec

START = np.array([1.0, -2.0, 0.5], np.float32)


def variable(value=START):
    return keras.Variable(value, dtype="float32", name="weights")


def gradients(steps):
    """Gradients like those of a network: small, large, changing sign, and one that is always 0."""
    rng = np.random.default_rng(0)
    result = rng.normal(size=[steps, 3]) * [1e-4, 10.0, 0.0]
    return result.astype(np.float32)


def zeiler(gradients, x, learning_rate=1.0, rho=0.95, epsilon=1e-6):
    """Algorithm 1 of Zeiler's ADADELTA (2012)."""
    x, accumulated, updates = x.astype(np.float64), 0.0, 0.0
    table = []
    for g in gradients.astype(np.float64):
        accumulated = rho * accumulated + (1 - rho) * g**2
        update = -np.sqrt(updates + epsilon) / np.sqrt(accumulated + epsilon) * g
        updates = rho * updates + (1 - rho) * update**2
        x = x + learning_rate * update
        table.append(x)
    return np.array(table)


def kingma(gradients, x, learning_rate, beta_1, beta_2, epsilon):
    """Adam (2015), with its epsilon as at the end of section 2: added to the root before the bias correction."""
    x, m, v = x.astype(np.float64), 0.0, 0.0
    table = []
    for t, g in enumerate(gradients.astype(np.float64), 1):
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g**2
        rate = learning_rate * np.sqrt(1 - beta_2**t) / (1 - beta_1**t)
        x = x - rate * m / (np.sqrt(v) + epsilon)
        table.append(x)
    return np.array(table)


def course(optimizer, weights, gradients):
    """The weights after each gradient, as one tf.function with the loss scaling undone where there is one."""

    @tf.function(autograph=False)
    def step(gradient):
        scaled = optimizer.scale_loss(gradient)
        optimizers.apply_gradients(optimizer, [scaled], [weights])

    table = []
    for gradient in gradients:
        step(tf.constant(gradient))
        table.append(weights.numpy().copy())
    return np.array(table)


def test_adadelta_equals_zeilers_formula():
    weights = variable()
    optimizer = optimizers.make_optimizer(OptimizerSpec(), "float32", [weights])
    table = course(optimizer, weights, gradients(12))
    np.testing.assert_allclose(table, zeiler(gradients(12), START), rtol=1e-6)
    assert np.abs(table[-1] - START)[1] > 0.005  # and it moves: with Keras' learning rate it would look frozen


def test_first_step_of_adadelta_by_hand():
    """Gradient 2: the running average is 0.05 * 4, so the step is sqrt(1e-6) / sqrt(0.200001) * 2 = 0.00447212."""
    weights = variable([1.0])
    optimizer = optimizers.make_optimizer(OptimizerSpec(), "float32", [weights])
    optimizers.apply_gradients(optimizer, [tf.constant([2.0])], [weights])
    np.testing.assert_allclose(weights.numpy(), [1 - 0.00447212], rtol=1e-7)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (OptimizerSpec(rho=0.8, epsilon=1e-4, learning_rate=0.5), dict(rho=0.8, epsilon=1e-4, learning_rate=0.5)),
    ],
)
def test_adadelta_takes_its_settings(given, expected):
    weights = variable()
    optimizer = optimizers.make_optimizer(given, "float32", [weights])
    np.testing.assert_allclose(
        course(optimizer, weights, gradients(6)), zeiler(gradients(6), START, **expected), rtol=1e-6
    )


@pytest.mark.parametrize("beta_1", [0.9, 0.5])
def test_adam_equals_its_formula(beta_1):
    weights = variable()
    spec = OptimizerSpec(name="adam", learning_rate=1e-2, beta_1=beta_1, beta_2=0.99, epsilon=1e-7)
    optimizer = optimizers.make_optimizer(spec, "float32", [weights])
    golden = kingma(gradients(12), START, 1e-2, beta_1, 0.99, 1e-7)
    np.testing.assert_allclose(course(optimizer, weights, gradients(12)), golden, rtol=2e-6)


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_one_operation_does_what_keras_own_class_does(name):
    """The same weights and slots under the same names, so that checkpoints fit either; and nothing as large is made."""
    found = []
    for given in (None, {"adadelta": keras.optimizers.Adadelta, "adam": keras.optimizers.Adam}[name]):
        weights = variable()
        optimizer = optimizers.make_optimizer(OptimizerSpec(name=name, learning_rate=0.1), "float32", [weights])
        if given:
            optimizer = given.from_config(optimizer.get_config())
            optimizer.build([weights])
        course(optimizer, weights, gradients(6))
        found.append({v.path.split("/")[-1]: v.numpy() for v in [weights, *optimizer.variables]})
    ours, expected = found
    assert ours.keys() == expected.keys() and len(ours) == 5
    for path, value in expected.items():
        np.testing.assert_allclose(ours[path], value, rtol=2e-5, err_msg=path)  # 1 - beta_2 is rounded in one of them

    update = tf.function(lambda g: optimizers.apply_gradients(optimizer, [g], [weights]), autograph=False)
    optimizer = optimizers.make_optimizer(OptimizerSpec(name=name), "float32", [weights])
    operations = update.get_concrete_function(tf.zeros(3)).graph.get_operations()
    large = {op.type for op in operations if op.outputs and 3 in op.outputs[0].shape}
    assert large <= {"Placeholder", "Identity", "IdentityN"}, large


def test_unknown_optimiser():
    with pytest.raises(ValueError, match="'sgd'; known: adadelta, adam"):
        optimizers.make_optimizer(OptimizerSpec(name="sgd"), "float32", [variable()])


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_only_float16_scales_the_loss(policy):
    optimizer = optimizers.make_optimizer(OptimizerSpec(), policy, [variable()])
    assert optimizers.inner(optimizer) is optimizer
    assert optimizers.loss_scale_variables(optimizer) == {}
    assert float(optimizer.scale_loss(tf.constant(3.0))) == 3.0


def test_float16_scales_the_loss_and_takes_the_scale_back():
    weights = variable()
    optimizer = optimizers.make_optimizer(OptimizerSpec(), "mixed_float16", [weights])
    assert isinstance(optimizers.inner(optimizer), keras.optimizers.Adadelta)
    assert optimizers.inner(optimizer) is not optimizer
    scale = float(optimizers.loss_scale_variables(optimizer)["scale"].numpy())
    assert scale > 1
    assert float(optimizer.scale_loss(tf.constant(3.0))) == 3 * scale
    np.testing.assert_allclose(course(optimizer, weights, gradients(6)), zeiler(gradients(6), START), rtol=1e-6)
    assert int(optimizers.loss_scale_variables(optimizer)["steps_since_change"].numpy()) == 6


def clipped(gradients, norm):
    lengths = np.linalg.norm(gradients, axis=1, keepdims=True)
    return gradients * np.minimum(1, norm / np.maximum(lengths, 1e-30))


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_gradients_longer_than_the_norm_are_scaled_down_to_it(policy, jit_compile):
    """The norm is over all variables together, without the loss scale; shorter gradients stay as they are."""
    pair = [variable(START[:2]), variable(START[2:])]
    optimizer = optimizers.make_optimizer(OptimizerSpec(), policy, pair)

    @tf.function(autograph=False, jit_compile=jit_compile)
    def step(gradient):
        scaled = optimizer.scale_loss(gradient)
        optimizers.apply_gradients(optimizer, [scaled[:2], scaled[2:]], pair, 1e-3)

    given = np.random.default_rng(0).normal(size=[3, 2, 3]) * [[1e-4], [1e-2]]
    given = given.reshape(6, 3).astype(np.float32)
    assert (np.linalg.norm(given, axis=1) > 1e-3).tolist() == [False, True] * 3
    table = []
    for gradient in given:
        step(tf.constant(gradient, tf.float32))
        table.append(np.concatenate([v.numpy() for v in pair]))
    np.testing.assert_allclose(table, zeiler(clipped(given, 1e-3), START), rtol=1e-6)
    assert np.abs(table[-1] - zeiler(given, START)[-1]).max() > 1e-4


@pytest.mark.parametrize("clip_norm", [0.0, 0.1])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_overflow_skips_the_step_and_lowers_the_scale(bad, clip_norm):
    """If one of two variables overflows, neither they nor any slot change, even if gradients are clipped."""
    pair = [variable(), variable([3.0])]
    optimizer = optimizers.make_optimizer(OptimizerSpec(), "mixed_float16", pair)
    optimizers.apply_gradients(optimizer, [tf.ones(3), tf.ones(1)], pair, clip_norm)
    before = [v.numpy().copy() for v in [*pair, *optimizers.inner(optimizer).variables]]
    scale = float(optimizers.loss_scale_variables(optimizer)["scale"].numpy())
    optimizers.apply_gradients(optimizer, [tf.ones(3), tf.constant([bad], tf.float32)], pair, clip_norm)
    for expected, found in zip(before, [*pair, *optimizers.inner(optimizer).variables], strict=True):
        np.testing.assert_array_equal(found.numpy(), expected)
    assert float(optimizers.loss_scale_variables(optimizer)["scale"].numpy()) == scale / 2
    optimizers.apply_gradients(optimizer, [tf.ones(3), tf.ones(1)], pair, clip_norm)
    assert not np.array_equal(pair[0].numpy(), before[0]), "training does not go on after an overflow"


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_carry_over_goes_on_as_if_nothing_had_been(policy, name):
    """Four steps with one optimiser and four with its successor are eight with one."""
    spec = OptimizerSpec(name=name, learning_rate=0.1)
    whole = variable()
    golden = course(optimizers.make_optimizer(spec, policy, [whole]), whole, gradients(8))

    weights = variable()
    old = optimizers.make_optimizer(spec, policy, [weights])
    course(old, weights, gradients(8)[:4])
    if policy == "mixed_float16":
        optimizers.loss_scale_variables(old)["scale"].assign(64.0)
    new = optimizers.make_optimizer(spec, policy, [weights])
    optimizers.carry_over(old, new)
    np.testing.assert_array_equal(course(new, weights, gradients(8)[4:])[-1], golden[-1])
    if policy == "mixed_float16":
        scaling = {key: float(value.numpy()) for key, value in optimizers.loss_scale_variables(new).items()}
        assert scaling == {"scale": 64.0, "steps_since_change": 8.0}


def rates(spec, steps, at):
    return [float(optimizers.learning_rate(spec, tf.constant(step, tf.int64), steps)) for step in at]


def test_constant_learning_rate():
    assert rates(OptimizerSpec(learning_rate=0.25), 100, [0, 50, 99]) == [0.25] * 3


def test_cosine_learning_rate():
    spec = OptimizerSpec(learning_rate=2.0, schedule="cosine", final_fraction=0.1)
    expected = [2.0, 2 * (0.1 + 0.9 * (1 + np.sqrt(0.5)) / 2), 1.1, 0.2, 0.2]
    np.testing.assert_allclose(rates(spec, 400, [0, 100, 200, 400, 1000]), expected, rtol=1e-5)
    falling = rates(spec, 400, range(0, 400, 40))
    assert falling == sorted(falling, reverse=True)
    np.testing.assert_allclose(rates(OptimizerSpec(schedule="cosine"), 10, [10]), [0.0], atol=1e-7)


def test_warm_up_reaches_the_peak_and_is_never_zero():
    spec = OptimizerSpec(learning_rate=2.0, warmup_steps=4)
    np.testing.assert_allclose(rates(spec, 100, [0, 1, 2, 3, 4, 99]), [0.5, 1.0, 1.5, 2.0, 2.0, 2.0])


def test_cosine_begins_after_the_warm_up():
    spec = OptimizerSpec(learning_rate=1.0, schedule="cosine", warmup_steps=10)
    np.testing.assert_allclose(rates(spec, 110, [0, 9, 10, 60, 110]), [0.1, 1.0, 1.0, 0.5, 0.0], atol=1e-6)


def test_warm_up_longer_than_the_stage_is_only_cut_off():
    spec = OptimizerSpec(learning_rate=1.0, schedule="cosine", warmup_steps=10)
    np.testing.assert_allclose(rates(spec, 4, [0, 3]), [0.1, 0.4], rtol=1e-6)
