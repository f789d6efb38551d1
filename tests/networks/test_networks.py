"""The networks against the paper's tables and against a NumPy forward pass with Torch's conventions."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from glcic_tf.networks import STRIDE
from glcic_tf.networks.completion import completion_network
from glcic_tf.networks.discriminator import context_discriminator, tower_depth, with_features

# The paper's table of C: name, kernel, dilation, stride, filters, size of the output relative to the image.
COMPLETION_TABLE = [
    ("conv1", 5, 1, 1, 64, 1),
    ("conv2", 3, 1, 2, 128, 1 / 2),
    ("conv3", 3, 1, 1, 128, 1 / 2),
    ("conv4", 3, 1, 2, 256, 1 / 4),
    ("conv5", 3, 1, 1, 256, 1 / 4),
    ("conv6", 3, 1, 1, 256, 1 / 4),
    ("conv7", 3, 2, 1, 256, 1 / 4),
    ("conv8", 3, 4, 1, 256, 1 / 4),
    ("conv9", 3, 8, 1, 256, 1 / 4),
    ("conv10", 3, 16, 1, 256, 1 / 4),
    ("conv11", 3, 1, 1, 256, 1 / 4),
    ("conv12", 3, 1, 1, 256, 1 / 4),
    ("deconv13", 4, 1, 1 / 2, 128, 1 / 2),
    ("conv14", 3, 1, 1, 128, 1 / 2),
    ("deconv15", 4, 1, 1 / 2, 64, 1),
    ("conv16", 3, 1, 1, 32, 1),
    ("conv17", 3, 1, 1, 3, 1),
]
MEAN_PIXEL = (0.46, 0.45, 0.42)


# An independent forward pass, in float64, with Torch's definitions written out.


def torch_conv(x, kernel, bias, stride=1, dilation=1):
    """Cross-correlation of x [b, h, w, i] with kernel [kh, kw, i, o], zero padding of dilation * (kernel // 2)."""
    size = kernel.shape[0]
    pad = dilation * (size // 2)
    height, width = (n + 2 * pad - dilation * (size - 1) for n in x.shape[1:3])
    x = np.pad(x, [(0, 0), (pad, pad), (pad, pad), (0, 0)])
    y = 0
    for i in range(size):
        for j in range(size):
            rows, cols = i * dilation, j * dilation
            y = y + x[:, rows : rows + height : stride, cols : cols + width : stride] @ kernel[i, j]
    return y + bias


def torch_deconv(x, kernel, bias):
    """ConvTranspose2d(kernel 4, stride 2, padding 1) of x [b, h, w, i], kernel [4, 4, o, i].

    Each input pixel (p, q) adds kernel[i, j] times itself to output pixel (2 p + i - 1, 2 q + j - 1).
    """
    batch, height, width, _ = x.shape
    y = np.zeros((batch, 2 * height + 2, 2 * width + 2, kernel.shape[2]))
    for i in range(4):
        for j in range(4):
            y[:, i : i + 2 * height : 2, j : j + 2 * width : 2] += x @ kernel[i, j].T
    return y[:, 1:-1, 1:-1] + bias


def torch_norm_relu(x, gamma, beta, mean, variance):
    return np.maximum((x - mean) / np.sqrt(variance + 1e-5) * gamma + beta, 0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def weights_of(model, name):
    return [w.astype(np.float64) for w in model.get_layer(name).get_weights()]


def numpy_completion(model, image, mask):
    x = np.concatenate([np.where(mask, MEAN_PIXEL, image), mask], -1)
    for name, _, dilation, stride, _, _ in COMPLETION_TABLE:
        kernel, bias = weights_of(model, name)
        x = torch_deconv(x, kernel, bias) if stride == 1 / 2 else torch_conv(x, kernel, bias, stride, dilation)
        if name != "conv17":
            x = torch_norm_relu(x, *weights_of(model, name.replace("deconv", "bn").replace("conv", "bn")))
    return sigmoid(x)


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


def randomise(model, seed):
    """Random weights and BN statistics that keep the signal's scale; every tenth variance is as small as 1e-3."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            channels = layer.moving_mean.shape[0]
            variance = rng.uniform(0.5, 2, channels)
            variance[::10] = 1e-3
            mean = rng.normal(0, 0.3, channels)
            # Channels of small variance get a gamma in proportion, else they drown all others.
            gamma = rng.uniform(0.7, 1.5, channels) * np.minimum(1, np.sqrt(variance))
            layer.set_weights([gamma, rng.normal(0, 0.3, channels), mean, variance])
        elif layer.name != "mean_pixel" and layer.get_weights():
            kernel, bias = layer.get_weights()
            fan_in = np.prod(kernel.shape) / bias.shape[0]
            if isinstance(layer, keras.layers.Conv2DTranspose):
                fan_in /= 4  # at stride 2, 4 of the 16 taps meet in one output pixel
            layer.set_weights([rng.normal(0, np.sqrt(2 / fan_in), kernel.shape), rng.normal(0, 0.1, bias.shape)])


def photo_and_mask(height, width, batch=1, seed=0):
    """Noise in [0, 1] that a hole of a third of the sides is cut into, another one for each example."""
    rng = np.random.default_rng(seed)
    image = rng.random((batch, height, width, 3), np.float32)
    mask = np.zeros((batch, height, width, 1), np.float32)
    for example in mask:
        top, left = rng.integers(0, height - height // 3 + 1), rng.integers(0, width - width // 3 + 1)
        example[top : top + height // 3, left : left + width // 3] = 1
    return image, mask


def complete(model, image, mask):
    return model({"image": image, "mask": mask}, training=False).numpy()


@pytest.fixture(scope="module")
def paper_completion():
    model = completion_network(mean_pixel=MEAN_PIXEL)
    randomise(model, seed=1)
    return model


def parameters(model):
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


# Completion network


def test_completion_network_has_the_papers_layers(paper_completion):
    assert parameters(paper_completion) == 6_072_131
    convolutions = [
        layer
        for layer in paper_completion.layers
        if isinstance(layer, keras.layers.Conv2D | keras.layers.Conv2DTranspose) and layer.name != "mean_pixel"
    ]
    assert [layer.name for layer in convolutions] == [row[0] for row in COMPLETION_TABLE]

    sizes = keras.Model(paper_completion.inputs, [layer.output for layer in convolutions]).compute_output_shape(
        {"image": (2, 256, 512, 3), "mask": (2, 256, 512, 1)}
    )
    for layer, shape, row in zip(convolutions, sizes, COMPLETION_TABLE, strict=True):
        name, kernel, dilation, stride, filters, scale = row
        assert layer.kernel_size == (kernel, kernel), name
        assert layer.dilation_rate == (dilation, dilation), name
        assert isinstance(layer, keras.layers.Conv2DTranspose) == (stride == 1 / 2), name
        assert layer.strides == ((2, 2) if stride == 1 / 2 else (stride, stride)), name
        assert tuple(shape) == (2, 256 * scale, 512 * scale, filters), name


def test_completion_network_normalises_after_every_layer_but_the_last(paper_completion):
    norms = [x for x in paper_completion.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert [x.name for x in norms] == [f"bn{i}" for i in range(1, 17)]
    assert {(x.epsilon, x.momentum) for x in norms} == {(1e-5, 0.9)}


# At a quarter of the size, the dilation of 16 px reaches across the larger image, but only into padding in the smaller.
@pytest.mark.parametrize(("height", "width", "batch"), [(32, 40, 2), (100, 84, 1)])
def test_completion_network_equals_numpy(paper_completion, height, width, batch):
    image, mask = photo_and_mask(height, width, batch)
    expected = numpy_completion(paper_completion, image, mask)
    assert expected.std() > 0.1 and 0.01 < expected.min() < expected.max() < 0.99  # flat or saturated hides errors
    np.testing.assert_allclose(complete(paper_completion, image, mask), expected, atol=1e-4)


def test_the_small_variances_decide(paper_completion):
    """The golden above would notice another epsilon: with Keras' own of 1e-3 the output is a different one."""
    image, mask = photo_and_mask(32, 40, batch=2)
    other = keras.models.clone_model(
        paper_completion,
        clone_function=lambda layer: layer.__class__.from_config(
            layer.get_config() | ({"epsilon": 1e-3} if isinstance(layer, keras.layers.BatchNormalization) else {})
        ),
    )
    other.set_weights(paper_completion.get_weights())
    assert np.abs(complete(other, image, mask) - complete(paper_completion, image, mask)).max() > 1e-2


def test_what_stands_in_the_hole_is_ignored(paper_completion):
    image, mask = photo_and_mask(32, 40)
    output = complete(paper_completion, image, mask)
    for content in (0.0, 1.0, MEAN_PIXEL):
        filled = np.where(mask, np.float32(content), image)
        np.testing.assert_array_equal(complete(paper_completion, filled, mask), output)


def test_the_hole_is_filled_with_the_mean_pixel(paper_completion):
    image, mask = photo_and_mask(32, 40)
    masked_input = keras.Model(paper_completion.inputs, paper_completion.get_layer("masked_input").output)
    filled = masked_input({"image": image, "mask": mask}).numpy()
    np.testing.assert_array_equal(filled[..., 3:], mask)
    hole = mask[..., 0] == 1
    np.testing.assert_allclose(filled[hole][:, :3], np.broadcast_to(np.float32(MEAN_PIXEL), (hole.sum(), 3)), atol=1e-7)
    np.testing.assert_array_equal(filled[~hole][:, :3], image[~hole])
    assert not any("mean_pixel" in v.path for v in paper_completion.trainable_variables)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (4, 36), (12, 8), (52, 44)])
def test_completion_network_takes_any_multiple_of_4(height, width):
    assert STRIDE == 4
    model = completion_network(width=0.1)
    output = complete(model, *photo_and_mask(height, width, batch=3))
    assert output.shape == (3, height, width, 3)
    assert output.dtype == np.float32
    assert output.min() >= 0 and output.max() <= 1


def test_width_scales_the_channels():
    model = completion_network(width=0.5)
    filters = [model.get_layer(name).filters for name, *_ in COMPLETION_TABLE]
    assert filters == [row[4] // 2 for row in COMPLETION_TABLE[:-1]] + [3]
    assert min(completion_network(width=0.001).get_layer(f"conv{i}").filters for i in (1, 16)) == 1


# Context discriminator


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


# Both


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("as_global_policy", [False, True])
def test_mixed_precision_keeps_float32_at_both_ends(policy, as_global_policy):
    if as_global_policy:
        keras.config.set_dtype_policy(policy)
    dtype = None if as_global_policy else policy
    completion = completion_network(width=0.1, mean_pixel=MEAN_PIXEL, dtype=dtype)
    discriminator = context_discriminator(16, 8, width=0.1, dtype=dtype)

    hidden = policy.removeprefix("mixed_")
    for model, last in ((completion, ["conv17", "completed"]), (discriminator, ["logit"])):
        assert all(x.dtype == "float32" for x in model.inputs)
        assert model.output.dtype == "float32"
        assert all(v.dtype == "float32" for v in model.weights)
        assert all(model.get_layer(name).compute_dtype == "float32" for name in last)
    assert {completion.get_layer(f"bn{i}").compute_dtype for i in range(1, 17)} == {hidden}
    assert discriminator.get_layer("image_conv1").compute_dtype == hidden
    assert completion.get_layer("masked_input").compute_dtype == "float32"

    image, mask = photo_and_mask(16, 16)
    assert complete(completion, image, mask).dtype == np.float32
    logit = discriminator({"image": image, "patch": image[:, :8, :8]}, training=False)
    assert logit.dtype == tf.float32 and np.isfinite(logit).all()


@pytest.mark.parametrize("built", [completion_network, context_discriminator])
def test_building_leaves_the_global_policy_alone(built):
    built(width=0.05, dtype="mixed_bfloat16")
    assert keras.config.dtype_policy().name == "float32"


def test_mixed_precision_is_near_float32(paper_completion):
    image, mask = photo_and_mask(32, 40)
    mixed = completion_network(mean_pixel=MEAN_PIXEL, dtype="mixed_bfloat16")
    mixed.set_weights(paper_completion.get_weights())
    difference = complete(mixed, image, mask) - complete(paper_completion, image, mask)
    assert 0 < np.abs(difference).mean() < 0.02


LOAD_WITH_PLAIN_KERAS = """
import sys, keras, numpy as np
model = keras.saving.load_model(sys.argv[1])
inputs = np.load(sys.argv[2])
np.save(sys.argv[3], model({k: inputs[k] for k in inputs}, training=False))
assert not any(name.startswith("glcic") for name in sys.modules)
"""


def test_saved_models_load_with_plain_keras(paper_completion, tmp_path):
    image, mask = photo_and_mask(32, 40)
    paper_completion.save(tmp_path / "c.keras")
    np.savez(tmp_path / "inputs.npz", image=image, mask=mask)
    files = [str(tmp_path / name) for name in ("c.keras", "inputs.npz", "output.npy")]
    # From another folder and with isolated imports, so that nothing of the repository can be found.
    subprocess.run([sys.executable, "-I", "-c", LOAD_WITH_PLAIN_KERAS, *files], check=True, cwd=tmp_path)
    np.testing.assert_allclose(np.load(tmp_path / "output.npy"), complete(paper_completion, image, mask), atol=1e-6)


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
    """Behind normalisation and ReLU, in whatever order; what the fully connected layer sees is the last of a tower."""
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
