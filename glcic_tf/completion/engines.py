"""What runs the completion network: TensorFlow, or ONNX Runtime, which takes a fraction of a second to start.

Both run the same `plain.Network`. Neither is imported before one is chosen.
"""

import contextlib
import importlib.util
import typing

from glcic_tf.common import cli
from glcic_tf.common.errors import UsageError, UserError

ENGINES = ("tensorflow", "onnxruntime", "auto")
DEFAULT = "tensorflow"  # so that one command gives the same bytes wherever it runs
DTYPES = ("float32", "bfloat16")
_PACKAGES = ("onnx", "onnxruntime")  # of the extra


class Engine(typing.Protocol):
    """A completion network, ready to run; by one thread at a time.

    Attributes:
        frame: the frames.Frame of what it can complete; None, or missing: photos of any size.
    """

    def __call__(self, image, mask):
        """Complete a batch.

        Args:
            image: [batch, height, width, 3] float32 RGB in [0, 1]; height and width are multiples of STRIDE.
            mask: [batch, height, width, 1] float32, 1 in the hole.

        Returns:
            Array [batch, height, width, 3] float32 in [0, 1], of use inside the hole only.

        Raises:
            MemoryError: the batch is too much for the memory.
        """


def load(path, dtype="float32", engine=DEFAULT):
    """Load the network of a model file into an engine.

    Args:
        path: `.keras` file, see `model_file.load`.
        dtype: one of DTYPES.
        engine: one of ENGINES; "auto": ONNX Runtime where it is installed and has the dtype, else TensorFlow.

    Returns:
        Engine.

    Raises:
        UserError: the file is missing or no model file for completion, or a package is missing.
        UsageError: the engine has no such dtype.
        ValueError: no engine has it.
    """
    check_dtype(dtype)
    if engine == "auto" and dtype == "float32" and not _missing():
        with contextlib.suppress(UserError):  # a layer that ONNX lacks; of a broken file TensorFlow's engine says so
            return load(path, dtype, "onnxruntime")
    if engine in ("tensorflow", "auto"):
        with cli.quiet_start():
            from glcic_tf.completion.tensorflow_engine import TensorFlowEngine

            return TensorFlowEngine.load(path, dtype)
    if dtype != "float32":
        raise UsageError(f"--dtype={dtype}: --engine=onnxruntime has float32 only; choose --engine=tensorflow.")
    missing = _missing()
    if missing:
        name = missing[0]
        raise UserError(f"--engine={engine}: the package {name} is not installed; run: {cli.install_line('onnx')}")
    from glcic_tf.completion.onnxruntime_engine import OnnxRuntimeEngine

    return OnnxRuntimeEngine.load(path)


def check_dtype(dtype):
    """Raise ValueError unless a dtype is one of DTYPES."""
    if dtype not in DTYPES:
        raise ValueError(f"dtype: expected one of {', '.join(DTYPES)}, found {dtype!r}.")


def _missing():
    return [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
