"""The Context Encoder against its layer table, a NumPy forward pass with Torch's conventions, and as a model file."""

import json
import zipfile

import keras
import numpy as np
import pytest

from glcic_tf.common.errors import UserError
from glcic_tf.completion.tensorflow_engine import TensorFlowEngine
from glcic_tf.networks import frames, initial_weights, model_file
from glcic_tf.networks.context_encoder import centre_discriminator, context_encoder, context_encoder_arguments

# Name, side of the kernel, channels in and out, side of the output map (the authors' release; 128 px).
ENCODER = [
    ("conv1", 4, 3, 64, 64),
    ("conv2", 4, 64, 64, 32),
    ("conv3", 4, 64, 128, 16),
    ("conv4", 4, 128, 256, 8),
    ("conv5", 4, 256, 512, 4),
]
DECODER = [
    ("conv6", 1, 512, 512, 4),  # the paper's convolution of stride 1
    ("deconv7", 4, 512, 256, 8),
    ("deconv8", 4, 256, 128, 16),
    ("deconv9", 4, 128, 64, 32),
    ("deconv_out", 4, 64, 3, 64),
]
DISCRIMINATOR = [
    ("patch_conv1", 4, 3, 64, 32),
    ("patch_conv2", 4, 64, 128, 16),
    ("patch_conv3", 4, 128, 256, 8),
    ("patch_conv4", 4, 256, 512, 4),
]
MEAN = (0.46, 0.45, 0.42)


def small(**settings):
    """A narrow Context Encoder with first weights, and statistics that have an effect."""
    model, rng = context_encoder(1 / 16, MEAN, **settings), np.random.default_rng(0)
    for variable in model.variables:
        if not variable.path.startswith("mean_pixel"):
            value = initial_weights.draw(variable.path, tuple(variable.shape), 0)
            variable.assign(value + rng.uniform(-0.4, 0.4, value.shape) if value.ndim == 1 else value)
    return model


def batch():
    rng = np.random.default_rng(1)
    mask = np.zeros((2, 128, 128, 1), np.float32)
    mask[:, 32:96, 32:96] = 1
    return {"image": rng.random((2, 128, 128, 3), np.float32), "mask": mask}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "encoder.keras"
    model = small()
    model_file.save(model, path, {"hole_max_px": 64})
    return model, path


def check_table(model, table):
    for name, kernel, before, behind, side in table:
        layer = model.get_layer(name)
        ends = (behind, before) if name.startswith("deconv") else (before, behind)
        assert [tuple(w.shape) for w in layer.weights] == [(kernel, kernel, *ends)], name
        assert tuple(layer.output.shape) == (None, side, side, behind), name


def trainable(model):
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


def test_layers_are_those_of_the_table():
    model = context_encoder()
    check_table(model, ENCODER + DECODER)
    # m n^4 weights of the channel-wise layer, for m = 512 maps of n = 4 px (section 3.1), where m^2 n^4 would be dense.
    assert [int(np.prod(w.shape)) for w in model.get_layer("channelwise").weights] == [512 * 4**4]
    norms = 2 * (64 + 128 + 256 + 512 + 512 + 256 + 128 + 64)
    kernels = sum(kernel**2 * before * behind for _, kernel, before, behind, _ in ENCODER + DECODER)
    assert trainable(model) == kernels + 512 * 4**4 + norms == 5_969_920 + norms
    assert "bn1" not in [layer.name for layer in model.layers]


def test_discriminator_is_that_of_the_table():
    model = centre_discriminator()
    check_table(model, DISCRIMINATOR)
    kernels = sum(kernel**2 * before * behind for _, kernel, before, behind, _ in DISCRIMINATOR) + 4 * 4 * 512
    assert trainable(model) == kernels + 2 * (128 + 256 + 512) == 2_763_776 + 1_792
    assert [(t.name, tuple(t.shape)) for t in model.inputs] == [("patch", (None, 64, 64, 3))]
    assert tuple(model.output.shape) == (None, 1)


# An independent forward pass in float64: Torch's convolutions of kernel 4, stride 2 and padding 1, written out.


def torch_conv(x, kernel):
    x = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    side = (x.shape[1] - 2) // 2
    taps = [(i, j) for i in range(4) for j in range(4)]
    return sum(x[:, i : i + 2 * side : 2, j : j + 2 * side : 2] @ kernel[i, j] for i, j in taps)


def torch_deconv(x, kernel):
    """Each input pixel (p, q) adds kernel[i, j] times itself to output pixel (2 p + i - 1, 2 q + j - 1)."""
    batch, side = x.shape[:2]
    y = np.zeros((batch, 2 * side + 2, 2 * side + 2, kernel.shape[2]))
    for i in range(4):
        for j in range(4):
            y[:, i : i + 2 * side : 2, j : j + 2 * side : 2] += x @ kernel[i, j].T
    return y[:, 1:-1, 1:-1]


def channelwise(x, kernel):
    y = np.zeros_like(x)
    for channel in range(x.shape[-1]):
        dense = kernel[..., channel].reshape(16, 16)
        y[..., channel] = (x[..., channel].reshape(-1, 16) @ dense).reshape(-1, 4, 4)
    return y


def forward(model, image, mask):
    def weights(name):
        return [np.float64(w) for w in model.get_layer(name).get_weights()]

    def norm(x, index):
        gamma, beta, mean, variance = weights(f"bn{index}")
        return (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta

    def leaky(x):
        return np.where(x > 0, x, 0.2 * x)

    x = 2 * np.where(mask > 0, MEAN, np.float64(image)) - 1
    x = leaky(torch_conv(x, *weights("conv1")))
    for index in range(2, 6):
        x = leaky(norm(torch_conv(x, *weights(f"conv{index}")), index))
    x = channelwise(x, *weights("channelwise"))
    x = leaky(norm(x @ weights("conv6")[0][0, 0], 6))
    for index in range(7, 10):
        x = np.maximum(norm(torch_deconv(x, *weights(f"deconv{index}")), index), 0)
    x = (np.tanh(torch_deconv(x, *weights("deconv_out"))) + 1) / 2
    return np.pad(x, [(0, 0), (32, 32), (32, 32), (0, 0)])


def test_forward_pass_equals_torchs():
    model, inputs = small(), batch()
    expected = forward(model, **inputs)
    assert expected[:, 32:96, 32:96].std() > 0.01
    np.testing.assert_allclose(model(inputs), expected, atol=2e-6)


def test_what_stands_in_the_middle_is_not_seen():
    model, inputs = small(), batch()
    expected = np.asarray(model(inputs))
    inputs["image"][:, 32:96, 32:96] = 0.5
    np.testing.assert_array_equal(model(inputs), expected)


def test_channelwise_first_weights_are_glorots_for_each_channel():
    """Between 16 places and 16 places: as a dense layer of 16 by 16."""
    kernel = initial_weights.draw("channelwise/kernel", (4, 4, 4, 4, 32), 0)
    limit = np.sqrt(6 / (16 + 16))
    assert 0.99 * limit < kernel.max() <= limit and -limit <= kernel.min() < -0.99 * limit


def test_a_model_file_gives_the_same_network_in_keras_and_without(saved):
    model, path = saved
    expected = np.asarray(model(batch()))
    np.testing.assert_array_equal(model_file.load(path)(batch()), expected)
    np.testing.assert_array_equal(keras.saving.load_model(path)(batch()), expected)
    engine = TensorFlowEngine.load(path)
    assert engine.frame == frames.CENTRE == frames.of_model(model)
    np.testing.assert_allclose(engine(*batch().values()), expected, atol=1e-6)
    np.testing.assert_allclose(TensorFlowEngine.load(path, "bfloat16")(*batch().values()), expected, atol=0.05)
    assert context_encoder_arguments(model_file.load(path)) == {"width": 1 / 16}


def test_mixed_precision_becomes_plain_float32(tmp_path):
    model_file.save(small(dtype="mixed_bfloat16", synchronized=True), tmp_path / "mixed.keras")
    np.testing.assert_array_equal(model_file.load(tmp_path / "mixed.keras")(batch()), small()(batch()))


def test_file_names_no_field_that_older_versions_of_keras_refuse(saved):
    with zipfile.ZipFile(saved[1]) as archive:
        assert b"quantization_config" not in archive.read("config.json")


@pytest.mark.parametrize(
    ("layer", "place", "change", "message"),
    [
        ("channelwise", "config", {"equation": "bhwc,hwijcd->bijd"}, "channelwise is not a dense layer for each"),
        ("channelwise", "config", {"activation": "relu"}, "channelwise is not a dense layer for each channel"),
        ("channelwise", "config", {"bias_axes": "c"}, "channelwise is not a dense layer for each channel"),
        ("channelwise", "config", {"output_shape": [4, 4]}, "channelwise is not a dense layer for each channel"),
        (
            "channelwise",
            "config",
            {"output_shape": [4, 400, 32]},
            r"joins maps of \[4, 4, 4, 400\] px; expected 1 to 8",
        ),
        ("channelwise", "build_config", {"input_shape": [None, 64, 64, 32]}, r"joins maps of \[64, 64, 4, 4\] px"),
        ("channelwise", "build_config", {"input_shape": [None, None, 4, 32]}, "joins maps of"),
        ("channelwise", "build_config", {"input_shape": 4}, "is malformed"),
        ("conv2", "build_config", {"input_shape": [None, 64, 64, 10**7]}, "its layers ask for up to .* MB of weights"),
    ],
)
def test_layers_far_from_the_papers_are_refused_before_they_are_built(
    saved, tmp_path, monkeypatch, layer, place, change, message
):
    path = tmp_path / "other.keras"
    with zipfile.ZipFile(saved[1]) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                config = json.loads(content)
                {own["name"]: own for own in config["config"]["layers"]}[layer][place].update(change)
                content = json.dumps(config)
            new.writestr(name, content)
    monkeypatch.setattr(keras.saving, "load_model", lambda *args, **options: pytest.fail("it was built"))
    for load in (model_file.load, TensorFlowEngine.load):
        with pytest.raises(UserError, match=message):
            load(path)
