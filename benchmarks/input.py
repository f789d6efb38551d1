"""Training examples per second and CPU core that are read from photos, against Pillow with PyTorch's DataLoader.

    python -m benchmarks.input [--megapixels=0.1,2,12] [--cores=1] [--json=input.json]
    python -m benchmarks.input --data_dir=photos/ [--shards=shards/]

An example is decoded, its shorter edge resized to a random length in [256, 384] px, a random 256 x 256 px cut out, a
hole drawn, and both batched as float32. Ours is the tf.data pipeline that `glcic train` has, from files and from shards
of the same photos; theirs is a Dataset with Pillow, bilinear as torchvision.transforms.Resize has it, once plain and
once with Image.draft, which lets JPEGs be decoded at a fraction of their size. All have as many threads or processes as
there are cores, are kept on these, and take turns, each in a process of its own. A turn begins with nothing read ahead.
The photos are in the system's cache.
"""

import contextlib
import dataclasses
import importlib.util
import itertools
import json
import platform
import sys
import tempfile
import time
from pathlib import Path

from absl import flags

from benchmarks import source_photos, workers
from glcic_tf.common import cli, files
from glcic_tf.imaging import photo_folders

_MEGAPIXELS = flags.DEFINE_list("megapixels", ["0.1", "2", "12"], "sizes of the photos that are made")
_PHOTOS = flags.DEFINE_integer("photos", 32, "different photos of each size", lower_bound=1)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "folder of photos to use instead")
_SHARDS = flags.DEFINE_string("shards", None, "shards of --data_dir; by default they are made")
_BATCH = flags.DEFINE_integer("batch", 16, "examples in a batch", lower_bound=1)
_CORES = flags.DEFINE_integer("cores", 1, "CPU cores, and threads or processes that read", lower_bound=1)
_SECONDS = flags.DEFINE_float("seconds", 4.0, "length of a turn of the slowest, about", lower_bound=0.0)
_REPETITIONS = flags.DEFINE_integer("repetitions", 5, "timed turns of each", lower_bound=1)
_JSON = flags.DEFINE_string("json", None, "file to write all figures to")
_CASE = flags.DEFINE_string("case", None, "used by the benchmark itself: JSON of one competitor")

_SIZE, _SHORT_EDGE, _HOLE = 256, (256, 384), (96, 128)  # px, as in the paper (section 4)


def serve_ours(case):
    """Answer as our pipeline."""
    with cli.quiet_start():
        import tensorflow as tf

    from glcic_tf.configs import default
    from glcic_tf.data import dataset as datasets
    from glcic_tf.data import sources
    from glcic_tf.training import stages

    tf.config.set_visible_devices([], "GPU")
    config = default.get_config()
    config.batch_size, config.data.validation_photos = _BATCH.value, 0
    photos, _ = sources.find(config, case["data_dir"], None, _BATCH.value)
    stage = stages.resolve(config)[0]

    def run(batches):
        dataset = datasets.batches(photos, dataclasses.replace(stage, steps=batches), 0, 0, workers=_CORES.value)
        begin = time.perf_counter()
        for batch in dataset:
            image, mask = tf.cast(batch["image"], tf.float32) / 255.0, tf.cast(batch["mask"], tf.float32)
        assert image.shape == (_BATCH.value, _SIZE, _SIZE, 3) and mask.shape[:3] == image.shape[:3]
        return time.perf_counter() - begin

    workers.serve({"run": run})


class PillowPhotos:
    """Dataset of PyTorch: example i shows photo i; the crop and the hole depend on i alone."""

    def __init__(self, paths, draft):
        self.paths, self.draft = paths, draft

    def __len__(self):
        return sys.maxsize

    def __getitem__(self, index):
        import numpy as np
        import torch
        from PIL import Image

        rng = np.random.default_rng(index)
        target = int(rng.integers(_SHORT_EDGE[0], _SHORT_EDGE[1] + 1))
        image = Image.open(self.paths[index % len(self.paths)])
        size = [round(side * target / min(image.size)) for side in image.size]
        if self.draft:
            image.draft("RGB", size)
        image = image.convert("RGB").resize(size, Image.Resampling.BILINEAR)
        left, top = (int(rng.integers(0, side - _SIZE + 1)) for side in size)
        image = np.array(image.crop((left, top, left + _SIZE, top + _SIZE)))
        mask = torch.zeros(1, _SIZE, _SIZE)
        height, width = rng.integers(_HOLE[0], _HOLE[1] + 1, 2)
        top, left = rng.integers(0, _SIZE - height + 1), rng.integers(0, _SIZE - width + 1)
        mask[:, top : top + height, left : left + width] = 1
        return torch.from_numpy(image).permute(2, 0, 1).contiguous().float().div(255), mask


class _Batches:
    """Numbers of the examples of `count` batches; which ones may change between the turns."""

    count = 0

    def __iter__(self):
        return iter([list(range(i * _BATCH.value, (i + 1) * _BATCH.value)) for i in range(self.count)])

    def __len__(self):
        return self.count


def serve_pytorch(case):
    """Answer as Pillow and DataLoader."""
    import torch

    torch.set_num_threads(_CORES.value)
    order = _Batches()
    dataset = PillowPhotos(photo_folders.find_photos(case["data_dir"]), case["draft"])
    loader = torch.utils.data.DataLoader(
        dataset, batch_sampler=order, num_workers=_CORES.value, persistent_workers=True
    )

    def run(batches):
        order.count = batches
        begin = time.perf_counter()
        for batch in loader:
            image, mask = batch
        assert image.shape == (_BATCH.value, 3, _SIZE, _SIZE) and mask.shape[2:] == image.shape[2:]
        return time.perf_counter() - begin

    workers.serve({"run": run})


def measure(folder, shards):
    """Measure on a folder of photos and, if not None, shards of the same; return rows, the first is ours from files."""
    cases = {"ours, files": {"data_dir": str(folder)}}
    if shards:
        cases["ours, shards"] = {"data_dir": shards}
    if importlib.util.find_spec("torch") and importlib.util.find_spec("PIL"):
        cases |= {
            "Pillow + DataLoader": {"data_dir": str(folder), "draft": False},
            "the same, Image.draft": {"data_dir": str(folder), "draft": True},
        }
    with contextlib.ExitStack() as stack:
        running = {name: stack.enter_context(workers.start("benchmarks.input", case)) for name, case in cases.items()}
        workers.take_turns(running, 1, "run", batches=1)  # starts threads and processes, and fills the system's cache
        slowest = max(found[0] for found in workers.take_turns(running, 1, "run", batches=2).values()) / 2
        batches = max(2, round(_SECONDS.value / slowest))
        seconds = workers.take_turns(running, _REPETITIONS.value, "run", batches=batches)
    rows = []
    for name, found in seconds.items():
        speeds = [batches * _BATCH.value / s / _CORES.value for s in found]
        rows.append({"competitor": name, "examples_per_second_per_core": workers.spread(speeds), "seconds": found})
        for ours in ("ours, files", "ours, shards"):
            if ours in seconds:
                rows[-1][f"its time / {ours}"] = workers.ratios(found, seconds[ours])
        rows[-1]["examples"] = batches * _BATCH.value
    return rows


def show(rows):
    for row in rows:
        ratios = [row.get(f"its time / ours, {source}") for source in ("files", "shards")]
        shown = "".join(f"{workers.show(ratio) if ratio else '-':>20}" for ratio in ratios)
        print(f"  {row['competitor']:<24}{workers.show(row['examples_per_second_per_core'], 1):>26}{shown}", flush=True)


def run():
    if not importlib.util.find_spec("torch") or not importlib.util.find_spec("PIL"):
        cli.say("PyTorch or Pillow is not installed, so there is nothing to compare with: pip install torch pillow")
    workers.pin(_CORES.value, "cores")
    print(f"{platform.processor() or platform.machine()}, {_CORES.value} cores, batch {_BATCH.value}, ", end="")
    print(f"median (least-most) of {_REPETITIONS.value}", flush=True)
    found = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name in [_DATA_DIR.value] if _DATA_DIR.value else _MEGAPIXELS.value:
            folder = Path(name if _DATA_DIR.value else temporary, "" if _DATA_DIR.value else f"{name}_megapixels")
            if not _DATA_DIR.value:
                folder.mkdir()
                source_photos.write(folder, max(_PHOTOS.value, _BATCH.value), float(name))
            paths = photo_folders.find_photos(folder)
            kilobytes = sum(path.stat().st_size for path in itertools.islice(paths, 1000)) / min(len(paths), 1000) / 1e3
            print(f"{name}{'' if _DATA_DIR.value else ' megapixels'}: {len(paths)} photos of {kilobytes:.0f} kB")
            print(f"  {'':<24}{'examples / s / core':>26}{'its time / files':>20}{'its time / shards':>20}")
            shards = _SHARDS.value or source_photos.shards(folder, Path(temporary, f"shards_{len(found)}"))
            found[name] = {"photos": len(paths), "kilobytes": kilobytes, "rows": measure(folder, shards)}
            show(found[name]["rows"])
    if _JSON.value:
        settings = {f.name: f.value for f in flags.FLAGS.get_key_flags_for_module(sys.argv[0]) if f.name != "case"}
        with files.replacing(Path(_JSON.value)) as path:
            path.write_text(json.dumps({"settings": settings, "sources": found}, indent=1) + "\n")


def main():
    if not _CASE.value:
        return run()
    case = json.loads(_CASE.value)
    return serve_pytorch(case) if "draft" in case else serve_ours(case)


if __name__ == "__main__":
    cli.run(main)
