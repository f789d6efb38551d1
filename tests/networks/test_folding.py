"""folding: the folded network gives the same values, and what cannot be folded stays."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers

from glcic_tf.networks import DEFAULT_MODEL, model_file
from glcic_tf.networks.completion import completion_network
from glcic_tf.networks.folding import fold_batch_norm

RNG = np.random.default_rng(0)


def randomize(model, seed=0):
    """Give every normalisation statistics far from those it starts with, and every bias a value."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        weights = layer.get_weights()
        if isinstance(layer, layers.BatchNormalization):
            for i, (name, value) in enumerate(zip([w.name for w in layer.weights], weights, strict=True)):
                low_high = {"gamma": (-2, 2), "beta": (-1, 1), "moving_mean": (-2, 2), "moving_variance": (0.01, 4)}
                weights[i] = rng.uniform(*low_high[name], value.shape)
        elif len(weights) == 2:
            weights[1] = rng.normal(size=weights[1].shape)
        layer.set_weights(weights)
    return model


def norms(model):
    return [layer.name for layer in model.layers if isinstance(layer, layers.BatchNormalization)]


def batch(height=24, width=20, seed=0):
    rng = np.random.default_rng(seed)
    mask = np.zeros((2, height, width, 1), np.float32)
    mask[:, 5:15, 4:12] = 1
    return {"image": rng.random((2, height, width, 3), np.float32), "mask": mask}


def assert_equal_values(folded, model, inputs, atol=1e-5):
    expected = keras.tree.map_structure(np.asarray, model(inputs, training=False))
    result = keras.tree.map_structure(np.asarray, folded(inputs, training=False))
    keras.tree.assert_same_structure(expected, result)
    for ours, theirs in zip(keras.tree.flatten(result), keras.tree.flatten(expected), strict=True):
        assert theirs.std() > 0.01
        np.testing.assert_allclose(ours, theirs, atol=atol * max(1, np.abs(theirs).max()))


@pytest.mark.parametrize("seed", range(3))
def test_completion_network(seed):
    model = randomize(completion_network(1 / 8), seed)
    # The values before the sigmoid as well, since it hides differences far from 0.
    model = keras.Model(model.input, [model.output, model.get_layer("conv17").output])
    folded = fold_batch_norm(model)
    assert_equal_values(folded, model, batch(64, 72))
    assert len(norms(model)) == 16 and not norms(folded)
    assert [layer.name for layer in folded.layers] == [
        layer.name for layer in model.layers if not isinstance(layer, layers.BatchNormalization)
    ]


def test_weights_of_the_package():
    model = model_file.load(DEFAULT_MODEL)
    folded = fold_batch_norm(model)
    assert_equal_values(folded, model, batch(64, 64))
    assert len(folded.layers) == len(model.layers) - 16
    assert folded.name == model.name
    assert set(folded.input) == {"image", "mask"}


def test_against_numpy():
    """A 1 x 1 convolution is a matrix product: the folded layer's own weights, by the formula."""
    x = keras.Input((None, None, 3))
    model = keras.Model(x, layers.BatchNormalization(epsilon=1e-3)(layers.Conv2D(4, 1, name="conv")(x)))
    kernel, bias = RNG.normal(size=(3, 4)), RNG.normal(size=4)
    gamma, beta, mean, variance = *RNG.normal(size=(3, 4)), RNG.uniform(0.01, 2, 4)
    model.layers[1].set_weights([kernel[None, None], bias])
    model.layers[2].set_weights([gamma, beta, mean, variance])
    image = RNG.normal(size=(1, 5, 7, 3))
    expected = (image @ kernel + bias - mean) / np.sqrt(variance + 1e-3) * gamma + beta
    folded = fold_batch_norm(model)
    np.testing.assert_allclose(folded(np.float32(image)), expected, rtol=1e-5, atol=1e-5)
    assert [w.shape for w in folded.get_layer("conv").get_weights()] == [(1, 1, 3, 4), (4,)]


@pytest.mark.parametrize(("use_bias", "center", "scale"), list(itertools.product([True, False], repeat=3)))
@pytest.mark.parametrize(
    "convolution",
    [
        lambda **kw: layers.Conv2D(8, (3, 5), padding="same", dilation_rate=2, **kw),
        lambda **kw: layers.Conv2D(8, 3, strides=2, **kw),
        lambda **kw: layers.Conv2D(8, 3, groups=2, **kw),
        lambda **kw: layers.Conv2DTranspose(8, 4, strides=2, padding="same", **kw),
        lambda **kw: layers.Conv2DTranspose(4, (2, 3), **kw),  # as many outputs as inputs
    ],
    ids=["dilated", "strided", "grouped", "deconvolution", "square_deconvolution"],
)
def test_every_kind_of_convolution(convolution, use_bias, center, scale):
    x = keras.Input((None, None, 4))
    y = convolution(use_bias=use_bias)(x)
    model = randomize(keras.Model(x, layers.BatchNormalization(center=center, scale=scale)(y)))
    folded = fold_batch_norm(model)
    assert len(folded.layers) == 2
    assert_equal_values(folded, model, RNG.normal(size=(2, 9, 11, 4)).astype(np.float32))


def _shared(x):
    conv = layers.Conv2D(3, 3, padding="same")
    return layers.BatchNormalization()(conv(layers.ReLU()(conv(x))))


def _shared_norm(x):
    norm = layers.BatchNormalization()
    return layers.Add()([norm(layers.Conv2D(3, 1)(x)), norm(layers.Conv2D(3, 1)(x))])


def _read_twice(x):
    y = layers.Conv2D(3, 3, padding="same")(x)
    return layers.Add()([layers.BatchNormalization()(y), y])


def _is_an_output(x):
    y = layers.Conv2D(3, 3)(x)
    return {"before": y, "after": layers.BatchNormalization()(y)}


STAYS = {
    "after_relu": lambda x: layers.BatchNormalization()(layers.ReLU()(layers.Conv2D(3, 3)(x))),
    "relu_of_the_convolution": lambda x: layers.BatchNormalization()(layers.Conv2D(3, 3, activation="relu")(x)),
    "first": lambda x: layers.BatchNormalization()(x),
    "after_dense": lambda x: layers.BatchNormalization()(layers.Dense(3)(x)),
    "after_depthwise": lambda x: layers.BatchNormalization()(layers.DepthwiseConv2D(3)(x)),
    "statistics_of_the_batch": lambda x: layers.BatchNormalization()(layers.Conv2D(3, 3)(x), training=True),
    "other_axis": lambda x: layers.BatchNormalization(axis=1)(layers.Conv2D(3, 3)(x)),
    "shared": _shared,
    "shared_norm": _shared_norm,
    "read_twice": _read_twice,
    "is_an_output": _is_an_output,
}


@pytest.mark.parametrize("build", STAYS.values(), ids=STAYS)
def test_what_cannot_be_folded_stays(build):
    x = keras.Input((9, 11, 3))
    model = randomize(keras.Model(x, build(x)))
    folded = fold_batch_norm(model)
    assert [layer.name for layer in folded.layers] == [layer.name for layer in model.layers]
    assert_equal_values(folded, model, RNG.normal(size=(2, 9, 11, 3)).astype(np.float32))


def test_some_are_folded_and_others_stay():
    x = keras.Input((None, None, 3), name="x")
    y = layers.BatchNormalization(name="folded")(layers.Conv2D(4, 3, name="conv")(x))
    y = layers.BatchNormalization(name="second")(y)
    z = layers.Conv2D(2, 3, name="branch")(y)
    outputs = [layers.BatchNormalization(name="folded_too")(z), (layers.ReLU(name="relu")(y),)]
    model = randomize(keras.Model({"x": x}, outputs))
    folded = fold_batch_norm(model)
    assert [layer.name for layer in folded.layers if layer.name != "x"] == ["conv", "second", "branch", "relu"]
    assert_equal_values(folded, model, {"x": RNG.normal(size=(2, 9, 11, 3)).astype(np.float32)})


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_result_is_float32_and_the_model_stays(policy):
    model = randomize(completion_network(1 / 16, dtype=policy, synchronized=True))
    plain = completion_network(1 / 16)
    plain.set_weights(model.get_weights())
    before = model.get_config(), [w.copy() for w in model.get_weights()]
    keras.config.set_dtype_policy(policy)
    folded = fold_batch_norm(model)
    computing = [layer for layer in folded.layers if not isinstance(layer, layers.InputLayer)]
    assert {layer.compute_dtype for layer in computing} == {"float32"}
    assert_equal_values(folded, plain, batch())
    assert model.get_config() == before[0]
    for old, new in zip(before[1], model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert model.get_layer("conv5").compute_dtype == policy[len("mixed_") :]


def test_kept_norms_are_no_longer_synchronized():
    x = keras.Input((None, None, 3))
    model = keras.Model(x, layers.BatchNormalization(synchronized=True)(layers.ReLU()(layers.Conv2D(3, 3)(x))))
    assert not fold_batch_norm(model).layers[-1].synchronized
