"""lpips: distances equal the package's own (goldens by goldens/lpips_vgg.py); missing and other files."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import vgg_weights
from torch_writer import Python2Pickler, tensor, write_legacy

from glcic_tf.common.errors import UserError
from glcic_tf.evaluation import lpips

GOLDENS = dict(np.load(Path(__file__).with_name("goldens") / "lpips_vgg.npz"))
HEADS = {name: value for name, value in GOLDENS.items() if name.startswith("lin")}


@pytest.fixture(scope="module")
def network():
    return lpips.build(vgg_weights.vgg16(), HEADS)


@pytest.mark.parametrize(("height", "width"), vgg_weights.SIZES)
def test_distances_equal_those_of_the_package(network, height, width):
    image, other = vgg_weights.images(height, width)
    found = lpips.distance(image, other, network)
    np.testing.assert_allclose(found, GOLDENS[f"{height}_{width}"][0], rtol=1e-4)
    assert lpips.distance(image, image, network) == 0
    assert lpips.distance(other, image, network) == pytest.approx(found, rel=1e-5)


@pytest.mark.parametrize(
    ("image", "completed", "match"),
    [
        (np.zeros((32, 32, 3), np.uint8), np.zeros((32, 33, 3), np.uint8), "two images"),
        (np.zeros((32, 32), np.uint8), np.zeros((32, 32), np.uint8), "two images"),
        (np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32, 3)), "uint8"),
    ],
)
def test_other_arrays_are_refused(network, image, completed, match):
    with pytest.raises(ValueError, match=match):
        lpips.distance(image, completed, network)


def test_files_are_found_and_read(network, tmp_path, monkeypatch):
    """Both as their authors hand them out, PyTorch's cache included; the heads are of Python 2."""
    checkpoints, package = tmp_path / "torch" / "hub" / "checkpoints", tmp_path / "lpips" / "weights" / "v0.1"
    checkpoints.mkdir(parents=True)
    package.mkdir(parents=True)
    vgg = vgg_weights.vgg16()
    write_legacy(checkpoints / lpips.VGG_FILE, {name: tensor(value) for name, value in vgg.items()})
    heads = {name: tensor(value) for name, value in HEADS.items()}
    write_legacy(package / "vgg.pth", heads, pickler=Python2Pickler)
    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = SimpleNamespace(submodule_search_locations=[str(tmp_path / "lpips")])
    monkeypatch.setattr(importlib.util, "find_spec", {"lpips": found}.get)
    with pytest.raises(UserError, match=r"needs torchvision's vgg16-397923af\.pth, whose SHA-256 begins with 397923af"):
        lpips.load()
    digest = SimpleNamespace(hexdigest=lambda: "397923af" + 56 * "0")
    monkeypatch.setattr(lpips.hashlib, "file_digest", lambda file, kind: digest)
    image, other = vgg_weights.images(64, 64)
    assert lpips.distance(image, other, lpips.load()) == lpips.distance(image, other, network)


def test_missing_files_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(
        UserError, match=r"vgg16-397923af\.pth: there is no such file, but --lpips needs .*; download"
    ) as error:
        lpips.find_vgg()
    assert str(error.value).startswith(str(tmp_path)) and "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"^--vgg_weights=none\.pth: there is no such file, but --lpips needs"):
        lpips.find_vgg("none.pth")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        UserError, match="needs the package lpips for its linear heads; run: pip install --no-deps lpips"
    ):
        lpips.find_heads()


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"features.0.bias": None}, r"features\.0\.bias is nothing, not \[64\]"),
        ({"features.10.weight": np.zeros((256, 128, 1, 1))}, r"features\.10\.weight is \[256, 128, 1, 1\], not"),
        ({"lin4.model.1.weight": np.zeros(512)}, r"lin4\.model\.1\.weight is \[512\], not \[1, 512, 1, 1\]"),
    ],
)
def test_weights_that_do_not_fit_are_refused(changed, match):
    vgg, heads = vgg_weights.vgg16(), dict(HEADS)
    for name, value in changed.items():
        (heads if name.startswith("lin") else vgg)[name] = value
    with pytest.raises(UserError, match=match):
        lpips.build(vgg, heads)
