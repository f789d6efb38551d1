"""`glcic export`: its flags, and which module writes which format."""

import re
import time

import absl.logging
from absl import flags

from glcic_tf.common import cli, files
from glcic_tf.common.errors import UsageError
from glcic_tf.convert import model_names


def savedmodel(model, output, dtype, **options):
    """Write a folder that TensorFlow and TensorFlow Serving load, see `glcic_tf.export.savedmodel`."""
    from glcic_tf.export import savedmodel as format

    if dtype != "float32":
        raise UsageError(f"--dtype={dtype}: --format=savedmodel only has float32; choose another --format.")
    format.savedmodel(model, output, **options)


def onnx(model, output, **options):
    """Write a file for ONNX Runtime and others, see `glcic_tf.export.onnx`."""
    from glcic_tf.export import onnx

    onnx.export(model, output, **options)


def openvino(model, output, **options):
    """Write a folder for OpenVINO, see `glcic_tf.export.openvino`."""
    from glcic_tf.export import openvino

    openvino.export(model, output, **options)


def litert(model, output, **options):
    """Write a file for LiteRT (TensorFlow Lite), see `glcic_tf.export.litert`."""
    from glcic_tf.export import litert

    litert.export(model, output, **options)


FORMATS = {"savedmodel": savedmodel, "onnx": onnx, "openvino": openvino, "litert": litert}
DTYPES = ["float32", "bfloat16", "float16"]


def write(model, output, format="savedmodel", size=None, dtype="float32", *, fold_batch_norm, overwrite):
    """Load a network that `Completer.load` could load, write it, and print a line about it; raises UserError."""
    start = time.perf_counter()
    options = {"fold": fold_batch_norm, "overwrite": overwrite, "dtype": dtype}
    if size is not None:
        options["size"] = _size(size, format)
    path = model_names.path_of(model, "--model")
    with cli.clock(str(output)):
        with cli.quiet_start():  # from here on it takes seconds
            from glcic_tf.networks import frames, model_file

        network = model_file.load(path)
        frames.refuse_export(network)
        FORMATS[format](network, output, metadata=model_file.read_metadata(path), **options)
    print(f"{output}: {format}, {files.total_bytes(output) / 1e6:.1f} MB; {time.perf_counter() - start:.1f} s")


def _size(text, format):
    """Return height and width in px."""
    if format != "litert":
        raise UsageError(f"--size={text}: --format={format} takes photos of any size; leave it out.")
    if not re.fullmatch(r"[1-9][0-9]{0,5}x[1-9][0-9]{0,5}", text):
        raise UsageError(f"--size={text}: expected HEIGHTxWIDTH in px, as in 256x320.")
    return tuple(int(side) for side in text.split("x"))


def define_export_flags():
    """Define the command's flags."""
    model_names.define_flag()
    flags.DEFINE_enum("format", "savedmodel", list(FORMATS), "What to write.")
    flags.DEFINE_string("output", None, "File (onnx, litert) or folder to write.", required=True)
    flags.DEFINE_enum("dtype", "float32", DTYPES, "The type of weights and computation, where the format has it.")
    flags.DEFINE_string("size", None, "HEIGHTxWIDTH of the photos in px, for litert only; by default 256x256.")
    flags.DEFINE_bool("fold_batch_norm", True, "Fold batch normalisation into the convolutions: faster, equal to 1e-4.")
    flags.DEFINE_bool("overwrite", False, "Replace what was exported to --output before.")


def run_export():
    """Write a completion network in a format that works without Keras and this package: photos in, photos out.

      glcic export --output serving/glcic/1
      glcic export --model run/joint.keras --format=savedmodel --output serving/glcic/1
      glcic export --format=onnx --output glcic.onnx
      glcic export --format=openvino --dtype=float16 --output openvino/glcic/1
      glcic export --format=litert --size=256x320 --output glcic.tflite

    How to call what it writes: docs/serving.md.
    """
    args = flags.FLAGS
    absl.logging.set_verbosity(absl.logging.WARNING)  # TensorFlow logs the internals of what it saves there
    options = {"fold_batch_norm": args.fold_batch_norm, "overwrite": args.overwrite}
    write(args.model, args.output, args.format, args.size, args.dtype, **options)
