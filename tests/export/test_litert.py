"""litert: LiteRT's interpreter gives infer.py's pixels from the exported file."""

import json
import os
import zipfile

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from export_helpers import assert_like_completer, other_network, photo_and_mask, random_network

from glcic_tf.common.errors import UserError
from glcic_tf.completion.completer import Completer
from glcic_tf.export import litert as exporter
from glcic_tf.networks import DEFAULT_MODEL, model_file


def runner(path):
    signature = Interpreter(str(path), num_threads=1).get_signature_runner("serving_default")
    return lambda image, mask: signature(image=image, mask=mask)["completed"]


@pytest.fixture(scope="module")
def exported(narrow, tmp_path_factory):
    path = tmp_path_factory.mktemp("litert") / "new" / "narrow.tflite"
    exporter.export(narrow, path, metadata={"phase": "joint"})
    return path


def test_interface(exported):
    interpreter = Interpreter(str(exported))
    assert interpreter.get_signature_list() == {
        "serving_default": {"inputs": ["image", "mask"], "outputs": ["completed"]}
    }
    signature = interpreter.get_signature_runner("serving_default")
    found = {**signature.get_input_details(), **signature.get_output_details()}
    found = {name: (tuple(d["shape"]), d["dtype"]) for name, d in found.items()}
    channels = {"image": 3, "mask": 1, "completed": 3}
    assert found == {name: ((1, 256, 256, n), np.uint8) for name, n in channels.items()}


@pytest.mark.parametrize("size", [(256, 256), (257, 255), (57, 90), (1, 1), (3, 5)])
def test_same_pixels_as_the_completer(narrow, completer, exported, tmp_path, size):
    path = exported if size == exporter.SIZE else tmp_path / "sized.tflite"
    if path != exported:
        exporter.export(narrow, path, size)
    complete, (image, mask) = runner(path), photo_and_mask(1, *size)
    if size != (1, 1):
        assert_like_completer(complete(image, mask), completer, image, mask)
    np.testing.assert_array_equal(complete(image, mask * 0), image)
    full = np.full_like(mask, 255)
    np.testing.assert_array_equal(complete(image, full), complete(255 - image, full))


@pytest.mark.parametrize(("dtype", "levels"), [("float32", 1), ("float16", 2)])
def test_same_pixels_with_the_weights_of_the_package(tmp_path, dtype, levels):
    model = model_file.load(DEFAULT_MODEL)
    exporter.export(model, tmp_path / "shipped.tflite", dtype=dtype)
    image, mask = photo_and_mask(1, 256, 256)
    assert_like_completer(runner(tmp_path / "shipped.tflite")(image, mask), Completer(model), image, mask, levels)


def test_layers_of_other_networks(tmp_path):
    model = other_network()
    exporter.export(model, tmp_path / "other.tflite", (61, 78), fold=False)
    image, mask = photo_and_mask(1, 61, 78)
    assert_like_completer(runner(tmp_path / "other.tflite")(image, mask), Completer(model), image, mask)


def test_only_its_own_operators(exported):
    names = {operator["op_name"] for operator in Interpreter(str(exported))._get_ops_details()}
    assert "CONV_2D" in names and not [name for name in names if name.startswith("Flex")]


def test_float16_is_half_the_file(tmp_path):
    calm, size = random_network(), (60, 80)
    for dtype in exporter.DTYPES:
        exporter.export(calm, tmp_path / f"{dtype}.tflite", size, dtype)
    image, mask = photo_and_mask(1, *size)
    assert_like_completer(runner(tmp_path / "float16.tflite")(image, mask), Completer(calm), image, mask, 2)
    sizes = [(tmp_path / f"{dtype}.tflite").stat().st_size for dtype in ("float16", "float32")]
    assert sizes[0] < 0.7 * sizes[1]


def test_notes(exported):
    with zipfile.ZipFile(exported) as archive:
        notes = json.loads(archive.read("glcic.json"))
    assert notes["model"] == {"phase": "joint"} and notes["size"] == [256, 256]


def test_nothing_is_printed(narrow, tmp_path, capfd):
    exporter.export(narrow, tmp_path / "net.tflite", (8, 8))
    assert capfd.readouterr() == ("", "")


def test_outputs_that_cannot_be(narrow, exported, tmp_path):
    with pytest.raises(UserError, match="narrow.tflite: exists already; add --overwrite"):
        exporter.export(narrow, exported)
    with pytest.raises(UserError, match="net.lite: expected a name that ends in .tflite, found .lite"):
        exporter.export(narrow, tmp_path / "net.lite")
    with pytest.raises(UserError, match="--dtype=bfloat16: --format=litert has float32 and float16"):
        exporter.export(narrow, tmp_path / "net.tflite", dtype="bfloat16")
    for size in ((0, 8), (8, -1), (99999, 99999)):
        with pytest.raises(UserError, match="--size=.*: expected sides from 1 px up"):
            exporter.export(narrow, tmp_path / "net.tflite", size)
    assert os.listdir(tmp_path) == []
