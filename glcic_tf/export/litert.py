"""A completion network as one LiteRT (TensorFlow Lite) file: uint8 photos of one fixed size in and out."""

import contextlib
import logging
import os
import zipfile

import tensorflow as tf

from glcic_tf.common.errors import UsageError, UserError, first_line
from glcic_tf.export import formats
from glcic_tf.networks import STRIDE

SUFFIX = ".tflite"
DTYPES = ("float32", "float16")
SIZE = (256, 256)  # height, width in px
MAX_PIXELS = 2**24  # with which the largest tensor has 4 GB at paper width


def export(model, output, size=SIZE, dtype="float32", fold=True, overwrite=False, metadata=None):
    """Write a completion network as a LiteRT file, which appears under its name only when it is complete.

    Its signature `serving_default` has the inputs `image` [1, height, width, 3] uint8 RGB and `mask`
    [1, height, width, 1] uint8 (hole from 128 up), and the output `completed` [1, height, width, 3] uint8 RGB. Known
    pixels come out bit-equal; a photo without a hole comes out as it is. The whole photo goes through the network. The
    file only uses LiteRT's own operators. The notes about how it was made are a zip member, `glcic.json`, of the file.

    Args:
        model: Keras model as `completion.completion_network` or `model_file.load` gives it, of any dtype policy.
        output: file to write, ending in `.tflite`; the folders above it are created.
        size: height and width in px, any from 1 up.
        dtype: "float16" stores the weights in float16; the runtime decides what it computes in.
        fold: fold batch normalisation into the convolutions, see `folding.fold_batch_norm`.
        overwrite: replace a file that is there.
        metadata: dict of JSON values about the model, as given to `model_file.save`.

    Raises:
        UserError: the suffix is not `.tflite`, `output` exists and may not be replaced or cannot be written, the size
            is invalid, or LiteRT has no operator for something in the network.
    """
    formats.check_dtype(dtype, DTYPES, "litert")
    height, width = size
    if min(size) < 1 or height * width > MAX_PIXELS:
        raise UsageError(f"--size={height}x{width}: expected sides from 1 px up, and at most {MAX_PIXELS} px in all.")
    with formats.replacing_file(output, SUFFIX, overwrite) as temporary:
        content = _convert(formats.for_inference(model, fold), size, dtype)
        temporary.write_bytes(content)
        with zipfile.ZipFile(temporary, "a") as archive:  # appended to the model, as LiteRT's own metadata tools do
            archive.writestr(formats.NOTES, formats.notes(metadata, dtype, fold, size=[height, width]))


def _convert(network, size, dtype):
    """Return the bytes of the file."""
    function = completion_function(network, size)
    module = tf.Module()
    module.complete, module.weights = function, [variable.value for variable in network.variables]
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], module)
    if dtype == "float16":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    try:
        with _quiet():
            return converter.convert()
    except Exception as error:
        if type(error).__name__ != "ConverterError":  # TensorFlow does not publish the class
            raise
        raise UserError(f"--format=litert: LiteRT cannot run this network ({first_line(error)}).") from error


def completion_function(network, size):
    """Return the tf.function behind the signature, see `export`: uint8 image and mask -> {"completed": uint8}.

    In between, everything is float32: LiteRT has every operator for it, and it holds 0 to 255 exactly.
    """
    height, width = size
    below, beside = -height % STRIDE, -width % STRIDE

    @tf.function(
        autograph=False,
        input_signature=[
            tf.TensorSpec([1, height, width, 3], tf.uint8, name="image"),
            tf.TensorSpec([1, height, width, 1], tf.uint8, name="mask"),
        ],
    )
    def complete(image, mask):
        image, mask = tf.cast(image, tf.float32), tf.cast(mask, tf.float32)
        hole = mask >= 128
        rgb = _extend(tf.where(hole, 0.0, image / 255), below, beside)
        padded_hole = _extend(tf.cast(hole, tf.float32), below, beside)
        completed = network({"image": rgb, "mask": padded_hole}, training=False)[:, :height, :width]
        completed = tf.clip_by_value(tf.round(completed * 255), 0.0, 255.0)
        return {"completed": tf.cast(tf.where(hole, completed, image), tf.uint8)}

    return complete


def _extend(x, below, beside):
    """Repeat the last row and the last column so many times: [batch, height, width, channels]."""
    x = tf.concat([x] + [x[:, -1:]] * below, axis=1)
    return tf.concat([x] + [x[:, :, -1:]] * beside, axis=2)


@contextlib.contextmanager
def _quiet():
    """Hide what the converter prints and logs about its stages, in Python and C++; errors are raised anyway."""
    logger = tf.get_logger()
    level, kept, nothing = logger.level, os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
