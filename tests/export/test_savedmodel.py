"""savedmodel: the SavedModel gives infer.py's pixels for every size and batch, with nothing but TensorFlow."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import skimage
import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import saved_model_pb2

from glcic_tf.common.errors import UserError
from glcic_tf.completion.completer import Completer
from glcic_tf.export import export_command, savedmodel
from glcic_tf.networks import DEFAULT_MODEL, MARGIN_PX, STRIDE, model_file
from glcic_tf.networks.completion import completion_network

SCRIPT = Path(__file__).parents[2] / "export.py"
AWKWARD_SIZES = [(1, 1), (1, 7), (7, 1), (3, 5), (4, 4), (57, 55), (40, 400)]


def random_network(dtype=None, synchronized=False):
    """Narrow C with random weights and statistics, strong enough that pixels far away count in the hole."""
    keras.utils.set_random_seed(0)
    model, rng = (
        completion_network(1 / 16, (0.4, 0.5, 0.6), synchronized=synchronized, dtype=dtype),
        np.random.default_rng(0),
    )
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = np.shape(layer.gamma)
            statistics = [rng.uniform(0.5, 1.5, shape), *rng.normal(0, 0.2, (2, *shape)), np.full(shape, 0.3)]
            layer.set_weights(statistics)
    return model


@pytest.fixture(scope="module")
def narrow():
    return random_network()


@pytest.fixture(scope="module")
def completer(narrow):
    return Completer(narrow)


@pytest.fixture(scope="module")
def saved(narrow, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "narrow"
    savedmodel.savedmodel(narrow, path, metadata={"phase": "joint"})
    return path


@pytest.fixture(scope="module")
def complete(saved):
    """The signature as clients see it: uint8 arrays in, uint8 array out."""
    return signature_of(saved)


def signature_of(path):
    loaded = tf.saved_model.load(str(path))

    def call(image, mask):
        assert loaded  # lives as long as its function
        return loaded.signatures["serving_default"](image=tf.constant(image), mask=tf.constant(mask))[
            "completed"
        ].numpy()

    return call


def photo(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


@pytest.mark.parametrize("endpoint", [{}, {"call_endpoint": "serving_default"}], ids=["default", "signature"])
def test_keras_loads_it_as_a_layer_that_works_alone_and_in_a_functional_model(saved, complete, endpoint):
    layer = keras.layers.TFSMLayer(str(saved), **endpoint)
    image, mask = photo(2, 37, 50), np.zeros((2, 37, 50, 1), np.uint8)
    mask[:, 5:20, 10:30] = 255
    expected = complete(image, mask)
    inputs = {"image": image, "mask": mask}
    np.testing.assert_array_equal(layer({k: tf.constant(v) for k, v in inputs.items()})["completed"], expected)

    tensors = {
        name: keras.Input((None, None, channels), name=name, dtype="uint8")
        for name, channels in (("image", 3), ("mask", 1))
    }
    halves = keras.layers.Rescaling(1 / 2, dtype="float32")(keras.ops.cast(layer(tensors)["completed"], "float32"))
    found = keras.Model(tensors, halves).predict(inputs, verbose=0)
    np.testing.assert_array_equal(found, expected / np.float32(2))
    np.testing.assert_array_equal(expected[mask[..., 0] == 0], image[mask[..., 0] == 0])


def mask_of(*shape, boxes=()):
    """Mask uint8 [batch, height, width, 1], 255 in boxes (example, top, left, bottom, right)."""
    mask = np.zeros((*shape, 1), np.uint8)
    for i, top, left, bottom, right in boxes:
        mask[i, top:bottom, left:right] = 255
    return mask


def assert_like_completer(result, completer, image, mask):
    assert result.shape == image.shape and result.dtype == np.uint8
    hole = mask[..., 0] >= 128
    np.testing.assert_array_equal(result[~hole], image[~hole])
    for ours, pixels, own_hole in zip(result, image, hole, strict=True):
        expected = completer(pixels, own_hole, postprocess="none")
        assert np.abs(ours.astype(int) - expected)[own_hole].max(initial=0) <= 1


def test_signature(saved, complete):
    loaded = tf.saved_model.load(str(saved))
    signature = loaded.signatures["serving_default"]
    assert list(loaded.signatures) == ["serving_default"]
    inputs = {
        name: (spec.shape.as_list(), spec.dtype) for name, spec in signature.structured_input_signature[1].items()
    }
    assert inputs == {"image": ([None, None, None, 3], tf.uint8), "mask": ([None, None, None, 1], tf.uint8)}
    outputs = {name: (spec.shape.as_list(), spec.dtype) for name, spec in signature.structured_outputs.items()}
    assert outputs == {"completed": ([None, None, None, 3], tf.uint8)}


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("size", [(256, 256), (257, 255), (600, 400)])
def test_same_pixels_as_the_completer(completer, complete, size, batch):
    height, width = size
    boxes = [(0, 80, 100, 176, 196), (0, height - 9, width - 30, height, width), (batch - 1, 0, 30, 40, 90)]
    image, mask = photo(batch, *size), mask_of(batch, *size, boxes=boxes)
    assert_like_completer(complete(image, mask), completer, image, mask)


def test_same_pixels_with_the_weights_of_the_package(tmp_path):
    model = model_file.load(DEFAULT_MODEL)
    savedmodel.savedmodel(model, tmp_path / "shipped")
    complete = signature_of(tmp_path / "shipped")
    image = skimage.data.coffee()[None, :257, :255]
    mask = mask_of(1, 257, 255, boxes=[(0, 90, 100, 190, 200)])
    assert_like_completer(complete(image, mask), Completer(model), image, mask)


@pytest.mark.parametrize("size", AWKWARD_SIZES)
def test_awkward_sizes(completer, complete, size):
    image = photo(2, *size)
    mask = np.random.default_rng(1).choice(np.uint8([0, 127, 128, 255]), (2, *size, 1))
    mask[:, 0, 0] = 127  # something is known,
    mask[:, -1, -1] = 128 if size != (1, 1) else 127  # something not
    assert_like_completer(complete(image, mask), completer, image, mask)


@pytest.mark.parametrize("size", [(0, 8, 9), (2, 0, 9), (2, 8, 0)])
def test_nothing_in_nothing_out(complete, size):
    assert complete(photo(*size), mask_of(*size)).shape == (*size, 3)


def test_all_hole_is_filled_whatever_stands_in_it(complete):
    image, mask = photo(2, 20, 30), mask_of(2, 20, 30, boxes=[(0, 5, 5, 9, 9)])
    alone = complete(image[:1], mask[:1])
    mask[1] = 255
    result = complete(image, mask)
    np.testing.assert_allclose(result[:1].astype(int), alone.astype(int), atol=1)
    np.testing.assert_array_equal(result[1], complete(255 - image, mask)[1])
    assert result[1].std() < image[1].std()


def test_one_pixel_that_is_a_hole(complete):
    assert complete(photo(1, 1, 1), np.full((1, 1, 1, 1), 255, np.uint8)).shape == (1, 1, 1, 3)


def test_image_and_mask_of_different_sizes(complete):
    for shape in ((1, 5, 4), (1, 4, 5), (2, 4, 4)):
        with pytest.raises(tf.errors.InvalidArgumentError, match="image and mask differ in batch, height or width"):
            complete(photo(1, 4, 4), mask_of(*shape, boxes=[(0, 1, 1, 2, 2)]))


def test_work_follows_the_holes():
    passed = []

    def network(inputs, training):
        assert training is False
        seen = tf.numpy_function(lambda x: passed.append(x.shape) or x, [inputs["image"]], tf.float32)
        return tf.ensure_shape(seen, [None, None, None, 3])

    complete = savedmodel.serving_function(network)
    size = (2, 1000, 1200)
    complete(photo(*size), mask_of(*size))
    assert not passed
    boxes = [(0, 300, 500, 310, 600), (1, 350, 490, 360, 500)]
    complete(photo(*size), mask_of(*size, boxes=boxes))
    # Rows 300-360 and columns 490-600, with the margin, out to multiples of 4.
    assert passed == [(2, 372, 424, 3)]


def test_window_has_the_margin_and_stays_in_the_image():
    for side in (*range(1, 10), 155, 156, 157, 400, 1001):
        for first in {0, side // 3, side - 1}:
            for last in {first, (first + side) // 2, side - 1}:
                has_hole = np.zeros(side, bool)
                has_hole[[first, last]] = True
                start, end = (int(i) for i in savedmodel._window(tf.constant(has_hole), tf.constant(side)))
                assert start % STRIDE == end % STRIDE == 0
                assert start == max(0, (first - MARGIN_PX) // STRIDE * STRIDE)
                assert min(last + 1 + MARGIN_PX, side) <= end < min(last + 1 + MARGIN_PX, side) + STRIDE


def types_in(path):
    graph = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes()).meta_graphs[0].graph_def
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    return {tf.as_dtype(value.type) for node in nodes for value in node.attr.values() if value.type}


@pytest.mark.parametrize(("policy", "fold"), [("mixed_bfloat16", True), ("mixed_float16", False)])
def test_mixed_precision_models_become_float32(completer, tmp_path, policy, fold):
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        model = random_network(policy, synchronized=True)
    keras.config.set_dtype_policy(policy)
    savedmodel.savedmodel(model, tmp_path / "mixed", fold=fold)
    assert types_in(tmp_path / "mixed") & {tf.float16, tf.bfloat16, tf.float32, tf.float64} == {tf.float32}
    keras.config.set_dtype_policy("float32")
    image, mask = photo(1, 40, 50), mask_of(1, 40, 50, boxes=[(0, 10, 10, 30, 30)])
    assert_like_completer(signature_of(tmp_path / "mixed")(image, mask), completer, image, mask)


def test_folding_is_an_option(narrow, saved, complete, tmp_path):
    savedmodel.savedmodel(narrow, tmp_path / "unfolded", fold=False)
    image, mask = photo(1, 60, 80), mask_of(1, 60, 80, boxes=[(0, 10, 20, 40, 50)])
    unfolded = signature_of(tmp_path / "unfolded")(image, mask)
    np.testing.assert_allclose(complete(image, mask).astype(int), unfolded.astype(int), atol=1)
    count = {path: len(tf.saved_model.load(str(path)).weights) for path in (saved, tmp_path / "unfolded")}
    assert count[saved] == count[tmp_path / "unfolded"] - 16 * 4


ONLY_TENSORFLOW = """
import importlib.machinery
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("keras", "glcic_tf", "tf_keras"):
            return importlib.machinery.ModuleSpec(name, self)  # TensorFlow itself asks where Keras is

    def create_module(self, spec):
        raise ModuleNotFoundError(f"{spec.name} is blocked", name=spec.name)

    def exec_module(self, module):
        pass

sys.meta_path.insert(0, Blocked())
import numpy as np
import tensorflow as tf

arrays = np.load("in.npz")
loaded = tf.saved_model.load(sys.argv[1])
completed = loaded.signatures["serving_default"](image=arrays["image"], mask=arrays["mask"])["completed"]
np.save("out.npy", completed.numpy())
print(sorted({name.split(".")[0] for name in sys.modules} & {"keras", "glcic_tf", "tf_keras"}))
"""


def test_loads_where_there_is_only_tensorflow(saved, complete, tmp_path):
    image, mask = photo(2, 57, 90), mask_of(2, 57, 90, boxes=[(0, 10, 20, 40, 50), (1, 50, 0, 57, 9)])
    np.savez(tmp_path / "in.npz", image=image, mask=mask)
    done = subprocess.run(
        [sys.executable, "-c", ONLY_TENSORFLOW, str(saved)], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), complete(image, mask))


def prediction_log_class():
    """tensorflow.serving.PredictionLog, as far as it is needed, from its published field numbers."""
    file = descriptor_pb2.FileDescriptorProto(name="warmup.proto", package="warmup", syntax="proto3")
    messages = {
        "ModelSpec": [("name", 1, "string"), ("signature_name", 3, "string")],
        "Input": [("key", 1, "string"), ("value", 2, "bytes")],  # an entry of the map
        "PredictRequest": [("model_spec", 1, "ModelSpec"), ("inputs", 2, "Input")],
        "PredictLog": [("request", 1, "PredictRequest")],
        "PredictionLog": [("predict_log", 6, "PredictLog")],
    }
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            kind = {"string": 9, "bytes": 12}.get(kind, f".warmup.{kind}")
            label = 3 if field == "inputs" else 1
            of_type = {"type": kind} if isinstance(kind, int) else {"type": 11, "type_name": kind}
            message.field.add(name=field, number=number, label=label, **of_type)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("warmup.PredictionLog"))


def test_warmup_request(saved, complete):
    records = list(tf.data.TFRecordDataset(str(saved / "assets.extra" / "tf_serving_warmup_requests")))
    assert len(records) == 1
    request = prediction_log_class().FromString(records[0].numpy()).predict_log.request
    assert request.model_spec.signature_name == "serving_default"
    inputs = {i.key: tf.make_ndarray(tensor_pb2.TensorProto.FromString(i.value)) for i in request.inputs}
    assert {name: (a.shape, a.dtype) for name, a in inputs.items()} == {
        "image": ((1, 256, 256, 3), np.uint8),
        "mask": ((1, 256, 256, 1), np.uint8),
    }
    hole = inputs["mask"] == 255
    assert hole.sum() == 96 * 96 and hole[0, 80:176, 80:176].all()
    completed = complete(**inputs)
    assert (completed != inputs["image"]).any()


def test_notes(saved):
    notes = json.loads((saved / "assets.extra" / "glcic.json").read_text())
    assert notes["model"] == {"phase": "joint"} and notes["fold_batch_norm"] is True


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_folders_are_created_and_an_empty_one_is_used(narrow, tmp_path, capfd):
    (tmp_path / "empty").mkdir()
    savedmodel.savedmodel(narrow, tmp_path / "empty")
    savedmodel.savedmodel(narrow, f"{tmp_path}/new/deep/1/")
    assert files(tmp_path / "empty") == files(tmp_path / "new" / "deep" / "1") != []
    assert sorted(os.listdir(tmp_path)) == ["empty", "new"]
    assert os.listdir(tmp_path / "new" / "deep") == ["1"]
    assert capfd.readouterr().out == ""


def test_overwriting(narrow, saved, tmp_path):
    path = shutil.copytree(saved, tmp_path / "out")
    with pytest.raises(UserError, match="out: exists already; add --overwrite"):
        savedmodel.savedmodel(narrow, path)
    before = (path / "assets.extra" / "glcic.json").read_text()
    savedmodel.savedmodel(narrow, path, overwrite=True, metadata={"new": 1})
    assert (path / "assets.extra" / "glcic.json").read_text() != before
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("names", [["letters.txt"], ["saved_model.pb", "letters.txt"], ["variables"]])
def test_what_is_no_savedmodel_is_never_replaced(narrow, tmp_path, names):
    path = tmp_path / "home"
    path.mkdir()
    for name in names:
        (path / name).write_text("mine")
    for overwrite, match in ((False, "exists already"), (True, "holds .* and is not a SavedModel alone")):
        with pytest.raises(UserError, match=match):
            savedmodel.savedmodel(narrow, path, overwrite=overwrite)
    assert files(path) == sorted(names) and os.listdir(tmp_path) == ["home"]


def test_places_that_cannot_be_written(narrow, tmp_path):
    (tmp_path / "file").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="file: is a file; expected the name of a folder"):
            savedmodel.savedmodel(narrow, tmp_path / "file", overwrite=overwrite)
        with pytest.raises(UserError, match="cannot be (created|written)"):
            savedmodel.savedmodel(narrow, tmp_path / "file" / "out", overwrite=overwrite)
    assert files(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(28, "No space left on device"), UserError),
        (tf.errors.ResourceExhaustedError(None, None, "disk full"), UserError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (ValueError("a bug"), ValueError),
    ],
    ids=lambda value: type(value).__name__,
)
def test_stopped_half_way_leaves_what_was_there(narrow, saved, tmp_path, monkeypatch, error, expected):
    path = shutil.copytree(saved, tmp_path / "out")
    before = files(path)
    save = tf.saved_model.save

    def fail(*args, **kwargs):
        save(*args, **kwargs)
        raise error

    monkeypatch.setattr(tf.saved_model, "save", fail)
    with pytest.raises(expected):
        savedmodel.savedmodel(narrow, path, overwrite=True)
    with pytest.raises(expected):
        savedmodel.savedmodel(narrow, tmp_path / "other")
    assert files(path) == before and os.listdir(tmp_path) == ["out"]


def test_old_one_comes_back_if_the_new_one_cannot_take_its_place(narrow, saved, tmp_path, monkeypatch):
    path = shutil.copytree(saved, tmp_path / "out")
    rename = Path.rename

    def fail(self, target):
        if self.suffix == ".part":
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(UserError, match="out: cannot be written .Input/output error."):
        savedmodel.savedmodel(narrow, path, overwrite=True)
    assert (path / "saved_model.pb").is_file() and os.listdir(tmp_path) == ["out"]


def test_from_the_command_line(narrow, complete, tmp_path):
    model_file.save(narrow, tmp_path / "narrow.keras", {"phase": "joint"})
    flags = ["--model=narrow.keras", "--format=savedmodel", "--output", "serving/1/"]
    command = [sys.executable, str(SCRIPT), *flags]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout[:23], done.stderr) == (0, "serving/1/: savedmodel,", "")
    image, mask = photo(1, 60, 80), mask_of(1, 60, 80, boxes=[(0, 10, 20, 40, 50)])
    np.testing.assert_array_equal(signature_of(tmp_path / "serving" / "1")(image, mask), complete(image, mask))
    notes = json.loads((tmp_path / "serving" / "1" / "assets.extra" / "glcic.json").read_text())
    assert notes["model"] == {"phase": "joint"}
    assert os.listdir(tmp_path / "serving") == ["1"]


@pytest.mark.parametrize(
    ("flags", "code", "expected"),
    [
        (["--output=out", "--format=tarball"], 2, "--format=tarball"),
        (["--model=scenes.keras"], 2, "missing: --output"),
        (["--output=out", "--model=missing.keras"], 1, "--model=missing.keras: there is no such file"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(tmp_path, glcic, monkeypatch, flags, code, expected):
    monkeypatch.chdir(tmp_path)
    found, out, err = glcic(*flags, name="export.py", command="export")
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert err.startswith("export.py: ") and expected in err
    assert os.listdir(tmp_path) == []


def test_models_and_outputs_that_cannot_be(saved, tmp_path):
    (tmp_path / "text.keras").write_text("hello")
    options = {"fold_batch_norm": True, "overwrite": False}
    with pytest.raises(UserError, match=r"text.keras: is not a model file"):
        export_command.write(tmp_path / "text.keras", tmp_path / "out", **options)
    assert files(tmp_path) == ["text.keras"]
    with pytest.raises(UserError, match=r"exists already; add --overwrite"):
        export_command.write(None, saved, **options)


def test_default_model_is_the_one_of_the_package(narrow, tmp_path, monkeypatch):
    model_file.save(narrow, tmp_path / "narrow.keras")
    monkeypatch.setattr("glcic_tf.convert.model_names.DEFAULT_MODEL", tmp_path / "narrow.keras")
    export_command.write(None, tmp_path / "out", fold_batch_norm=False, overwrite=False)
    notes = json.loads((tmp_path / "out" / "assets.extra" / "glcic.json").read_text())
    assert notes["fold_batch_norm"] is False
