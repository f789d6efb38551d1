"""A completion network as a SavedModel that takes photos as they are: uint8 in, uint8 out, any size.

The graph does what `completer` does at full resolution, with one window around all holes of the batch. It only needs
TensorFlow, without Keras and this package, and runs in TensorFlow Serving, for example.
"""

import json

import keras
import numpy as np
import tensorflow as tf

from glcic_tf.common import files
from glcic_tf.common.errors import first_line
from glcic_tf.networks import MARGIN_PX, STRIDE, folding, model_file

SIGNATURE = "serving_default"  # what TensorFlow Serving calls unless told otherwise
WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
NOTES_FILE = "assets.extra/glcic.json"
_MEMBERS = {"assets", "assets.extra", "fingerprint.pb", "saved_model.pb", "variables"}
_WARMUP_SIZE_PX, _WARMUP_HOLE_PX = 256, 96


def savedmodel(model, output, fold=True, overwrite=False, metadata=None):
    """Write a completion network as a SavedModel folder, which appears under its name only when it is complete.

    Its signature `serving_default` has the inputs `image` [batch, height, width, 3] uint8 RGB and `mask`
    [batch, height, width, 1] uint8 (hole from 128 up), batch, height and width being any, and the output `completed`
    [batch, height, width, 3] uint8 RGB. Known pixels come out bit-equal; a batch without a hole comes out as it is, and
    an image that is all hole is filled from nothing, since a graph cannot refuse one of several. It computes in
    float32, whatever the policy that the model was trained in. `keras.layers.TFSMLayer(output)` loads it as a layer of
    {"image": ..., "mask": ...}.

    The folder also holds a request that warms up TensorFlow Serving, and notes about how it was made,
    `assets.extra/glcic.json`.

    Args:
        model: Keras model as `completion.completion_network` or `model_file.load` gives it, of any dtype policy.
        output: folder to write; those above it are created.
        fold: fold batch normalisation into the convolutions, see `folding.fold_batch_norm`.
        overwrite: replace a SavedModel that is there. Without it only an empty folder is replaced.
        metadata: dict of JSON values about the model, as given to `model_file.save`.

    Raises:
        UserError: `output` exists and may not be replaced, or cannot be written.
    """
    versions = {"keras": keras.__version__, "tensorflow": tf.__version__}
    notes = {"made_with": versions, "fold_batch_norm": bool(fold), "model": metadata or {}}
    notes = json.dumps(notes, indent=1, sort_keys=True)
    with files.replacing_folder(output, overwrite, "a SavedModel", "saved_model.pb", _MEMBERS) as temporary:
        network = folding.fold_batch_norm(model) if fold else model_file.float32_copy(model)
        module = tf.Module()
        module.weights = [variable.value for variable in network.variables]  # so that they are saved
        try:
            complete = serving_function(network)
            module.serve = module.serving_default = _of_dict(complete)  # what keras.layers.TFSMLayer looks for
            tf.saved_model.save(module, str(temporary), signatures={SIGNATURE: complete})
        except tf.errors.OpError as error:
            raise OSError(0, first_line(error)) from error
        (temporary / NOTES_FILE).parent.mkdir()
        (temporary / NOTES_FILE).write_text(notes, encoding="utf-8")
        with tf.io.TFRecordWriter(str(temporary / WARMUP_FILE)) as writer:
            writer.write(_warmup_request())


def serving_function(network):
    """Return the tf.function behind the signature, see `savedmodel`: uint8 image and mask -> {"completed": uint8}.

    Args:
        network: float32 completion network, see `completion.completion_network`.
    """

    @tf.function(
        autograph=False,
        input_signature=[
            tf.TensorSpec([None, None, None, 3], tf.uint8, name="image"),
            tf.TensorSpec([None, None, None, 1], tf.uint8, name="mask"),
        ],
    )
    def complete(image, mask):
        same_size = tf.debugging.assert_equal(
            tf.shape(image)[:3],
            tf.shape(mask)[:3],
            message="image and mask differ in batch, height or width; expected [batch, height, width, 3] and [.., 1]",
        )
        with tf.control_dependencies([same_size]):
            hole = mask >= 128
        completed = tf.cond(tf.reduce_any(hole), lambda: _complete(network, image, hole), lambda: image)
        return {"completed": completed}

    return complete


def _of_dict(complete):
    """Return the same function of one dict with both inputs, as a layer is called; a signature only takes keywords."""
    image, mask = complete.input_signature

    @tf.function(autograph=False, input_signature=[{"image": image, "mask": mask}])
    def serve(inputs):
        return complete(inputs["image"], inputs["mask"])

    return serve


def _complete(network, image, hole):
    """Fill the holes (bool [batch, height, width, 1], at least one) of uint8 [batch, height, width, 3]."""
    height, width = tf.shape(image)[1], tf.shape(image)[2]
    top, bottom = _window(tf.reduce_any(hole, axis=[0, 2, 3]), height)
    left, right = _window(tf.reduce_any(hole, axis=[0, 1, 3]), width)
    # Beyond the image, up to a multiple of STRIDE, its last row and column are repeated, which tf.pad cannot do.
    rows, columns = tf.minimum(tf.range(top, bottom), height - 1), tf.minimum(tf.range(left, right), width - 1)
    crop, crop_hole = (tf.gather(tf.gather(x, rows, axis=1), columns, axis=2) for x in (image, hole))

    rgb = tf.where(crop_hole, 0.0, tf.cast(crop, tf.float32) / 255)
    completed = network({"image": rgb, "mask": tf.cast(crop_hole, tf.float32)}, training=False)
    completed = tf.saturate_cast(tf.round(completed * 255), tf.uint8)

    bottom, right = tf.minimum(bottom, height), tf.minimum(right, width)
    completed = completed[:, : bottom - top, : right - left]
    completed = tf.pad(completed, [[0, 0], [top, height - bottom], [left, width - right], [0, 0]])
    return tf.where(hole, completed, image)


def _window(has_hole, side):
    """Return the first row (or column) that the holes need, and the one after the last, as multiples of STRIDE.

    Args:
        has_hole: bool [side], at least one True.
        side: int32, px.
    """
    holes = tf.cast(tf.where(has_hole)[:, 0], tf.int32)
    first = tf.maximum((tf.reduce_min(holes) - MARGIN_PX) // STRIDE * STRIDE, 0)
    last = tf.minimum(_round_up(tf.reduce_max(holes) + 1 + MARGIN_PX), _round_up(side))
    return first, last


def _round_up(side):
    return -(-side // STRIDE) * STRIDE


def _warmup_request():
    """Encode a request with a typical hole as tensorflow.serving.PredictionLog, without depending on its package."""
    side, hole = _WARMUP_SIZE_PX, _WARMUP_HOLE_PX
    mask = np.zeros((1, side, side, 1), np.uint8)
    first = (side - hole) // 2
    mask[:, first : first + hole, first : first + hole] = 255
    inputs = {
        "image": tf.make_tensor_proto(128, tf.uint8, [1, side, side, 3]),  # grey all over: one value in the file
        "mask": tf.make_tensor_proto(mask),
    }
    request = _field(
        1, _field(1, b"glcic") + _field(3, SIGNATURE.encode())
    )  # PredictRequest.model_spec: name, signature
    for name, tensor in inputs.items():
        request += _field(2, _field(1, name.encode()) + _field(2, tensor.SerializeToString()))  # a map's key and value
    return _field(6, _field(1, request))  # PredictionLog.predict_log, PredictLog.request


def _field(number, payload):
    """Encode bytes as a protobuf field with this number (under 16): tag, length, payload."""
    length, size = b"", len(payload)
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + payload
