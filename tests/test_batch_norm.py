"""batch_norm: the fused layer gives what Keras' own gives, and is replaced by it in every file."""

import json
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from glcic_tf import folding, model_file, networks
from glcic_tf.batch_norm import FusedBatchNormalization
from tests.test_folding import batch, randomize

SETTINGS = {"momentum": 0.9, "epsilon": 1e-5}
ROUNDING = {"float32": 1e-5, "mixed_bfloat16": 0.02, "mixed_float16": 3e-3, "float64": 1e-12}


def layer_and_inputs(policy, kind=FusedBatchNormalization, shape=(3, 5, 7, 4), **settings):
    rng = np.random.default_rng(0)
    layer = kind(**SETTINGS, **settings, dtype=policy)
    inputs = tf.constant(rng.normal(2.0, 3.0, shape), layer.compute_dtype)
    layer.build(inputs.shape)
    for variable in (layer.gamma, layer.beta):
        variable.assign(rng.normal(1.0, 0.5, shape[-1:]))
    return layer, inputs


@pytest.mark.parametrize("policy", list(ROUNDING))
@pytest.mark.parametrize("shape", [(3, 5, 7, 4), (1, 1, 2, 1), (2, 16, 16, 33)])
def test_values_and_moving_statistics(policy, shape):
    layer, inputs = layer_and_inputs(policy, shape=shape)
    x = inputs.numpy().astype(np.float64)
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    expected = (x - mean) / np.sqrt(variance + 1e-5) * layer.gamma.numpy() + layer.beta.numpy()
    outputs = layer(inputs, training=True)
    assert outputs.dtype == layer.compute_dtype
    np.testing.assert_allclose(outputs.numpy().astype(np.float64), expected, atol=ROUNDING[policy] * 3)
    np.testing.assert_allclose(layer.moving_mean.numpy(), 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance.numpy(), 0.9 + 0.1 * variance, rtol=1e-5)


def test_a_single_value_has_no_variance():
    layer, inputs = layer_and_inputs("float32", shape=(1, 1, 1, 3))
    np.testing.assert_allclose(layer(inputs, training=True)[0, 0, 0], layer.beta.numpy(), atol=1e-6)
    np.testing.assert_allclose(layer.moving_variance.numpy(), 0.9, rtol=1e-6)


@pytest.mark.parametrize("policy", list(ROUNDING))
def test_what_does_not_train_is_keras_own(policy):
    fused, inputs = layer_and_inputs(policy)
    own, _ = layer_and_inputs(policy, keras.layers.BatchNormalization)
    for layer in (fused, own):
        layer.moving_mean.assign([1.0, -2.0, 0.5, 3.0])
        layer.moving_variance.assign([0.5, 2.0, 9.0, 4.0])
    np.testing.assert_array_equal(fused(inputs, training=False), own(inputs, training=False))
    fused.trainable = False
    np.testing.assert_array_equal(fused(inputs, training=True), own(inputs, training=False))
    np.testing.assert_array_equal(fused.moving_mean, own.moving_mean)


@pytest.mark.parametrize("policy", ["float32", "float64"])
def test_first_and_second_derivatives(policy):
    """Against Keras' layer in float64, whose synchronized statistics are differentiable to any order."""
    found = []
    kinds = ((FusedBatchNormalization, policy), (keras.layers.BatchNormalization, "float64"))
    for kind, dtype in kinds:
        layer, inputs = layer_and_inputs(dtype, kind, synchronized=True)
        weights = tf.constant(np.random.default_rng(1).normal(size=inputs.shape), dtype)

        @tf.function(autograph=False)
        def gradients(layer=layer, inputs=inputs, weights=weights):
            variables = [v.value for v in layer.trainable_variables]
            with tf.GradientTape() as outer:
                outer.watch([inputs])
                with tf.GradientTape() as inner:
                    inner.watch(inputs)
                    result = tf.reduce_sum(weights * tf.sin(layer(inputs, training=True)))
                gradient = inner.gradient(result, inputs)
                penalty = tf.reduce_sum(tf.square(gradient))
            return [gradient, *outer.gradient(penalty, [inputs, *variables])]

        found.append([g.numpy() for g in gradients() if g is not None])
    assert len(found[0]) == len(found[1]) == 4
    for ours, expected in zip(*found, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_xla_gives_the_same():
    layer, inputs = layer_and_inputs("float32")
    expected = layer(inputs, training=True)
    compiled = tf.function(lambda x: layer(x, training=True), jit_compile=True, autograph=False)
    np.testing.assert_allclose(compiled(inputs), expected, atol=1e-5)


@pytest.mark.parametrize("make", ["model_file", "folding"])
def test_networks_for_use_have_keras_own(make, tmp_path):
    trained = randomize(networks.completion_network(1 / 16, fused=True, dtype="mixed_bfloat16"))
    own = networks.completion_network(1 / 16)
    own.set_weights(trained.get_weights())
    if make == "folding":
        copy = folding.fold_batch_norm(trained)
        assert not [layer for layer in copy.layers if isinstance(layer, keras.layers.BatchNormalization)]
    else:
        model_file.save(trained, tmp_path / "c.keras")
        with zipfile.ZipFile(tmp_path / "c.keras") as archive:
            assert "Fused" not in json.dumps(json.loads(archive.read("config.json")))
        copy = model_file.load(tmp_path / "c.keras")
    expected = own(batch(), training=False)
    np.testing.assert_allclose(copy(batch(), training=False), expected, atol=1e-4)
