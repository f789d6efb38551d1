"""What `prepare` has finished so far, kept in `parts/` beside the shards, so that it can go on whatever stopped it.

Each shard has a file there that is written after it: which photos of the list the shard covers, its table and the
hashes of its photos, by which duplicates are found. A shard without that file is not there.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import zlib
from pathlib import Path

import cv2
import numpy as np

from glcic_tf.common import files
from glcic_tf.common.errors import UserError
from glcic_tf.data import shard_index
from glcic_tf.data.prepare import tfrecords
from glcic_tf.data.prepare.entry import DIGEST_BYTES

FOLDER = "parts"
_MAX_SHARDS = 99_999  # of a part, by the digits in their names


@dataclasses.dataclass(frozen=True)
class Finished:
    """One finished shard.

    Attributes:
        header: dict: `settings`, their hash; `begin`, `end`: which photos of the sorted list it covers; `photos`,
            `names_bytes`; `bytes`, `sha256` of the shard, which does not exist with 0 photos; `copied`: photos that
            are the files themselves; `skipped`: list of dicts as in skipped.jsonl; `opencv`: its version; `crc32` of
            what follows.
        table: shard_index.Table.
        digests: uint8 [photos, DIGEST_BYTES].
    """

    header: dict
    table: shard_index.Table
    digests: np.ndarray


class ShardFile:
    """A shard that is being written, under a temporary name until `finish`.

    Args:
        output: folder of shards.
        part, number: see `shard_index.shard_name`.
        settings_id: hash of what the shards are made with.
        begin: first photo of the list that it covers.
    """

    def __init__(self, output, part, number, settings_id, begin):
        if number > _MAX_SHARDS:
            raise UserError(f"{output}: more than {_MAX_SHARDS} shards in a part; raise --shard_mb.")
        self.path = Path(output, shard_index.shard_name(part, number))
        self._finished_path = finished_path(output, part, number)
        self._settings_id, self._begin = settings_id, begin
        self._file, self._sha256, self.bytes = None, hashlib.sha256(), 0
        self._rows, self._names, self._digests, self._skipped, self._copied = [], [], [], [], 0

    @property
    def photos(self):
        """How many photos are in it so far."""
        return len(self._rows)

    def add(self, name, made):
        """Append a photo. `name`: bytes; `made`: a photo.Prepared."""
        with _writing(self.path):
            if self._file is None:
                self._file = open(_temporary(self.path), "wb")  # noqa: SIM115 - open until finish() or discard()
            self._file.write(made.record)
        self._sha256.update(made.record)
        offset = self.bytes + len(made.record) - tfrecords.FOOTER_BYTES - made.length
        self.bytes += len(made.record)
        self._rows.append((offset, made.mean, made.length, made.crc32, made.height, made.width))
        self._names.append(name)
        self._digests.append(made.digest)
        self._copied += made.copied

    def skip(self, **what):
        """Note that a file of the list is not in any shard; `what` goes into skipped.jsonl."""
        self._skipped.append(what)

    def finish(self, end):
        """Give the shard its name, and then note that it covers the photos up to number `end`."""
        with _writing(self.path):
            if self._file is not None:
                _sync_and_close(self._file)
                os.replace(_temporary(self.path), self.path)
                self._file = None
        content = b"".join([*map(bytes, self._table().buffers()), *self._digests])
        header = {
            "settings": self._settings_id,
            "begin": self._begin,
            "end": end,
            "photos": self.photos,
            "names_bytes": sum(map(len, self._names)),
            "bytes": self.bytes,
            "sha256": self._sha256.hexdigest(),
            "copied": self._copied,
            "skipped": self._skipped,
            "opencv": cv2.__version__,
            "crc32": zlib.crc32(content),
        }
        with _writing(self._finished_path):
            temporary = _temporary(self._finished_path)
            with open(temporary, "wb") as file:
                file.write(json.dumps(header).encode() + b"\n" + content)
                _sync_and_close(file)
            os.replace(temporary, self._finished_path)

    def discard(self):
        """Leave nothing of a shard that was not finished."""
        if self._file is not None:
            self._file.close()
            _temporary(self.path).unlink(missing_ok=True)

    def _table(self):
        offsets, means, *others = zip(*self._rows, strict=True) if self._rows else [()] * 6
        names_end = np.cumsum([len(name) for name in self._names], dtype=np.uint64)
        values = dict(zip(("length", "crc32", "height", "width"), others, strict=True))
        values |= {"offset": offsets, "name_end": names_end, "mean": means}
        columns = {
            name: np.array(values[name], dtype).reshape(self.photos, *shape)
            for name, (dtype, shape) in shard_index.COLUMNS.items()
        }
        return shard_index.Table(columns, np.frombuffer(b"".join(self._names), np.uint8))


_HEADER_NUMBERS = ("photos", "names_bytes", "begin", "end", "bytes", "copied", "crc32")
_HEADER_TEXTS = ("settings", "sha256", "opencv")


def finished_path(output, part, number):
    """Path of the file that says that a shard is finished."""
    return Path(output, FOLDER, shard_index.shard_name(part, number)).with_suffix(".finished")


def finished(output, part, settings_id, begin, end):
    """Read what is finished of a part, from its first shard on.

    Args:
        output, part, settings_id: as for `ShardFile`.
        begin, end: which photos of the list are the part's.

    Returns:
        List of Finished, without gaps. The part is complete if `is_complete` says so.
    """
    found = []
    while begin < end:
        one = _load(output, part, len(found) + 1)
        if one is None or one.header["settings"] != settings_id or not begin == one.header["begin"] < one.header["end"]:
            break
        found.append(one)
        begin = one.header["end"]
    return found


def is_complete(found, begin, end):
    """Whether what `finished` returned is all of the part."""
    return begin == end or bool(found) and found[-1].header["end"] == end


def _load(output, part, number):
    """Return a Finished, or None if it or its shard is missing or damaged: then it is made again."""
    shard = Path(output, shard_index.shard_name(part, number))
    try:
        content = finished_path(output, part, number).read_bytes()
        line, _, content = content.partition(b"\n")
        header = json.loads(line)
        if header["photos"] and shard.stat().st_size != header["bytes"] or zlib.crc32(content) != header["crc32"]:
            return None
        if not all(type(header[name]) is int and 0 <= header[name] < 2**48 for name in _HEADER_NUMBERS):
            return None
        texts = [header[name] for name in _HEADER_TEXTS]
        for entry in header["skipped"]:
            texts += [entry["name"], entry["reason"] if "duplicate_of" not in entry else entry["duplicate_of"]]
        if not all(type(text) is str for text in texts):
            return None
        table_bytes = header["photos"] * shard_index.ROW_BYTES + header["names_bytes"]
        values = np.frombuffer(content, np.uint8)
        table = shard_index.Table.from_bytes(values[:table_bytes], header["photos"])
        return Finished(header, table, values[table_bytes:].reshape(-1, DIGEST_BYTES))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def settings_path(output):
    """Path of the file with what the shards are made with."""
    return Path(output, shard_index.SETTINGS)


def settings_id(settings):
    """Hash of the dict of settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def read_settings(output):
    """Return the dict of settings that the shards are made with, or None if there is none.

    Raises:
        UserError: it is damaged.
    """
    path = settings_path(output)
    if not path.exists():
        return None
    try:
        settings = json.loads(path.read_bytes())
        if not (type(settings["parts"]) is int and type(settings["found"]) is int and 0 < settings["parts"] <= 9999):
            raise ValueError
        return settings
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: is damaged; delete {output} and begin anew.") from error


def write_settings(output, settings):
    """Write what the shards are made with, unless it is there already."""
    files.make_folder(Path(output, FOLDER))
    if not settings_path(output).exists():
        with files.replacing(settings_path(output)) as temporary:
            temporary.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


@contextlib.contextmanager
def locked(output, part):
    """Keep other processes from working on the same part, as far as the file system can."""
    path = Path(output, FOLDER, f".lock-{part:04d}")
    with _writing(path):
        file = open(path, "w")  # noqa: SIM115 - closed below
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"--output={output}: another process writes part {part} of it; wait for it, or take another --part."
            ) from error
        except OSError:  # no locks here, as on some network disks
            pass
        yield


def _temporary(path):
    """The same name every time, so that what a killed run left is written over."""
    return path.with_name(f".{path.name}.part")


def _sync_and_close(file):
    """Bytes first, names second: a power cut must not leave a name without its bytes."""
    file.flush()
    os.fsync(file.fileno())
    file.close()


@contextlib.contextmanager
def _writing(path):
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); see to space and permissions, then give the same "
            "command again."
        ) from error
