"""A completion network for OpenVINO, an .xml and a .bin file in one folder: uint8 photos of any size in and out."""

from xml.etree import ElementTree

from glcic_tf.common import files
from glcic_tf.common.errors import UsageError
from glcic_tf.export import formats
from glcic_tf.export import onnx as onnx_format

DTYPES = ("float32", "bfloat16", "float16")
XML, BIN = "model.xml", "model.bin"


def export(model, output, dtype="float32", fold=True, overwrite=False, metadata=None):
    """Write a completion network as a folder with `model.xml` and `model.bin`, which appears when it is complete.

    Inputs and output are those of `glcic_tf.export.onnx.export`, whose graph is translated: the result runs faster than
    OpenVINO's translation of the TensorFlow graph. The folder also holds notes about how it was made, `glcic.json`.

    Args:
        model: Keras model as `completion.completion_network` or `model_file.load` gives it, of any dtype policy.
        output: folder to write; those above it are created.
        dtype: "float32" stores weights and computes in float32, whatever the runtime would prefer; "float16" stores the
            weights in float16 and computes in float32. "bfloat16" stores float32 and lets the runtime choose what it
            computes in: bfloat16 on CPUs that have it, float16 on GPUs.
        fold: fold batch normalisation into the convolutions, see `folding.fold_batch_norm`.
        overwrite: replace an OpenVINO model that is there.
        metadata: dict of JSON values about the model, as given to `model_file.save`.

    Raises:
        UserError: the packages `openvino` or `onnx` are missing, `output` exists and may not be replaced or cannot be
            written, or the network has a layer that is not supported.
    """
    formats.check_dtype(dtype, DTYPES, "openvino")
    openvino, onnx = (formats.optional_package(name, name, "openvino") for name in ("openvino", "onnx"))
    transformations = formats.optional_package("openvino._offline_transformations", "openvino", "openvino")
    if str(output).lower().endswith((".xml", ".bin")):
        raise UsageError(f"{output}: expected the name of a folder for {XML} and {BIN}; leave the suffix out.")
    members = {XML, BIN, formats.NOTES}
    with files.replacing_folder(output, overwrite, "an OpenVINO model", XML, members) as temporary:
        proto = onnx_format.build(onnx, formats.for_inference(model, fold))
        # What openvino.convert_model does, except that it also sends a message to its maker's server.
        converted = openvino.Core().read_model(proto.SerializeToString())
        transformations.apply_moc_transformations(converted, cf=True)
        openvino.save_model(converted, temporary / XML, compress_to_fp16=dtype == "float16")
        if dtype != "bfloat16":
            _keep_float32(temporary / XML)
        notes = formats.notes(metadata, dtype, fold, {"onnx": onnx.__version__, "openvino": openvino.__version__})
        (temporary / formats.NOTES).write_text(notes, encoding="utf-8")


def _keep_float32(path):
    """Mark every layer in an .xml file to be computed in float32.

    Otherwise the runtime uses bfloat16 on CPUs that have it, unless its user sets INFERENCE_PRECISION_HINT.
    """
    tree = ElementTree.parse(path)
    for layer in tree.iter("layer"):
        marks = layer.find("rt_info")
        if marks is None:
            marks = ElementTree.Element("rt_info")
            layer.insert(0 if layer.find("data") is None else 1, marks)
        ElementTree.SubElement(marks, "attribute", name="precise", version="0")
    tree.write(path, encoding="utf-8", xml_declaration=True)
