"""A completion network in ONNX Runtime: no TensorFlow, no Keras.

The graph is made once from a model file, and kept in the user's cache folder under the checksums of what it was made
from and of itself: one that is cut short or damaged is made again.
"""

import contextlib
import hashlib
from pathlib import Path

import onnxruntime

import glcic_tf
from glcic_tf.common import files
from glcic_tf.common.errors import UserError, first_line
from glcic_tf.networks import model_zip, plain
from glcic_tf.networks.model_config import RefusedModel

_GRAPH = 1  # number of the way in which graphs are made; another one makes them anew
_NO_MEMORY = ("alloc", "memory")  # in the message of an error
_QUIET = 3  # errors alone


class OnnxRuntimeEngine:
    """See `engines.Engine`.

    Args:
        graph: bytes of an ONNX model, as `build` makes it.
    """

    def __init__(self, graph):
        self._graph = graph
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _QUIET
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    @classmethod
    def load(cls, path):
        """Load a model file, from the cache if it was used before.

        Raises:
            UserError: as `plain.read`, or the network has a layer that cannot be written as ONNX.
        """
        path = Path(path)
        try:
            model_zip.opened(path).close()  # there, and not larger than a model file may be
        except RefusedModel as refused:
            raise model_zip.user_error(path, refused) from refused
        made_from = f"{glcic_tf.__version__} {_GRAPH}".encode() + hashlib.sha256(path.read_bytes()).digest()
        key, folder = hashlib.sha256(made_from).hexdigest()[:32], cache_folder()
        for kept in sorted(folder.glob(f"{key}-*.onnx")) if folder else ():
            try:
                graph = kept.read_bytes()
                if kept.stem == f"{key}-{_checksum(graph)}":
                    return cls(graph)
            except Exception:  # ONNX Runtime raises nearly any class; whatever it is, the graph is made again
                pass
            _forget(kept)
        network = plain.read(path)
        try:
            graph = build(network)
            engine = cls(graph)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
        except Exception as error:  # likewise; onnx too
            refused = RefusedModel(f"its layers do not fit together ({first_line(error)})")
            raise model_zip.user_error(path, refused) from error
        _keep(folder, f"{key}-{_checksum(graph)}.onnx", graph)
        return engine

    def __reduce__(self):
        return OnnxRuntimeEngine, (self._graph,)

    def __call__(self, image, mask):
        """See `engines.Engine`."""
        try:
            return self._session.run(None, {"image": image, "mask": mask})[0]
        except Exception as error:  # of ONNX Runtime's own classes, which tell memory from others by the text alone
            if any(word in str(error).lower() for word in _NO_MEMORY):
                raise MemoryError from error
            raise


def cache_folder():
    """Return the folder that graphs are kept in: pathlib.Path; None where there is no place for it."""
    try:
        return files.cache_folder("onnx")
    except UserError:
        return None


def build(network):
    """Write a network as ONNX: `image` and `mask` in, `completed` out, as `engines.Engine` has them.

    Args:
        network: plain.Network.

    Returns:
        bytes.

    Raises:
        UserError: it has a layer that cannot be written as ONNX.
    """
    import onnx  # here: a graph from the cache does without

    from glcic_tf.networks.onnx_graph import Graph, add_network

    graph, sizes = Graph(onnx), ["batch", "height", "width"]
    image, mask, completed = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [*sizes, channels])
        for name, channels in {"image": 3, "mask": 1, "completed": 3}.items()
    )
    inputs = {name: graph.add("Transpose", name, perm=[0, 3, 1, 2]) for name in ("image", "mask")}
    x = add_network(graph, plain.fold(network), inputs, "float32")
    graph.add("Transpose", x, perm=[0, 2, 3, 1], name="completed")
    model = graph.model("completion", [image, mask], [completed])
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _checksum(content):
    return hashlib.sha256(content).hexdigest()[:32]


def _keep(folder, name, graph):
    """Write a graph to the cache; where that cannot be written to, it is made again the next time."""
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with files.replacing(folder / name) as temporary:
            temporary.write_bytes(graph)
    except (OSError, UserError):
        pass


def _forget(path):
    with contextlib.suppress(OSError):  # another process was faster, or the folder may not be written to
        path.unlink()
