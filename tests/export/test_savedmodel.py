"""savedmodel: the SavedModel gives infer.py's pixels for every size and batch, with nothing but TensorFlow."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import skimage
import tensorflow as tf
from export_helpers import random_network
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from savedmodel_helpers import mask_of, photo, signature_of
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import saved_model_pb2

from glcic_tf.completion.completer import Completer
from glcic_tf.export import savedmodel
from glcic_tf.networks import DEFAULT_MODEL, MARGIN_PX, STRIDE, model_file

AWKWARD_SIZES = [(1, 1), (1, 7), (7, 1), (3, 5), (4, 4), (57, 55), (40, 400)]


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
        model = random_network(gain=3.0, dtype=policy, synchronized=True)
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
