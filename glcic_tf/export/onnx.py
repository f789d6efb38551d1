"""A completion network as one ONNX file: uint8 photos of any size in and out, for ONNX Runtime and others.

The graph does what the SavedModel of `glcic_tf.export.savedmodel` does, in the same steps.
"""

import numpy as np

from glcic_tf.export import formats
from glcic_tf.networks import MARGIN_PX, STRIDE, folding
from glcic_tf.networks.onnx_graph import Graph, add_network

SUFFIX = ".onnx"
DTYPES = ("float32", "float16")  # ONNX Runtime has no convolution in bfloat16 on the CPU


def export(model, output, dtype="float32", fold=True, overwrite=False, metadata=None):
    """Write a completion network as an ONNX file, which appears under its name only when it is complete.

    Inputs: `image` [batch, height, width, 3] uint8 RGB and `mask` [batch, height, width, 1] uint8 (hole from 128 up),
    with batch, height and width from 1 up. Output: `completed` [batch, height, width, 3] uint8 RGB. Known pixels come
    out bit-equal; an image that is all hole is filled from nothing. Only one window around all holes of the batch goes
    through the network. The notes about how it was made are in the file's metadata, under `glcic.json`.

    Args:
        model: Keras model as `completion.completion_network` or `model_file.load` gives it, of any dtype policy.
        output: file to write, ending in `.onnx`; the folders above it are created.
        dtype: one of DTYPES, for the network's weights and computation.
        fold: fold batch normalisation into the convolutions, see `folding.fold_batch_norm`.
        overwrite: replace a file that is there.
        metadata: dict of JSON values about the model, as given to `model_file.save`.

    Raises:
        UserError: the package `onnx` is missing, the suffix is not `.onnx`, `output` exists and may not be replaced or
            cannot be written, or the network has a layer that is not supported.
    """
    formats.check_dtype(dtype, DTYPES, "onnx")
    onnx = formats.optional_package("onnx", "onnx", "onnx")
    with formats.replacing_file(output, SUFFIX, overwrite) as temporary:
        proto = build(onnx, formats.for_inference(model, fold), dtype)
        notes = formats.notes(metadata, dtype, fold, {"onnx": onnx.__version__})
        onnx.helper.set_model_props(proto, {formats.NOTES: notes})
        onnx.checker.check_model(proto, full_check=True)
        temporary.write_bytes(proto.SerializeToString())


def build(onnx, network, dtype="float32"):
    """Return the ModelProto that `export` writes.

    Args:
        onnx: the package `onnx`.
        network: float32 completion network, see `completion.completion_network`.
        dtype: one of DTYPES.
    """
    graph, uint8 = Graph(onnx), onnx.TensorProto.UINT8
    sizes = ["batch", "height", "width"]
    image, mask, completed = (
        onnx.helper.make_tensor_value_info(name, uint8, [*sizes, channels])
        for name, channels in {"image": 3, "mask": 1, "completed": 3}.items()
    )
    _add_completion(graph, network, dtype)
    return graph.model("completion", [image, mask], [completed])


def _add_completion(graph, network, dtype):
    """Append everything from the inputs `image` and `mask` to the output `completed`; see `savedmodel._complete`."""
    add, types = graph.add, graph.onnx.TensorProto
    size = add("Shape", "image")
    height, width = (add("Gather", size, axis) for axis in (1, 2))
    mask = add("Cast", "mask", to=types.INT32)
    hole = add("GreaterOrEqual", mask, np.int32(128))
    top, bottom = _add_window(graph, mask, [0, 2, 3], height)
    left, right = _add_window(graph, mask, [0, 1, 3], width)

    def crop(x):
        for first, last, side, axis in ((top, bottom, height, 1), (left, right, width, 2)):
            # Beyond the image, up to a multiple of STRIDE, its last row and column are repeated.
            inside = add("Min", add("Range", first, last, 1), add("Sub", side, 1))
            x = add("Gather", x, inside, axis=axis)
        return x

    crop_hole = crop(hole)
    rgb = add("Div", add("Cast", crop("image"), to=types.FLOAT), np.float32(255))
    rgb = add("Where", crop_hole, np.float32(0), rgb)
    inputs = {"image": rgb, "mask": add("Cast", crop_hole, to=types.FLOAT)}
    half = dtype == "float16"
    for name, x in inputs.items():
        x = add("Transpose", x, perm=[0, 3, 1, 2])
        inputs[name] = add("Cast", x, to=types.FLOAT16) if half else x
    x = add_network(graph, folding.as_plain(network), inputs, dtype)
    x = add("Cast", x, to=types.FLOAT) if half else x

    x = add("Clip", add("Round", add("Mul", x, np.float32(255))), np.float32(0), np.float32(255))
    x = add("Transpose", add("Cast", x, to=types.UINT8), perm=[0, 2, 3, 1])
    bottom, right = add("Min", bottom, height), add("Min", right, width)
    one = np.array([1])  # the shape of a vector with one number
    ends = [add("Reshape", add("Sub", *ends), one) for ends in ((bottom, top), (right, left))]
    x = add("Slice", x, np.array([0, 0]), add("Concat", *ends, axis=0), np.array([1, 2]))
    zero = np.array([0])
    before = [add("Reshape", side, one) for side in (top, left)]
    after = [add("Reshape", add("Sub", *ends), one) for ends in ((height, bottom), (width, right))]
    x = add("Pad", x, add("Concat", zero, *before, zero, zero, *after, zero, axis=0))
    add("Where", hole, x, "image", name="completed")


def _add_window(graph, mask, axes, side):
    """Append nodes that find the first row (or column) that the holes need, and the one after the last.

    Without a hole both are near the first row: a little is computed, and then discarded.

    Args:
        graph: `Graph`.
        mask: name of a tensor int32 [batch, height, width, 1].
        axes: all axes but that of the rows (or columns).
        side: name of the height (or width), an int64 number.

    Returns:
        Names of two int64 numbers, multiples of STRIDE.
    """
    add = graph.add
    highest = add("ReduceMax", mask, np.array(axes), keepdims=0)
    has_hole = add("Cast", add("GreaterOrEqual", highest, np.int32(128)), to=graph.onnx.TensorProto.INT64)
    positions = add("Mul", has_hole, add("Range", 0, side, 1))
    last = add("ReduceMax", positions, keepdims=0)
    first = add("ArgMax", add("Cast", has_hole, to=graph.onnx.TensorProto.INT32), axis=0, keepdims=0)

    def multiple(x):
        return add("Mul", add("Div", x, STRIDE), STRIDE)

    first = add("Max", multiple(add("Sub", first, MARGIN_PX)), 0)
    last = multiple(add("Add", last, MARGIN_PX + STRIDE))
    return first, add("Min", last, multiple(add("Add", side, STRIDE - 1)))
