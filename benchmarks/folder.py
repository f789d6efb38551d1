"""A folder of photos with small holes: `glcic complete` against whole photos through the same network in PyTorch.

    python -m benchmarks.folder [--photos=200] [--parts=5] [--width=1.0] [--json=folder.json]

The photos are JPEGs of 0.3 to 12 megapixels, evenly spread over the logarithm of their area, each with one to three
rectangular holes of 16 to 96 px a side. The folder is done in parts of the same mixture. For each part in turn all
competitors read photos and masks, complete them and write JPEGs, each in a process of its own. A ratio is PyTorch's
seconds / ours of a part.

Ours is `glcic_tf.completion.folder.infer`, what `glcic complete` calls, and its time includes that it loads the model
anew for each part. PyTorch (eager, float32, no gradients) passes whole photos, padded to a multiple of 4 px, and pastes
the holes.
"""

import contextlib
import importlib.util
import io
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from absl import flags
from tqdm import tqdm

from benchmarks import source_photos, workers
from glcic_tf.common import cli, files
from glcic_tf.common.errors import UserError
from glcic_tf.imaging import images

MEGAPIXELS = (0.3, 12.0)
HOLES, HOLE_PX = (1, 3), (16, 96)
DTYPES = ("float32", "bfloat16")

_PHOTOS = flags.DEFINE_integer("photos", 200, "photos in the folder", lower_bound=1)
_PARTS = flags.DEFINE_integer("parts", 5, "parts that the folder is done in", lower_bound=1)
_WIDTH = flags.DEFINE_float("width", 1.0, "factor on the channels of the network; 1 is the paper's", 0.01)
_THREADS = flags.DEFINE_integer("threads", 0, "CPUs that all are kept on; 0: all there are", lower_bound=0)
_JSON = flags.DEFINE_string("json", None, "file to write all figures to")
_CASE = flags.DEFINE_string("case", None, "used by the benchmark itself: JSON of one competitor")


def make_photos(root, count, parts):
    """Write photos and masks to root/photos/<part>/ and root/masks/<part>/; return the megapixels of all."""
    least, most = map(math.log, MEGAPIXELS)
    per_part, total = count // parts, 0.0
    for part in tqdm(range(parts), desc="photos", disable=None, leave=False):
        for i in range(per_part):
            megapixels = math.exp(least + (most - least) * (i + 0.5) / per_part)
            folder = Path(root, "photos", str(part), f"{i:03}")
            folder.mkdir(parents=True)
            (photo,) = source_photos.write(folder, 1, megapixels, seed=part * per_part + i)
            height, width = cv2.imread(str(photo)).shape[:2]
            total += height * width / 1e6
            mask = Path(root, "masks", str(part), f"{i:03}", photo.stem + ".png")
            mask.parent.mkdir(parents=True)
            images.write_image(mask, _holes(height, width, np.random.default_rng([part, i])))
    return total


def _copy_first(root):
    """Make a part `first` of the smallest photo alone."""
    for kind in ("photos", "masks"):
        shutil.copytree(Path(root, kind, "0", "000"), Path(root, kind, "first", "000"))


def _holes(height, width, rng):
    mask = np.zeros((height, width), np.uint8)
    for _ in range(rng.integers(*HOLES, endpoint=True)):
        rows, columns = rng.integers(*HOLE_PX, 2, endpoint=True)
        top, left = rng.integers(0, height - rows), rng.integers(0, width - columns)
        mask[top : top + rows, left : left + columns] = 255
    return mask


def serve_infer(case):
    """Answer as `glcic complete`."""
    with cli.quiet_start():
        import tensorflow as tf

    from glcic_tf.completion.folder import infer

    tf.config.threading.set_intra_op_parallelism_threads(case["threads"])

    def run(part):
        photos, masks = (Path(case["root"], kind, part) for kind in ("photos", "masks"))
        output, begin = Path(case["root"], case["name"], part), time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            failed = infer(
                photos, masks, output, case["model"], overwrite=True, dtype=case["dtype"], postprocess="none"
            )
        return {"seconds": time.perf_counter() - begin, "failed": failed}

    workers.serve({"run": run, "peak_mb": lambda: workers.memory_mb()[1]})


def serve_pytorch(case):
    """Answer as PyTorch, whole photos."""
    import torch

    from benchmarks import torch_networks

    torch.set_num_threads(case["threads"])
    network = torch_networks.completion_network(case["width"]).eval()

    def complete(photo, mask, output):
        image, hole = cv2.imread(str(photo)), cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE) >= 128
        completed = torch_networks.complete(network, image[..., ::-1], hole)[..., ::-1]
        output.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(output), completed, [cv2.IMWRITE_JPEG_QUALITY, images.JPEG_QUALITY])

    def run(part):
        root, begin = Path(case["root"]), time.perf_counter()
        for photo in sorted((root / "photos" / part).rglob("*.jpg")):
            name = photo.relative_to(root / "photos")
            complete(photo, (root / "masks" / name).with_suffix(".png"), root / case["name"] / name)
        return {"seconds": time.perf_counter() - begin, "failed": 0}

    workers.serve({"run": run, "peak_mb": lambda: workers.memory_mb()[1]})


def run():
    if _PHOTOS.value % _PARTS.value:
        raise UserError(f"--photos={_PHOTOS.value}: cannot be divided into --parts={_PARTS.value} of one size.")
    threads = workers.pin(_THREADS.value, "threads")
    with contextlib.ExitStack() as stack:
        root = stack.enter_context(tempfile.TemporaryDirectory())
        total = make_photos(root, _PHOTOS.value, _PARTS.value)
        _copy_first(root)
        model = _save_network(Path(root, "network.keras"))
        cases = {f"glcic complete {dtype}": {"engine": "infer", "dtype": dtype, "model": model} for dtype in DTYPES}
        if importlib.util.find_spec("torch"):
            cases["pytorch float32"] = {"engine": "pytorch", "width": _WIDTH.value}
        running = {}
        for name, case in cases.items():
            case |= {"root": root, "name": name.replace(" ", "_"), "threads": threads}
            running[name] = stack.enter_context(workers.start("benchmarks.folder", case))
        print(
            f"{_PHOTOS.value} photos, {total:.0f} megapixels in all, width {_WIDTH.value:g}, {threads} CPUs", flush=True
        )
        workers.take_turns(running, 1, "run", part="first")  # tracing and the first allocations are not asked for
        seconds = {name: [] for name in running}
        for part in range(_PARTS.value):
            for name, (answer,) in workers.take_turns(running, 1, "run", part=str(part)).items():
                if answer["failed"]:
                    raise UserError(f"{name}: {answer['failed']} photos of part {part} failed.")
                seconds[name].append(answer["seconds"])
            print(
                f"part {part}: " + ", ".join(f"{name} {found[-1]:.1f} s" for name, found in seconds.items()), flush=True
            )
        rows = {
            name: {
                "seconds": found,
                "ratio": workers.ratios(seconds["pytorch float32"], found) if "pytorch float32" in seconds else None,
                "peak_mb": running[name].ask("peak_mb"),
            }
            for name, found in seconds.items()
        }
    print(f"{'':<18}{'seconds in all':>15}{'PyTorch / this: median (least-most)':>38}{'peak MB':>9}")
    for name, row in rows.items():
        ratio = workers.show(row["ratio"], 1) if row["ratio"] else "-"
        print(f"{name:<18}{sum(row['seconds']):>15.1f}{ratio:>38}{row['peak_mb']:>9.0f}")
    if _JSON.value:
        found = {"photos": _PHOTOS.value, "megapixels": total, "width": _WIDTH.value, "threads": threads, "rows": rows}
        with files.replacing(Path(_JSON.value)) as temporary:
            temporary.write_text(json.dumps(found, indent=1) + "\n")


def _save_network(path):
    """Write a network with random weights, on which no time depends; return the path."""
    code = (
        "import sys; from glcic_tf.networks import completion, model_file; "
        "model_file.save(completion.completion_network(float(sys.argv[1])), sys.argv[2])"
    )
    subprocess.run([sys.executable, "-c", code, str(_WIDTH.value), str(path)], check=True, capture_output=True)
    return str(path)


def main():
    if not _CASE.value:
        return run()
    case = json.loads(_CASE.value)
    return (serve_infer if case["engine"] == "infer" else serve_pytorch)(case)


if __name__ == "__main__":
    cli.run(main)
