"""openvino: OpenVINO gives infer.py's pixels from the exported folder, in float32 unless told otherwise."""

import json
import os
import sys

import numpy as np
import openvino
import pytest
from export_helpers import SIZES, assert_like_completer, other_network, photo_and_mask

from glcic_tf.common.errors import UserError
from glcic_tf.completion.completer import Completer
from glcic_tf.export import openvino as exporter
from glcic_tf.networks import DEFAULT_MODEL, model_file


def runner(folder):
    compiled = openvino.Core().compile_model(folder / "model.xml", "CPU")
    return lambda image, mask: compiled({"image": image, "mask": mask})["completed"]


@pytest.fixture(scope="module")
def exported(narrow, tmp_path_factory):
    path = tmp_path_factory.mktemp("openvino") / "glcic" / "1"
    exporter.export(narrow, path, metadata={"phase": "joint"})
    return path


@pytest.fixture(scope="module")
def complete(exported):
    return runner(exported)


def test_interface(exported):
    model = openvino.Core().read_model(exported / "model.xml")
    found = {
        port.any_name: (port.element_type.to_string(), str(port.partial_shape))
        for port in [*model.inputs, *model.outputs]
    }
    assert found == {name: ("u8", f"[?,?,?,{n}]") for name, n in {"image": 3, "mask": 1, "completed": 3}.items()}


@pytest.mark.parametrize("size", [*SIZES, (1, 7), (3, 5), (57, 55), (330, 2)])
def test_same_pixels_as_the_completer(completer, complete, size):
    image, mask = photo_and_mask(2, *size)
    assert_like_completer(complete(image, mask), completer, image, mask)


@pytest.mark.parametrize(("dtype", "levels"), [("float32", 1), ("bfloat16", 2), ("float16", 2)])
def test_same_pixels_with_the_weights_of_the_package(tmp_path, dtype, levels):
    model = model_file.load(DEFAULT_MODEL)
    exporter.export(model, tmp_path / "shipped", dtype=dtype)
    image, mask = photo_and_mask(1, 257, 255)
    assert_like_completer(runner(tmp_path / "shipped")(image, mask), Completer(model), image, mask, levels)


def test_no_hole_and_all_hole(complete):
    image, mask = photo_and_mask(2, 200, 303)
    np.testing.assert_array_equal(complete(image, mask * 0), image)
    full = np.full_like(mask, 255)
    np.testing.assert_array_equal(complete(image, full), complete(255 - image, full))


def test_layers_of_other_networks(tmp_path):
    model = other_network()
    exporter.export(model, tmp_path / "other", fold=False)
    image, mask = photo_and_mask(2, 61, 78)
    assert_like_completer(runner(tmp_path / "other")(image, mask), Completer(model), image, mask)


def test_float32_is_kept_whatever_the_runtime_prefers(narrow, exported, complete, tmp_path):
    exporter.export(narrow, tmp_path / "free", dtype="bfloat16")
    hint = {"INFERENCE_PRECISION_HINT": "f32"}
    precise = openvino.Core().compile_model(tmp_path / "free" / "model.xml", "CPU", hint)
    image, mask = photo_and_mask(1, 60, 80)
    apart = complete(image, mask).astype(int) - precise({"image": image, "mask": mask})["completed"]
    assert np.abs(apart).max() <= 1
    assert b"precise" in (exported / "model.xml").read_bytes()
    assert b"precise" not in (tmp_path / "free" / "model.xml").read_bytes()


def test_float16_is_half_the_file_and_close(narrow, completer, exported, tmp_path):
    exporter.export(narrow, tmp_path / "half", dtype="float16")
    image, mask = photo_and_mask(1, 60, 80)
    assert_like_completer(runner(tmp_path / "half")(image, mask), completer, image, mask, 2)
    sizes = [(path / "model.bin").stat().st_size for path in (tmp_path / "half", exported)]
    assert sizes[0] < 0.6 * sizes[1]


def test_members(exported):
    assert sorted(os.listdir(exported)) == ["glcic.json", "model.bin", "model.xml"]
    notes = json.loads((exported / "glcic.json").read_text())
    assert notes["model"] == {"phase": "joint"} and notes["made_with"]["openvino"] == openvino.__version__


def test_overwriting(narrow, exported, tmp_path):
    with pytest.raises(UserError, match="1: exists already; add --overwrite"):
        exporter.export(narrow, exported)
    exporter.export(narrow, exported, overwrite=True, metadata={"phase": "joint"})
    (tmp_path / "letters.txt").write_text("mine")
    with pytest.raises(UserError, match="holds letters.txt and is not an OpenVINO model alone"):
        exporter.export(narrow, tmp_path, overwrite=True)
    for name in ("net.xml", "net.BIN"):
        with pytest.raises(UserError, match="expected the name of a folder"):
            exporter.export(narrow, tmp_path / name)
    with pytest.raises(UserError, match="--dtype=int8: --format=openvino has float32 and bfloat16 and float16"):
        exporter.export(narrow, tmp_path / "net", dtype="int8")
    assert os.listdir(tmp_path) == ["letters.txt"]


@pytest.mark.parametrize("package", ["openvino", "onnx"])
def test_without_the_packages(narrow, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"the package {package} .*; run: pip install 'glcic-tf\[export\]'$"):
        exporter.export(narrow, tmp_path / "net")
    assert os.listdir(tmp_path) == []
