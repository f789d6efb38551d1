"""The networks against the paper's tables and against a NumPy forward pass with Torch's conventions."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy_layers import parameters, photo_and_mask, randomise, torch_conv, torch_norm_relu, weights_of

from glcic_tf.networks import STRIDE
from glcic_tf.networks.completion import completion_network
from glcic_tf.networks.discriminator import context_discriminator

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


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def numpy_completion(model, image, mask):
    x = np.concatenate([np.where(mask, MEAN_PIXEL, image), mask], -1)
    for name, _, dilation, stride, _, _ in COMPLETION_TABLE:
        kernel, bias = weights_of(model, name)
        x = torch_deconv(x, kernel, bias) if stride == 1 / 2 else torch_conv(x, kernel, bias, stride, dilation)
        if name != "conv17":
            x = torch_norm_relu(x, *weights_of(model, name.replace("deconv", "bn").replace("conv", "bn")))
    return sigmoid(x)


def complete(model, image, mask):
    return model({"image": image, "mask": mask}, training=False).numpy()


@pytest.fixture(scope="module")
def paper_completion():
    model = completion_network(mean_pixel=MEAN_PIXEL)
    randomise(model, seed=1)
    return model


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


# In mixed precision, and in files


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
