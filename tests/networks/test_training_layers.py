"""training_layers: they give what Keras' own give, and are replaced by those in every file."""

import contextlib
import json
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_folding import batch, randomize

from glcic_tf.networks import folding, model_file
from glcic_tf.networks.completion import completion_network
from glcic_tf.networks.training_layers import DilatedConv2D, PaddedConv2D, SyncBatchNormalization, traced_for_xla
from glcic_tf.training import devices

SETTINGS = {"momentum": 0.9, "epsilon": 1e-5}
ROUNDING = {"float32": 1e-5, "mixed_bfloat16": 0.02, "mixed_float16": 3e-3, "float64": 1e-12}


def layer_and_inputs(policy, kind=SyncBatchNormalization, shape=(3, 5, 7, 4)):
    rng = np.random.default_rng(0)
    layer = kind(**SETTINGS, synchronized=True, dtype=policy)
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
    rtol = max(1e-5, ROUNDING[policy] / 4)  # a channel is moved in the policy's dtype first
    np.testing.assert_allclose(layer.moving_mean.numpy(), 0.1 * mean, rtol=rtol)
    np.testing.assert_allclose(layer.moving_variance.numpy(), 0.9 + 0.1 * variance, rtol=rtol)


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
    kinds = ((SyncBatchNormalization, policy), (keras.layers.BatchNormalization, "float64"))
    for kind, dtype in kinds:
        layer, inputs = layer_and_inputs(dtype, kind)
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


def gradients_on_replicas(strategy, kind, inputs):
    """Outputs, moving statistics and first and second derivatives; inputs [batch, height, width, channels]."""
    with strategy.scope():
        layer = kind(**SETTINGS, synchronized=True, dtype="float64")
        layer.build(inputs.shape)
    weights = tf.constant(np.random.default_rng(1).normal(size=inputs.shape))

    def on_replica(x, w):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                outputs = layer(x, training=True)
                result = tf.reduce_sum(w * tf.sin(outputs))
            gradient = inner.gradient(result, x)
            penalty = tf.reduce_sum(tf.square(gradient))
        return outputs, gradient, outer.gradient(penalty, x)

    @tf.function(autograph=False)
    def run(x, w):
        return strategy.run(on_replica, args=(x, w))

    count = strategy.num_replicas_in_sync
    parts = [
        strategy.experimental_distribute_values_from_function(
            lambda context, array=array: tf.split(array, count)[context.replica_id_in_sync_group]
        )
        for array in (inputs, weights)
    ]
    results = [tf.concat(strategy.experimental_local_results(value), 0).numpy() for value in run(*parts)]
    return [*results, layer.moving_mean.numpy(), layer.moving_variance.numpy()]


def test_two_replicas_are_keras_own_synchronized():
    _, inputs = layer_and_inputs("float64", shape=(4, 5, 7, 3))
    strategy = devices.make_strategy("mirrored")
    assert strategy.num_replicas_in_sync == 2
    ours = gradients_on_replicas(strategy, SyncBatchNormalization, inputs)
    own = gradients_on_replicas(strategy, keras.layers.BatchNormalization, inputs)
    alone = gradients_on_replicas(devices.make_strategy("cpu"), SyncBatchNormalization, inputs)
    for i, (a, b) in enumerate(zip(ours, own, strict=True)):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
        if i != 2:  # the penalty's derivative there is that of its own replica's part
            np.testing.assert_allclose(a, alone[i], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("mean, deviation", [(2.0, 3.0), (100.0, 0.1), (1000.0, 0.0)])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_channels_far_from_0_keep_their_variance(mean, deviation, jit_compile):
    """XLA takes the variance from a difference of squares, of which nothing might be left."""
    layer, inputs = layer_and_inputs("float32")
    inputs = tf.constant(mean + deviation * np.random.default_rng(2).normal(size=(4, 9, 9, 4)), tf.float32)
    weights = tf.constant(np.random.default_rng(1).normal(size=inputs.shape), tf.float32)

    @tf.function(jit_compile=jit_compile, autograph=False)
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = layer(x, training=True)
            loss = tf.reduce_sum(weights * outputs)
        return outputs, tape.gradient(loss, x)

    outputs, gradient = run(inputs)
    x = inputs.numpy().astype(np.float64)
    variance = x.var((0, 1, 2))
    expected = (x - x.mean((0, 1, 2))) / np.sqrt(variance + 1e-5) * layer.gamma.numpy() + layer.beta.numpy()
    np.testing.assert_allclose(outputs, expected, atol=0.01)
    assert np.isfinite(gradient).all()


def values_and_gradients(layer, inputs, for_xla):
    """Outputs and the gradients of a sum over them, as XLA computes what was traced for it or as it comes."""
    weights = tf.constant(np.random.default_rng(1).normal(size=layer(inputs).shape), layer.compute_dtype)

    @tf.function(jit_compile=for_xla, autograph=False)
    def run(x):
        with traced_for_xla() if for_xla else contextlib.nullcontext(), tf.GradientTape() as tape:
            tape.watch(x)
            outputs = layer(x, training=True)
            loss = tf.reduce_sum(weights * tf.sin(outputs))
            return outputs, *tape.gradient(loss, [x, *layer.trainable_variables])

    operations = {operation.type for operation in run.get_concrete_function(inputs).graph.get_operations()}
    return [value.numpy() for value in run(inputs)], operations


@pytest.mark.parametrize("moving_mean", [0.0, 2.0])
def test_batch_norm_for_xla_gives_the_same(moving_mean):
    found = []
    for for_xla in (True, False):
        layer, inputs = layer_and_inputs("float64")
        layer.moving_mean.assign([moving_mean] * 4)
        values, operations = values_and_gradients(layer, inputs, for_xla)
        assert not any(name.startswith("FusedBatchNorm") for name in operations)  # float64 has none either way
        found.append([*values, layer.moving_mean.numpy(), layer.moving_variance.numpy()])
    for ours, expected in zip(*found, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("far", [1.0, 1000.0])
def test_batch_norm_for_xla_needs_a_moving_mean_that_is_near(far):
    """With it, a channel far from 0 keeps its variance; without it, results are inexact and still finite."""
    layer, _ = layer_and_inputs("float32")
    inputs = tf.constant(far + 0.1 * np.random.default_rng(2).normal(size=(4, 9, 9, 4)), tf.float32)
    (outputs, *gradients), _ = values_and_gradients(layer, inputs, True)
    assert np.isfinite(outputs).all() and all(np.isfinite(gradient).all() for gradient in gradients)
    layer.moving_mean.assign([far] * 4)
    (outputs, *_), _ = values_and_gradients(layer, inputs, True)
    x = inputs.numpy().astype(np.float64)
    expected = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5) * layer.gamma.numpy() + layer.beta.numpy()
    np.testing.assert_allclose(outputs, expected, atol=0.02)


@pytest.mark.parametrize("dilation, size", [(2, (9, 12)), (4, (8, 8)), (16, (12, 20))])
def test_dilated_convolutions_for_xla_are_one_operation(dilation, size):
    found = []
    for kind, for_xla in ((DilatedConv2D, True), (DilatedConv2D, False), (keras.layers.Conv2D, False)):
        keras.utils.set_random_seed(0)
        layer = kind(5, 3, padding="same", dilation_rate=dilation, dtype="float64")
        inputs = tf.constant(np.random.default_rng(0).normal(size=(2, *size, 3)))
        layer.build(inputs.shape)
        values, operations = values_and_gradients(layer, inputs, for_xla)
        assert ("SpaceToBatchND" in operations) == (not for_xla)
        found.append(values)
    for values in found[:2]:
        for ours, expected in zip(values, found[2], strict=True):
            np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("dilation", [2, 8])
def test_dilated_convolutions_are_keras_own_in_any_precision(policy, dilation):
    found = []
    for kind in (DilatedConv2D, keras.layers.Conv2D):
        keras.utils.set_random_seed(0)
        layer = kind(5, 3, padding="same", dilation_rate=dilation, dtype=policy)
        inputs = tf.constant(np.random.default_rng(0).normal(size=(2, 20, 17, 3)), layer.compute_dtype)
        layer.build(inputs.shape)
        found.append([value.astype(np.float64) for value in values_and_gradients(layer, inputs, False)[0]])
    for ours, expected in zip(*found, strict=True):
        tolerance = ROUNDING[policy] * np.abs(expected).max()
        np.testing.assert_allclose(ours, expected, rtol=ROUNDING[policy], atol=tolerance)


@pytest.mark.parametrize("policy", ["float32", "float64", "mixed_bfloat16"])
@pytest.mark.parametrize("size", [(8, 12), (9, 7), (4, 4)])
def test_padding_is_taken_over(policy, size):
    """The same values and gradients as Keras' two layers, and the padded copy is not there for the gradient."""
    found = []
    for kind in (PaddedConv2D, keras.layers.Conv2D):
        keras.utils.set_random_seed(0)
        x = keras.Input((*size, 3))
        padded = keras.layers.ZeroPadding2D(1, dtype=policy)(x)
        layers = [keras.layers.Activation("relu", dtype=policy), kind(5, 3, strides=2, dtype=policy)]
        model = keras.Model(x, layers[0](layers[1](padded)))
        inputs = tf.constant(np.random.default_rng(0).normal(size=(2, *size, 3)), model.input.dtype)

        @tf.function(autograph=False)
        def run(x, model=model):
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = tf.reduce_sum(tf.cast(model(x), x.dtype) ** 2)
            return [loss, *tape.gradient(loss, [x, *model.trainable_variables])]

        concrete = run.get_concrete_function(inputs)
        found.append([value.numpy() for value in concrete(inputs)])
        operations = concrete.graph.get_operations()
        forward, backward = (
            next(op.inputs[0].op for op in operations if op.type == name) for name in ("Conv2D", "Conv2DBackpropFilter")
        )
        kept = forward is backward and forward.type == "Pad"
        assert kept == (kind is keras.layers.Conv2D)
    for ours, expected in zip(*found, strict=True):
        np.testing.assert_allclose(
            ours, expected, rtol=ROUNDING[policy], atol=ROUNDING[policy] * np.abs(expected).max()
        )


@pytest.mark.parametrize("make", ["model_file", "folding"])
def test_networks_for_use_have_keras_own(make, tmp_path):
    trained = randomize(completion_network(1 / 16, synchronized=True, dtype="mixed_bfloat16"))
    own = completion_network(1 / 16)
    own.set_weights(trained.get_weights())
    if make == "folding":
        copy = folding.fold_batch_norm(trained)
        assert not [layer for layer in copy.layers if isinstance(layer, keras.layers.BatchNormalization)]
    else:
        model_file.save(trained, tmp_path / "c.keras")
        with zipfile.ZipFile(tmp_path / "c.keras") as archive:
            config = json.dumps(json.loads(archive.read("config.json")))
        assert not [name for name in ("Sync", "Dilated", "Padded") if name in config]
        copy = model_file.load(tmp_path / "c.keras")
    expected = own(batch(), training=False)
    np.testing.assert_allclose(copy(batch(), training=False), expected, atol=1e-4)
