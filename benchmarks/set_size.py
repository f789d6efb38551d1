"""How opening a set of photos and drawing examples from it grow with the number of its photos.

    python -m benchmarks.set_size [--photos=1000,1000000,10000000]

Shards whose index has as many entries, all of the same few photos: what grows is the index, which is checked when it is
opened and stays in its file. Each number has a process of its own; seconds and memory are those of opening the set, and
of an example the median of 200, with the order of an epoch drawn before the first.
"""

import hashlib
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from absl import flags

from benchmarks import source_photos, workers
from glcic_tf.common import cli
from glcic_tf.data import shard_index
from glcic_tf.data.shards import Shards

_PHOTOS = flags.DEFINE_list("photos", ["1000", "100000", "1000000", "10000000"], "entries of the index")
_CASE = flags.DEFINE_string("case", None, "used by the benchmark itself: JSON of one folder")

_DIFFERENT, _MEGAPIXELS, _EXAMPLES = 32, 0.1, 200


def enlarge(opened, table, photos):
    """Give opened shards an index of `photos` entries, those of `table` over and over; returns the bytes of these."""
    of = np.sort(np.arange(photos) % len(table))  # a shard's photos come one after the other
    names = [table.name(number) for number in range(len(table))]
    columns = {name: column[of] for name, column in table.columns.items()}
    columns["name_end"] = np.cumsum(np.array([len(name) for name in names], np.uint64)[of], dtype=np.uint64)
    text = b"".join(name * int(count) for name, count in zip(names, np.bincount(of), strict=True))
    buffers = shard_index.Table(columns, np.frombuffer(text, np.uint8)).buffers()
    content = b"".join(memoryview(buffer).cast("B") for buffer in buffers)
    ends = np.cumsum([shard["photos"] for shard in opened.index["shards"]])
    counts = np.bincount(np.searchsorted(ends, of, "right"), minlength=len(ends)).tolist()
    index = opened.index | {"photos": photos}
    index["shards"] = [shard | {"photos": n} for shard, n in zip(opened.index["shards"], counts, strict=True)]
    index["table"] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    Path(opened.folder, shard_index.TABLE).write_bytes(content)
    Path(opened.folder, shard_index.INDEX).write_text(json.dumps(index))
    return len(content)


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
    with tempfile.TemporaryDirectory() as photo_folder, tempfile.TemporaryDirectory() as folder:
        source_photos.write(photo_folder, _DIFFERENT, _MEGAPIXELS)
        opened = Shards(source_photos.shards(photo_folder, folder))
        columns = {name: column.copy() for name, column in opened.table.columns.items()}  # their file is written anew
        table = shard_index.Table(columns, opened.table.names.copy())
        for photos in map(int, _PHOTOS.value):
            index_mb = enlarge(opened, table, photos) / 1e6
            with workers.start("benchmarks.set_size", {"folder": folder}) as worker:
                found = worker.ask("run")
            print(
                f"{photos:>12,}{index_mb:>12.1f}{found['open']:>12.2f}{found['first']:>18.2f}"
                f"{found['example'] * 1e3:>13.1f}{found['mb']:>10.0f}",
                flush=True,
            )


def main():
    return serve(json.loads(_CASE.value)) if _CASE.value else run()


if __name__ == "__main__":
    cli.run(main)
