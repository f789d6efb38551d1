"""Time to complete one photo in the runtimes that `glcic export` writes for, beside TensorFlow and PyTorch.

    python -m benchmarks.runtimes [--size=512] [--width=1.0] [--repetitions=10]

All have the same weights (random ones: times do not depend on them) and the same uint8 photo and mask, whose hole is
so large that every window is the whole photo. The repetitions are interleaved, so that whatever else the machine does
falls on all alike. What is not installed is left out:

    pip install onnx onnxruntime openvino ai-edge-litert torch
"""

import importlib.util
import platform
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from absl import flags

from glcic_tf.common import cli
from glcic_tf.networks import MARGIN_PX

_SIZE = flags.DEFINE_integer("size", 512, "side of the square photo, px", lower_bound=2 * MARGIN_PX + 1)
_WIDTH = flags.DEFINE_float("width", 1.0, "factor on the number of channels; 1 is the paper's", lower_bound=0.0)
_REPETITIONS = flags.DEFINE_integer("repetitions", 10, "timed calls of each", lower_bound=1)
_THREADS = flags.DEFINE_integer("threads", 0, "threads of LiteRT, which has no default; 0: one for each CPU")

_PAUSE_S = 0.3  # threads of the one before go on spinning for a while


def tensorflow(network):
    """Return {name: function of (image, mask)} for the SavedModel's graph; the network is folded float32."""
    from glcic_tf.export import savedmodel
    from glcic_tf.networks import folding

    def in_dtype(network):
        complete = savedmodel.serving_function(network)
        return lambda image, mask: complete(image, mask)["completed"].numpy()

    in_bfloat16 = folding.compute_in_bfloat16(network)
    return {"tensorflow float32": in_dtype(network), "tensorflow bfloat16": in_dtype(in_bfloat16)}


def onnx_runtime(network, folder):
    """The same in ONNX Runtime."""
    import onnxruntime

    from glcic_tf.export import onnx

    def load(dtype):
        path = folder / f"{dtype}.onnx"
        onnx.export(network, path, dtype)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return lambda image, mask: session.run(None, {"image": image, "mask": mask})[0]

    return {f"onnxruntime {dtype}": load(dtype) for dtype in onnx.DTYPES}


def openvino(network, folder):
    """The same in OpenVINO."""
    import openvino as runtime

    from glcic_tf.export import openvino

    def load(dtype):
        openvino.export(network, folder / dtype, dtype)
        compiled = runtime.Core().compile_model(folder / dtype / openvino.XML, "CPU")
        return lambda image, mask: compiled({"image": image, "mask": mask})[0]

    return {f"openvino {dtype}": load(dtype) for dtype in openvino.DTYPES}


def litert(network, folder):
    """The same in LiteRT's interpreter."""
    import os

    from ai_edge_litert.interpreter import Interpreter

    from glcic_tf.export import litert

    def load(dtype):
        path = folder / f"{dtype}.tflite"
        litert.export(network, path, (_SIZE.value, _SIZE.value), dtype)
        interpreter = Interpreter(str(path), num_threads=_THREADS.value or len(os.sched_getaffinity(0)))
        run = interpreter.get_signature_runner()
        return lambda image, mask: run(image=image, mask=mask)["completed"]

    return {f"litert {dtype}": load(dtype) for dtype in litert.DTYPES}


def pytorch(network):
    """The same in PyTorch, eager, with channels_last tensors; only for the layers of `completion_network`."""
    import torch
    from torch.nn import functional

    def load(dtype):
        steps = []
        for layer in network.layers:
            if layer.name.startswith(("conv", "deconv")):
                kernel, bias = (torch.from_numpy(np.array(value)).to(dtype) for value in (layer.kernel, layer.bias))
                kernel = kernel.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
                transposed = layer.name.startswith("deconv")
                function = functional.conv_transpose2d if transposed else functional.conv2d
                padding = 1 if transposed else layer.dilation_rate[0] * (layer.kernel_size[0] // 2)
                options = {"stride": layer.strides, "dilation": layer.dilation_rate, "padding": padding}
                steps.append((function, kernel, bias, options))
        mean = torch.from_numpy(np.array(network.get_layer("mean_pixel").kernel)).reshape(3)

        def forward(image, mask):
            with torch.inference_mode():
                pixels, hole = torch.from_numpy(image), torch.from_numpy(mask) >= 128
                rgb = torch.where(hole, mean, pixels / 255)
                x = torch.cat([rgb, hole.float()], -1).permute(0, 3, 1, 2).to(dtype)  # channels_last as it stands
                for i, (function, kernel, bias, options) in enumerate(steps):
                    x = function(x, kernel, bias, **options)
                    x = x.relu_() if i + 1 < len(steps) else x.float().sigmoid()
                completed = (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
                return torch.where(hole, completed, pixels).numpy()

        return forward

    return {"pytorch float32": load(torch.float32), "pytorch bfloat16": load(torch.bfloat16)}


def photo_and_mask(side):
    """Return a photo-like image [1, side, side, 3] and a mask [1, side, side, 1], uint8, with all of it in view."""
    import cv2

    small = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    image = cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC)
    mask = np.zeros((1, side, side, 1), np.uint8)
    mask[:, MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX] = 255
    return image[None], mask


def run():
    with cli.quiet_start():
        from glcic_tf.networks import folding
        from glcic_tf.networks.completion import completion_network

    network = folding.fold_batch_norm(completion_network(_WIDTH.value))
    image, mask = photo_and_mask(_SIZE.value)
    with tempfile.TemporaryDirectory() as folder:
        engines = tensorflow(network)
        for packages, make in {
            ("onnx", "onnxruntime"): lambda: onnx_runtime(network, Path(folder)),
            ("openvino",): lambda: openvino(network, Path(folder)),
            ("ai_edge_litert",): lambda: litert(network, Path(folder)),
            ("torch",): lambda: pytorch(network),
        }.items():
            if all(importlib.util.find_spec(package) for package in packages):
                engines |= make()
        results = {name: engine(image, mask) for name, engine in engines.items()}  # the first call sets things up
        seconds = {name: [] for name in engines}
        for _ in range(_REPETITIONS.value):
            for name, engine in engines.items():
                time.sleep(_PAUSE_S)
                start = time.perf_counter()
                engine(image, mask)
                seconds[name].append(time.perf_counter() - start)

    medians = {name: statistics.median(values) for name, values in seconds.items()}
    first = next(iter(engines))
    print(f"{platform.processor() or platform.machine()}, {_SIZE.value} x {_SIZE.value} px, width {_WIDTH.value:g}")
    columns = f"{'seconds':>8} {'fastest':>8} {'time / TensorFlow':>18} {'grey levels apart':>18}"
    print(f"{f'median of {_REPETITIONS.value}':<22} {columns}")
    for name, median in medians.items():
        apart = np.abs(results[name].astype(int) - results[first]).max()
        print(f"{name:<22} {median:>8.3f} {min(seconds[name]):>8.3f} {median / medians[first]:>18.2f} {apart:>18}")


if __name__ == "__main__":
    cli.run(run)
