"""Folders of shards, which hold photos of any number in a few large files: the format, and reading any photo at once.

A folder of shards holds (docs/data.md has it in full):

- `shard-<part>-<number>.tfrecord`: TFRecords of tf.train.Example, each with a whole JPEG as it would be a file, last.
- `index.json`: version, counts, mean pixel, settings, and length and SHA-256 of all other files.
- `index.bin`: where each photo is, its size, checksum and mean, in columns (`shard_index.COLUMNS`), then all names.
- `skipped.jsonl`: which files are not in the shards, and why.

`glcic prepare` writes them. Reading needs neither TensorFlow nor a walk through a file: the index says at which
byte of which shard a photo is. Index and shards come from outside: lengths are checked before anything is read, names
of photos are labels and never paths, and a photo's checksum and size are compared before it is decoded.
"""

import collections.abc
import dataclasses
import hashlib
import os
import zlib

import numpy as np

from glcic_tf.common import storage
from glcic_tf.common.errors import UserError
from glcic_tf.data.shard_index import AGAIN, FORMAT, INDEX, SETTINGS, TABLE, Table, read_index, shard_name
from glcic_tf.imaging import images
from glcic_tf.imaging.image_decoding import BrokenImageError

_AT_ONCE = 2**16  # names put together at once


def is_shards(folder):
    """Whether a folder or URL holds shards, be they complete or not; one with another index.json holds photos.

    Raises:
        UserError: it cannot be asked.
    """
    index = storage.join(folder, INDEX)
    if storage.exists(index) and f'"{FORMAT}"'.encode() in storage.read(index, 0, 200):
        return True
    return any(storage.exists(storage.join(folder, name)) for name in (shard_name(1, 1), SETTINGS))


def decode(data, max_pixels=images.MAX_PIXELS):
    """Decode a JPEG as the photos of a folder are decoded, but for EXIF's turn, which is not followed.

    Returns:
        uint8 [height, width, 3] RGB, or None if it is broken, incomplete, in CMYK, or not a JPEG.
    """
    try:
        found = images.decode_jpeg(data, max_pixels)
    except BrokenImageError:
        return None
    return None if found is None else found[0]


class Shards:
    """A folder of shards, opened: its index is checked, and all its files are there.

    Args:
        folder: path or URL.

    Attributes:
        folder, index: as given, and the dict of index.json.
        table: Table of all photos. On this machine it stays in the file until it is looked at.

    Raises:
        UserError: the index is missing, damaged, of another version, or a shard is missing or too short.
    """

    def __init__(self, folder):
        self.folder = folder
        self.index = read_index(folder)
        self._check_files()
        self._files = [storage.join(folder, shard["file"]) for shard in self.index["shards"]]
        counts = [shard["photos"] for shard in self.index["shards"]]
        self._ends = np.cumsum(counts, dtype=np.int64)
        self.table = self._read_table()
        self._check_table(np.repeat(np.array([s["bytes"] for s in self.index["shards"]], np.uint64), counts))

    def _check_files(self):
        there = storage.files(self.folder)
        for entry in [*self.index["shards"], self.index["table"] | {"file": TABLE}]:
            path, found = storage.join(self.folder, entry["file"]), there.get(entry["file"], -1)
            if found == -1:
                raise UserError(f"{path}: is missing, and {INDEX} beside it names it; {AGAIN}.")
            if found not in (None, entry["bytes"]):
                raise UserError(f"{path}: has {found} bytes; expected {entry['bytes']}; {AGAIN}.")

    def _read_table(self):
        path, entry = storage.join(self.folder, TABLE), self.index["table"]
        if storage.is_remote(path):
            content = np.frombuffer(storage.read(path, 0, entry["bytes"] + 1), np.uint8)
        else:
            content = np.memmap(path, np.uint8, "r").view(np.ndarray)  # whose items are found faster
        if len(content) != entry["bytes"] or hashlib.sha256(content).hexdigest() != entry["sha256"]:
            raise UserError(f"{path}: is damaged, or not of the {INDEX} beside it (its SHA-256 differs); {AGAIN}.")
        return Table.from_bytes(content, self.index["photos"])

    def _check_table(self, shard_bytes):
        """Every value in its range, so that nothing can be read from outside of a shard or the names."""
        t = self.table
        fine = (
            (t.offset <= shard_bytes).all()
            and (t.length <= shard_bytes - np.minimum(t.offset, shard_bytes)).all()
            and (t.name_end[1:] >= t.name_end[:-1]).all()
            and int(t.name_end[-1]) == len(t.names)
            and min(t.height.min(), t.width.min()) > 0
            and (t.height.astype(np.uint32) * t.width <= images.MAX_PIXELS).all()
            and (t.mean >= 0).all()
            and (t.mean <= 255).all()
        )
        if not fine:
            raise UserError(f"{storage.join(self.folder, TABLE)}: holds values that no shards have; {AGAIN}.")

    def place(self, number):
        """(path or URL, first byte, bytes) of the JPEG of photo `number`."""
        file = self._files[int(np.searchsorted(self._ends, number, "right"))]
        return file, int(self.table.offset[number]), int(self.table.length[number])

    def jpeg(self, number):
        """Read the JPEG of photo `number`, as bytes. May be called from several threads at once.

        Raises:
            UserError: the shard cannot be read, or the photo in it is damaged.
        """
        file, offset, length = self.place(number)
        data = storage.read(file, offset, length)
        if len(data) != length or zlib.crc32(data) != self.table.crc32[number]:
            raise UserError(
                f"{file}: is damaged at byte {offset}, in photo {self.label(number)} ({length} bytes; their checksum "
                f"differs); {AGAIN}."
            )
        return data

    def photo(self, number):
        """Decode photo `number`: uint8 [height, width, 3] RGB. May be called from several threads at once.

        Raises:
            UserError: as `jpeg`.
        """
        data = self.jpeg(number)
        expected = int(self.table.height[number]), int(self.table.width[number])
        # A few bytes cannot become gigabytes: no more is decoded than the index says.
        photo = decode(data, expected[0] * expected[1])
        if photo is None or photo.shape[:2] != expected:
            file, offset, _ = self.place(number)
            raise UserError(
                f"{file}: holds at byte {offset} no JPEG of {expected[1]} x {expected[0]} px, as photo "
                f"{self.label(number)}; {AGAIN}."
            )
        return photo

    def label(self, number):
        """Name of photo `number` as text to show; it comes from outside, and may hold anything."""
        name = self.table.name(number).decode("utf-8", "backslashreplace")
        return "".join(c if c.isprintable() else "?" for c in name[-200:])

    def photos(self):
        """All photos, as a PhotoSequence."""
        return PhotoSequence(self, np.arange(len(self.table), dtype=np.uint32))


class PhotoSequence(collections.abc.Sequence):
    """Photos of shards, in an order: a sequence of ShardPhoto that makes each when it is asked for.

    So eight million photos take 32 MB here, where as many pathlib.Path took 3 GB.

    Args:
        shards: a Shards.
        numbers: uint32 [photos], which of its photos these are.
    """

    def __init__(self, shards, numbers):
        self.shards, self.numbers = shards, numbers

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return self.select(index)
        return ShardPhoto(self.shards, int(self.numbers[index]))

    def select(self, chosen):
        """Return a PhotoSequence of some: `chosen` is whatever NumPy takes as an index of an array."""
        return PhotoSequence(self.shards, self.numbers[chosen])

    def means(self, indices):
        """Mean colours of some photos as cv2.mean gives them after decoding, float64 [len(indices), 3], 0 to 255."""
        return np.ascontiguousarray(self.shards.table.mean[self.numbers[indices]])

    def file_names(self):
        """Yield the file names as bytes, without folders: as many at once as there is room for, a list each."""
        ends, names = self.shards.table.name_end, memoryview(self.shards.table.names)
        for begin in range(0, len(self), _AT_ONCE):
            numbers = self.numbers[begin : begin + _AT_ONCE].astype(np.int64)
            starts = np.where(numbers > 0, ends[np.maximum(numbers, 1) - 1], 0)
            pairs = zip(starts.tolist(), ends[numbers].tolist(), strict=True)
            yield [bytes(names[start:end]).rpartition(b"/")[2] for start, end in pairs]


@dataclasses.dataclass(frozen=True)
class ShardPhoto:
    """One photo of a folder of shards, as `photos.Photo` has it."""

    shards: Shards
    number: int

    def __str__(self):
        return f"{self.shards.place(self.number)[0]}: {self.shards.label(self.number)}"

    @property
    def name(self):
        """File name, without folders."""
        return os.fsdecode(self.shards.table.name(self.number)).rpartition("/")[2]

    @property
    def parent(self):
        """The folder of shards."""
        return self.shards.folder

    @property
    def size(self):
        """(height, width) in px, without reading the photo."""
        return int(self.shards.table.height[self.number]), int(self.shards.table.width[self.number])

    def read(self, shorter_edge_px=None):
        """As `Shards.photo`; how small it may be decoded was decided when the shards were made."""
        del shorter_edge_px
        return self.shards.photo(self.number)
