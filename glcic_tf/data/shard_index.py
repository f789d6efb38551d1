"""The index of a folder of shards: its files and its columns, and what has to be true of them.

docs/data.md describes the format in full. Photos are not read here but by `shards`.
"""

import json
import re

import numpy as np

from glcic_tf.common import storage
from glcic_tf.common.errors import UserError

FORMAT, VERSION = "glcic_tf shards", 1
INDEX, TABLE, SKIPPED = "index.json", "index.bin", "skipped.jsonl"
SETTINGS = "parts/settings.json"  # of prepare's unfinished work
SHARD_NAME = re.compile(r"shard-[0-9]{4}-[0-9]{5}\.tfrecord")
# Columns of index.bin in their order: dtype and shape of each photo's value. Those of 8 bytes come first, so that every
# column begins at an address that suits its type.
COLUMNS = {
    "offset": ("<u8", ()),  # of the JPEG in its shard, bytes
    "name_end": ("<u8", ()),  # where its name ends in the names, bytes
    "mean": ("<f8", (3,)),  # of the decoded photo, RGB, 0 to 255
    "length": ("<u4", ()),  # of the JPEG, bytes
    "crc32": ("<u4", ()),  # of the JPEG: zlib.crc32, since TFRecord's crc32c is slow without TensorFlow
    "height": ("<u2", ()),  # px
    "width": ("<u2", ()),
}
ROW_BYTES = sum(np.dtype((dtype, shape)).itemsize for dtype, shape in COLUMNS.values())
_MAX_INDEX_BYTES = 2**26  # index.json has some 120 bytes a shard
AGAIN = "get a whole copy, or make the shards again"


def shard_name(part, number):
    """File name of shard `number` of part `part`, both counted from 1."""
    return f"shard-{part:04d}-{number:05d}.tfrecord"


class Table:
    """Columns of `COLUMNS` as arrays [photos, ...], and `names`, uint8 [bytes]: one after the other, as os.fsencode.

    Args:
        columns: {name: array}.
        names: uint8 [bytes].
    """

    def __init__(self, columns, names):
        self.columns, self.names = columns, names

    def __getattr__(self, name):
        try:
            return self.__dict__["columns"][name]
        except KeyError:
            raise AttributeError(name) from None

    def __len__(self):
        return len(self.columns["offset"])

    @classmethod
    def from_bytes(cls, content, photos):
        """Take a table of `photos` photos apart; nothing is copied. `content`: uint8 [at least photos * ROW_BYTES]."""
        columns, place = {}, 0
        for name, (dtype, shape) in COLUMNS.items():
            end = place + photos * np.dtype((dtype, shape)).itemsize
            columns[name] = content[place:end].view(dtype).reshape(photos, *shape)
            place = end
        return cls(columns, content[place:])

    def buffers(self):
        """Return what makes up the table's bytes: a list of arrays."""
        return [*(np.ascontiguousarray(self.columns[name], COLUMNS[name][0]) for name in COLUMNS), self.names]

    def name(self, number):
        """Name of a photo: its path in the folder that it came from, as bytes."""
        begin = int(self.name_end[number - 1]) if number else 0
        return self.names[begin : int(self.name_end[number])].tobytes()

    @classmethod
    def concatenate(cls, tables):
        """Put tables one after the other."""
        shifts = np.cumsum([0, *(len(table.names) for table in tables)], dtype=np.uint64)
        columns = {
            name: np.concatenate([table.columns[name] for table in tables]) if tables else np.zeros([0, *shape], dtype)
            for name, (dtype, shape) in COLUMNS.items()
        }
        if tables:
            ends = [table.name_end + shift for table, shift in zip(tables, shifts[:-1], strict=True)]
            columns["name_end"] = np.concatenate(ends)
        return cls(columns, np.concatenate([np.zeros(0, np.uint8), *(table.names for table in tables)]))

    def select(self, chosen):
        """Return a table of the photos for which `chosen`, bool [photos], is True."""
        lengths = np.diff(self.name_end, prepend=np.uint64(0))
        columns = {name: column[chosen] for name, column in self.columns.items()}
        columns["name_end"] = np.cumsum(lengths[chosen], dtype=np.uint64)
        return Table(columns, self.names[np.repeat(chosen, lengths.astype(np.int64))])


def read_index(folder):
    """Read and check index.json.

    Returns:
        Its dict; the fields that `Shards` needs have their types, and file names are those of shards.

    Raises:
        UserError: it is missing, damaged or of another version.
    """
    path = storage.join(folder, INDEX)
    if not storage.exists(path):
        raise UserError(
            f"{folder}: holds shards and no {INDEX}: glcic prepare has not finished; run it (or its other "
            "parts) again until it has."
        )
    content = storage.read(path, 0, _MAX_INDEX_BYTES)
    try:
        index = json.loads(content)
        if index["format"] != FORMAT:
            raise ValueError
        if index["version"] != VERSION:
            raise UserError(
                f"{path}: is of version {str(index['version'])[:20]}; this release reads {VERSION}; use the release "
                "that made the shards, or make them again."
            )
        _check_index(index)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: is damaged, or not an index of shards; {AGAIN}.") from error
    return index


def _check_index(index):
    entries = [*index["shards"], index["table"]]
    counts = [shard["photos"] for shard in index["shards"]]  # 0 where all were duplicates of another part's
    numbers = [index["photos"], *(entry["bytes"] for entry in entries), *counts]
    if not all(type(number) is int and 0 <= number < 2**48 for number in numbers):
        raise ValueError
    if not all(SHARD_NAME.fullmatch(shard["file"]) for shard in index["shards"]):
        raise ValueError
    if not all(re.fullmatch("[0-9a-f]{64}", entry["sha256"]) for entry in entries):
        raise ValueError
    if not 0 < index["photos"] == sum(counts) <= index["table"]["bytes"] // ROW_BYTES:
        raise ValueError
