"""The one index of all parts' shards, and checking a folder of shards byte by byte."""

import contextlib
import hashlib
import json
from pathlib import Path

import numpy as np
from tqdm import tqdm

from glcic_tf.common import files
from glcic_tf.common.errors import UserError
from glcic_tf.data import shard_index, shards, sources
from glcic_tf.data.prepare import parts
from glcic_tf.data.prepare.entry import DIGEST_BYTES

_CHUNK_BYTES = 2**22


def bounds(count, part, of):
    """Which photos of a sorted list of `count` are those of part `part` (from 1) of `of`: (begin, end)."""
    return count * (part - 1) // of, count * part // of


def unfinished(output, settings):
    """Numbers of the parts that are not complete."""
    return [part for part, found in _all_finished(output, settings) if found is None]


def merge(output):
    """Write index.bin, skipped.jsonl and, when these are there, index.json, from what all parts have finished.

    Among photos with equal pixels the first keeps its place. Within a part there are no others; those of another part
    are left out of the index, and their bytes stay in the shard.

    Args:
        output: folder of shards.

    Returns:
        dict of index.json.

    Raises:
        UserError: a part is missing, there is no photo at all, or the folder cannot be written.
    """
    settings = parts.read_settings(output)
    if settings is None:
        raise UserError(f"--output={output}: holds no {shard_index.SETTINGS}; name a folder that prepare writes.")
    found = []
    for part, one in _all_finished(output, settings):
        if one is None:
            raise UserError(
                f"--output={output}: part {part} of {settings['parts']} is not finished; run it with "
                f"--part={part}/{settings['parts']}, or copy its shards and its files in {parts.FOLDER}/ here."
            )
        found += [(part, number, shard) for number, shard in enumerate(one, 1)]
    table = shard_index.Table.concatenate([shard.table for *_, shard in found])
    skipped = [entry for *_, shard in found for entry in shard.header["skipped"]]
    if not len(table):
        reason = f", {skipped[0]['name']} for example {skipped[0]['reason']}" if skipped else ""
        raise UserError(f"none of the {settings['found']} photos can be used{reason}; give other photos.")
    first = _first_equal([shard.digests for *_, shard in found])
    kept = first == np.arange(len(table))
    for number in np.flatnonzero(~kept).tolist():
        name, other = (files.printable(table.name(i)) for i in (number, int(first[number])))
        skipped.append({"name": name, "duplicate_of": other})
    skipped.sort(key=lambda entry: sources.name_order(entry["name"]))
    counts = [shard.header["photos"] for *_, shard in found]
    kept_counts = np.add.reduceat(np.append(kept, False), np.cumsum([0, *counts[:-1]])) * (np.array(counts) > 0)
    entries = [
        {
            "file": shard_index.shard_name(part, number),
            "photos": int(photos),
            "bytes": shard.header["bytes"],
            "sha256": shard.header["sha256"],
        }
        for (part, number, shard), photos in zip(found, kept_counts, strict=True)
        if shard.header["photos"]
    ]
    table = table if kept.all() else table.select(kept)
    index = {
        "format": shard_index.FORMAT,
        "version": shard_index.VERSION,
        "photos": len(table),
        "copied": sum(shard.header["copied"] for *_, shard in found),
        "skipped": sum("reason" in entry for entry in skipped),
        "duplicates": sum("duplicate_of" in entry for entry in skipped),
        "mean_pixel": [round(float(value), 6) for value in table.mean.mean(axis=0) / 255],
        "made_with": {"opencv": sorted({shard.header["opencv"] for *_, shard in found}), **settings},
        "table": _write(Path(output, shard_index.TABLE), table.buffers()),
        "skipped_files": _write(
            Path(output, shard_index.SKIPPED), [f"{json.dumps(entry)}\n".encode() for entry in skipped]
        ),
        "shards": entries,
    }
    _write(Path(output, shard_index.INDEX), [json.dumps(index, indent=1).encode() + b"\n"])
    return index


def _all_finished(output, settings):
    """Yield (part, list of parts.Finished or None if it is not complete)."""
    identity = parts.settings_id(settings)
    for part in range(1, settings["parts"] + 1):
        begin, end = bounds(settings["found"], part, settings["parts"])
        found = parts.finished(output, part, identity, begin, end)
        yield part, found if parts.is_complete(found, begin, end) else None


def _first_equal(digests):
    """For each photo the number of the first with the same digest, int64 [photos]."""
    all_digests = np.concatenate([np.zeros([0, DIGEST_BYTES], np.uint8), *digests])
    low, high = np.ascontiguousarray(all_digests).view("<u8").reshape(-1, 2).T
    order = np.lexsort((low, high))  # stable: among equal ones the first comes first
    low, high = low[order], high[order]
    new = np.append(True, (low[1:] != low[:-1]) | (high[1:] != high[:-1]))[: len(order)]
    first = np.empty(len(order), np.int64)
    first[order] = order[np.flatnonzero(new)[np.cumsum(new) - 1]] if len(order) else order
    return first


def _write(path, buffers):
    """Write a file under a temporary name first; return its length and SHA-256."""
    digest, length = hashlib.sha256(), 0
    with files.replacing(path) as temporary, temporary.open("wb") as file:
        for buffer in buffers:
            view = memoryview(buffer).cast("B") if len(buffer) else b""
            file.write(view)
            digest.update(view)
            length += len(view)
    return {"bytes": length, "sha256": digest.hexdigest()}


def verify(folder):
    """Read all of a folder of shards, and compare it with the checksums in its index.

    Args:
        folder: path of a folder of shards.

    Returns:
        dict of index.json.

    Raises:
        UserError: a file is missing or damaged; for a shard, at which byte the first damaged photo is.
    """
    opened = shards.Shards(folder)
    entries, first = opened.index["shards"], 0
    total = sum(entry["bytes"] for entry in entries)
    with tqdm(total=total, unit="B", unit_scale=True, desc="verify", disable=None, leave=False) as bar:
        for entry in entries:
            path = Path(folder, entry["file"])
            digest = hashlib.sha256()
            with _reading(path), open(path, "rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    digest.update(chunk)
                    bar.update(len(chunk))
            if digest.hexdigest() != entry["sha256"]:
                for number in range(first, first + entry["photos"]):
                    opened.jpeg(number)  # names the first photo that is damaged
                raise UserError(f"{path}: is damaged (its SHA-256 differs) between its photos; get a whole copy.")
            first += entry["photos"]
    return opened.index


@contextlib.contextmanager
def _reading(path):
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); see to its permissions.") from error
