"""The context discriminator: the paper's tables, NumPy, its file and its features."""

import keras
import numpy as np
import pytest
from numpy_layers import parameters, photo_and_mask, randomise, torch_conv, torch_norm_relu, weights_of

from glcic_tf.networks.discriminator import context_discriminator, tower_depth, with_features


def numpy_discriminator(model, **inputs):
    features = []
    for name in ("image", "patch"):
        if name in inputs:
            x, layer = inputs[name], 1
            while any(one.name == f"{name}_conv{layer}" for one in model.layers):
                x = torch_conv(x, *weights_of(model, f"{name}_conv{layer}"), stride=2)
                x = torch_norm_relu(x, *weights_of(model, f"{name}_bn{layer}"))
                layer += 1
            kernel, bias = weights_of(model, f"{name}_dense")
            features.append(np.maximum(x.reshape(len(x), -1) @ kernel + bias, 0))
    kernel, bias = weights_of(model, "logit")
    return np.concatenate(features, -1) @ kernel + bias


def tower_by_hand(model, name):
    """(output side, filters) of each convolution, and the size of the fully connected layer, of one tower."""
    shapes = []
    while f"{name}_conv{len(shapes) + 1}" in {layer.name for layer in model.layers}:
        layer = model.get_layer(f"{name}_conv{len(shapes) + 1}")
        assert layer.kernel_size == (5, 5) and layer.strides == (2, 2)
        _, height, width, filters = layer.output.shape
        assert height == width
        shapes.append((height, filters))
    return shapes, model.get_layer(f"{name}_dense").units


def test_discriminator_matches_the_papers_table():
    model = context_discriminator(256, 128)
    image_tower = [(128, 64), (64, 128), (32, 256), (16, 512), (8, 512), (4, 512)]
    patch_tower = [(64, 64), (32, 128), (16, 256), (8, 512), (4, 512)]
    assert tower_by_hand(model, "image") == (image_tower, 1024)
    assert tower_by_hand(model, "patch") == (patch_tower, 1024)
    assert model.get_layer("logit").input.shape == (None, 2048)
    assert model.output.shape == (None, 1)

    expected = 2048 + 1  # the logit
    for tower in (image_tower, patch_tower):
        channels = 3
        for _, filters in tower:
            expected += 5 * 5 * channels * filters + filters + 2 * filters  # kernel, bias, BN's gamma and beta
            channels = filters
        expected += 4 * 4 * 512 * 1024 + 1024  # the fully connected layer
    assert expected == 45_063_681
    assert parameters(model) == expected


@pytest.mark.parametrize(
    ("size", "depth"), [(256, 6), (128, 5), (160, 5), (96, 4), (64, 4), (32, 3), (8, 1), (7, 0), (4, 0), (255, 6)]
)
def test_tower_depth(size, depth):
    assert tower_depth(size) == depth


def test_explicit_depths_give_the_160_px_network_of_published_face_weights():
    """GLCIC-PyTorch's CelebA network: 160 px and 96 px with five convolutions each, down to 5 and 3 px."""
    model = context_discriminator(160, 96, local_convolutions=5)
    image_tower, patch_tower = tower_by_hand(model, "image")[0], tower_by_hand(model, "patch")[0]
    assert [side for side, _ in image_tower] == [80, 40, 20, 10, 5]
    assert [side for side, _ in patch_tower] == [48, 24, 12, 6, 3]
    assert model.get_layer("image_dense").kernel.shape == (5 * 5 * 512, 1024)
    assert model.get_layer("patch_dense").kernel.shape == (3 * 3 * 512, 1024)
    shallow = context_discriminator(64, 32, 0.1, global_convolutions=2, local_convolutions=1)
    assert [side for side, _ in tower_by_hand(shallow, "image")[0]] == [32, 16]
    assert [side for side, _ in tower_by_hand(shallow, "patch")[0]] == [16]


@pytest.mark.parametrize(
    ("settings", "sizes"),
    [
        ({}, {"image": 36, "patch": 17}),  # odd maps on the way: 36, 18, 9, 5 and 17, 9, 5
        ({"use_local": False}, {"image": 36}),
        ({"use_global": False}, {"patch": 17}),
        ({"global_convolutions": 1, "local_convolutions": 3}, {"image": 24, "patch": 24}),
    ],
)
def test_discriminator_equals_numpy(settings, sizes):
    model = context_discriminator(sizes.get("image", 64), sizes.get("patch", 32), width=0.5, **settings)
    randomise(model, seed=2)
    rng = np.random.default_rng(3)
    inputs = {name: rng.random((3, size, size, 3), np.float32) for name, size in sizes.items()}
    assert {x.name for x in model.inputs} == set(inputs)
    expected = numpy_discriminator(model, **inputs)
    assert expected.std() > 1e-2
    np.testing.assert_allclose(model(inputs, training=False).numpy(), expected, atol=1e-4)


def test_a_discriminator_without_towers_is_refused():
    with pytest.raises(ValueError, match="tower"):
        context_discriminator(use_global=False, use_local=False)


def test_saved_discriminator_loads_with_its_weights(tmp_path):
    model = context_discriminator(16, 8, width=0.1)
    randomise(model, seed=4)
    model.save(tmp_path / "d.keras")
    loaded = keras.saving.load_model(tmp_path / "d.keras")
    image = photo_and_mask(16, 16, batch=2)[0]
    inputs = {"image": image, "patch": image[:, 4:12, 4:12]}
    np.testing.assert_array_equal(loaded(inputs, training=False), model(inputs, training=False))


@pytest.mark.parametrize("relu_first", [False, True])
@pytest.mark.parametrize("towers", [("image", "patch"), ("patch",)])
def test_features_of_a_discriminator_are_what_each_convolution_passes_on(relu_first, towers):
    """Features come after normalisation and ReLU, in either order; a tower's last ones go to its dense layer."""
    d = context_discriminator(16, 8, 1 / 32, use_global="image" in towers, relu_first=relu_first)
    d.set_weights([w + 0.1 * np.random.default_rng(i).random(w.shape) for i, w in enumerate(d.get_weights())])
    rng = np.random.default_rng(0)
    inputs = {name: rng.random((2, n, n, 3), np.float32) for name, n in (("image", 16), ("patch", 8)) if name in towers}
    found = with_features(d)(inputs, training=False)
    np.testing.assert_allclose(found["logit"], d(inputs, training=False), rtol=1e-6)
    assert len(found["features"]) == sum(isinstance(layer, keras.layers.Conv2D) for layer in d.layers)
    features = {tuple(f.shape): f.numpy() for f in found["features"]}
    for name in towers:
        x = inputs[name].astype(np.float64)
        for i in range(1, tower_depth(x.shape[1]) + 1):
            x = torch_conv(x, *weights_of(d, f"{name}_conv{i}"), stride=2)
            gamma, beta, mean, variance = weights_of(d, f"{name}_bn{i}")
            if relu_first:
                x = (np.maximum(x, 0) - mean) / np.sqrt(variance + 1e-5) * gamma + beta
            else:
                x = torch_norm_relu(x, gamma, beta, mean, variance)
        np.testing.assert_allclose(features[x.shape], x, rtol=1e-4, atol=1e-5)
