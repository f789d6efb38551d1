"""onnx: ONNX Runtime gives infer.py's pixels from the exported file, for every size, batch and layer."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from export_helpers import SIZES, assert_like_completer, other_network, photo_and_mask, random_network
from keras import layers

from glcic_tf.common.errors import UserError
from glcic_tf.completion.completer import Completer
from glcic_tf.export import onnx as exporter
from glcic_tf.networks import DEFAULT_MODEL, model_file
from glcic_tf.networks.completion import completion_network

FLOATS = {getattr(onnx.TensorProto, name) for name in ("FLOAT16", "BFLOAT16", "FLOAT", "DOUBLE")}


def runner(path):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda image, mask: session.run(None, {"image": image, "mask": mask})[0]


@pytest.fixture(scope="module")
def exported(narrow, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "new" / "narrow.onnx"
    exporter.export(narrow, path, metadata={"phase": "joint"})
    return path


@pytest.fixture(scope="module")
def complete(exported):
    return runner(exported)


def test_interface(exported):
    graph = onnx.load(exported).graph
    found = {
        value.name: (
            value.type.tensor_type.elem_type,
            [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim],
        )
        for value in [*graph.input, *graph.output]
    }
    sizes, uint8 = ["batch", "height", "width"], onnx.TensorProto.UINT8
    assert found == {name: (uint8, [*sizes, n]) for name, n in {"image": 3, "mask": 1, "completed": 3}.items()}


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("size", SIZES)
def test_same_pixels_as_the_completer(completer, complete, size, batch):
    image, mask = photo_and_mask(batch, *size)
    assert_like_completer(complete(image, mask), completer, image, mask)


@pytest.mark.parametrize(("dtype", "levels"), [("float32", 1), ("float16", 2)])
def test_same_pixels_with_the_weights_of_the_package(tmp_path, dtype, levels):
    model = model_file.load(DEFAULT_MODEL)
    exporter.export(model, tmp_path / "shipped.onnx", dtype=dtype)
    image, mask = photo_and_mask(1, 257, 255)
    assert_like_completer(runner(tmp_path / "shipped.onnx")(image, mask), Completer(model), image, mask, levels)


@pytest.mark.parametrize("size", [(1, 7), (7, 1), (3, 5), (4, 4), (57, 55), (40, 400), (330, 2)])
def test_awkward_sizes(completer, complete, size):
    image, mask = photo_and_mask(2, *size)
    assert_like_completer(complete(image, mask), completer, image, mask)


@pytest.mark.parametrize("corner", [(0, 0), (0, 699), (399, 0), (399, 699), (200, 400)])
def test_small_hole_in_a_large_photo(completer, complete, corner):
    image, mask = photo_and_mask(1, 400, 700)[0], np.zeros((1, 400, 700, 1), np.uint8)
    mask[0, corner[0], corner[1]] = 255
    assert_like_completer(complete(image, mask), completer, image, mask)


def test_no_hole_and_all_hole(complete):
    image, mask = photo_and_mask(2, 200, 303)
    np.testing.assert_array_equal(complete(image, mask * 0), image)
    full = np.full_like(mask, 255)
    np.testing.assert_array_equal(complete(image, full), complete(255 - image, full))
    assert complete(image[:, :1, :1], full[:, :1, :1]).shape == (2, 1, 1, 3)


def test_image_and_mask_of_different_sizes(complete, capfd):
    image, mask = photo_and_mask(1, 20, 24)
    for other in (mask[:, :16], mask[:, :, :16], np.pad(mask, ((0, 0), (0, 4), (0, 0), (0, 0)))):
        with pytest.raises(Exception, match="(?i)invalid|broadcast|indices"):
            complete(image, other)


@pytest.mark.parametrize("fold", [True, False])
def test_layers_of_other_networks(tmp_path, fold):
    model = other_network()
    exporter.export(model, tmp_path / "other.onnx", fold=fold)
    image, mask = photo_and_mask(2, 61, 78)
    assert_like_completer(runner(tmp_path / "other.onnx")(image, mask), Completer(model), image, mask)


def test_float16_is_half_the_file_and_close(narrow, exported, tmp_path):
    calm = random_network()
    exporter.export(calm, tmp_path / "half.onnx", dtype="float16")
    image, mask = photo_and_mask(1, 60, 80)
    assert_like_completer(runner(tmp_path / "half.onnx")(image, mask), Completer(calm), image, mask, 2)
    weights = onnx.load(tmp_path / "half.onnx").graph.initializer
    assert {w.data_type for w in weights if np.prod(w.dims) > 1} & FLOATS == {onnx.TensorProto.FLOAT16}
    assert (tmp_path / "half.onnx").stat().st_size < 0.6 * exported.stat().st_size


def test_batch_norm_is_folded_and_mixed_precision_becomes_float32(exported, tmp_path):
    model = completion_network(1 / 16, dtype="mixed_bfloat16")
    exporter.export(model, tmp_path / "mixed.onnx", fold=False)
    graph = onnx.load(tmp_path / "mixed.onnx").graph
    assert {w.data_type for w in graph.initializer} & FLOATS == {onnx.TensorProto.FLOAT}
    count = [[n.op_type for n in g.node].count("BatchNormalization") for g in (graph, onnx.load(exported).graph)]
    assert count == [16, 0]


def test_notes(exported):
    notes = {entry.key: entry.value for entry in onnx.load(exported).metadata_props}
    notes = json.loads(notes["glcic.json"])
    assert notes["model"] == {"phase": "joint"} and notes["made_with"]["onnx"] == onnx.__version__


def test_outputs_that_cannot_be(narrow, exported, tmp_path):
    before = exported.read_bytes()
    cases = {
        exported: "narrow.onnx: exists already; add --overwrite",
        exported.parent: "expected a name that ends in .onnx, found no suffix",
        tmp_path / "net.xml": "net.xml: expected a name that ends in .onnx, found .xml",
    }
    for output, match in cases.items():
        with pytest.raises(UserError, match=match):
            exporter.export(narrow, output)
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(UserError, match="folder.onnx: is a folder"):
        exporter.export(narrow, tmp_path / "folder.onnx", overwrite=True)
    with pytest.raises(UserError, match="--dtype=bfloat16: --format=onnx has float32 and float16"):
        exporter.export(narrow, tmp_path / "net.onnx", dtype="bfloat16")
    assert exported.read_bytes() == before
    assert os.listdir(exported.parent) == ["narrow.onnx"] and os.listdir(tmp_path) == ["folder.onnx"]


def test_overwriting(narrow, tmp_path):
    (tmp_path / "net.onnx").write_text("old")
    exporter.export(narrow, tmp_path / "net.onnx", overwrite=True)
    onnx.checker.check_model(tmp_path / "net.onnx")


@pytest.mark.parametrize(
    ("layer", "match"),
    [
        (
            layers.Activation("gelu", name="odd"),
            "layer odd: has the activation 'gelu', which cannot be",
        ),
        (layers.Dropout(0.5, name="odd"), "layer odd: is a Dropout"),
        (layers.BatchNormalization(axis=1, name="odd"), "layer odd: does not normalise the channels"),
        (layers.Conv2DTranspose(3, 2, strides=3, name="odd"), "layer odd: has a dilation"),
    ],
)
def test_what_it_does_not_know_is_refused(tmp_path, layer, match):
    image, mask = keras.Input((12, None, 3), name="image"), keras.Input((12, None, 1), name="mask")
    model = keras.Model({"image": image, "mask": mask}, layer(layers.Multiply()([image, mask])))
    with pytest.raises(UserError, match=match):
        exporter.export(model, tmp_path / "odd.onnx")
    assert os.listdir(tmp_path) == []


def test_without_the_package(narrow, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"--format=onnx: the package onnx .*; run: pip install 'glcic-tf\[export\]'$"):
        exporter.export(narrow, tmp_path / "net.onnx")
    assert os.listdir(tmp_path) == []


ALONE = """
import sys
import numpy as np, onnxruntime
arrays = dict(np.load("in.npz"))
np.save("out.npy", onnxruntime.InferenceSession(sys.argv[1]).run(None, arrays)[0])
print(sorted({name.split(".")[0] for name in sys.modules} & {"keras", "tensorflow", "glcic_tf"}))
"""


def test_runs_without_tensorflow(exported, complete, tmp_path):
    image, mask = photo_and_mask(1, 57, 90)
    np.savez(tmp_path / "in.npz", image=image, mask=mask)
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(exported)], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), complete(image, mask))
