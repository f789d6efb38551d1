"""How opening a set of photos and drawing examples from it grow with the number of its photos.

    python -m benchmarks.set_size [--photos=1000,1000000,10000000]

Shards whose index has as many entries, all of the same few photos: what grows is the index, which is checked when it is
opened and stays in its file. Each number has a process of its own; seconds and memory are those of opening the set, and
of an example the median of 200, with the order of an epoch drawn before the first.
"""

import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from absl import flags

from benchmarks import source_photos, workers
from glcic_tf.common import cli
from glcic_tf.common.errors import UserError, first_line

_PHOTOS = flags.DEFINE_list("photos", ["1000", "100000", "1000000", "10000000"], "entries of the index")
_CASE = flags.DEFINE_string("case", None, "used by the benchmark itself: JSON of one folder")

_DIFFERENT, _MEGAPIXELS, _EXAMPLES = 32, 0.1, 200


def enlarge(folder, photos):
    """Give shards an index of `photos` entries, those that they have over and over."""
    from glcic_tf.data import shard_index
    from glcic_tf.data.shards import Shards

    opened = Shards(folder)
    of = np.sort(np.arange(photos) % len(opened.table))  # a shard's photos come one after the other
    names = [opened.table.name(number) for number in range(len(opened.table))]
    columns = {name: np.asarray(column)[of] for name, column in opened.table.columns.items()}
    columns["name_end"] = np.cumsum(np.array([len(name) for name in names], np.uint64)[of], dtype=np.uint64)
    text = b"".join(name * int(count) for name, count in zip(names, np.bincount(of), strict=True))
    table = shard_index.Table(columns, np.frombuffer(text, np.uint8))
    index = opened.index | {"photos": photos}
    ends = np.cumsum([shard["photos"] for shard in index["shards"]])
    counts = np.bincount(np.searchsorted(ends, of, "right"), minlength=len(ends))
    index["shards"] = [shard | {"photos": int(count)} for shard, count in zip(index["shards"], counts, strict=True)]
    content = b"".join(bytes(memoryview(buffer).cast("B")) for buffer in table.buffers())
    index["table"] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    Path(folder, shard_index.TABLE).write_bytes(content)
    Path(folder, shard_index.INDEX).write_text(json.dumps(index))


def serve(case):
    """Answer for one folder."""
    from glcic_tf.configs import default
    from glcic_tf.data import examples, sources
    from glcic_tf.training import stages

    config = default.get_config()
    config.data.validation_photos = 0
    start_mb = workers.memory_mb()[0]

    def run():
        begin = time.perf_counter()
        photos, _ = sources.find(config, case["folder"], None, config.batch_size)
        opened, stage, spent = time.perf_counter() - begin, stages.resolve(config)[0], []
        for number in range(_EXAMPLES + 1):
            begin = time.perf_counter()
            examples.example(photos, stage, 0, number, False)
            spent.append(time.perf_counter() - begin)
        mb = workers.memory_mb()[1] - start_mb
        return {"open": opened, "first": spent[0], "example": statistics.median(spent[1:]), "mb": mb}

    workers.serve({"run": run})


def run():
    print(
        f"{'photos':>12}{'index, MB':>12}{'to open, s':>12}{'first example, s':>18}{'example, ms':>13}{'MB added':>10}"
    )
    with tempfile.TemporaryDirectory() as temporary:
        source_photos.write(Path(temporary), _DIFFERENT, _MEGAPIXELS)
        for photos in map(int, _PHOTOS.value):
            with tempfile.TemporaryDirectory() as folder:
                command = [sys.executable, "-m", "glcic_tf", "prepare", f"--input={temporary}", f"--output={folder}"]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    said = done.stderr.strip().splitlines() or [""]
                    raise UserError(f"glcic prepare failed: {first_line(said[-1])}")
                subprocess.run([sys.executable, "-m", "benchmarks.set_size", f"--case={folder}={photos}"], check=True)
                index_mb = (Path(folder) / "index.bin").stat().st_size / 1e6
                with workers.start("benchmarks.set_size", {"folder": folder}) as worker:
                    found = worker.ask("run")
            print(
                f"{photos:>12,}{index_mb:>12.1f}{found['open']:>12.2f}{found['first']:>18.2f}"
                f"{found['example'] * 1e3:>13.1f}{found['mb']:>10.0f}",
                flush=True,
            )


def main():
    if not _CASE.value:
        return run()
    if not _CASE.value.startswith("{"):  # in a process of its own, whose memory is given back
        folder, _, photos = _CASE.value.rpartition("=")
        return enlarge(folder, int(photos))
    return serve(json.loads(_CASE.value))


if __name__ == "__main__":
    cli.run(main)
