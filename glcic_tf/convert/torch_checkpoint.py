"""Reads what PyTorch's `torch.save` wrote, without PyTorch and without running anything that the file asks for.

Such a file is a pickle, a program that could call anything: `torch_pickle` interprets it instead of running it.

There are two formats: the zip of PyTorch 1.6 and newer (`archive/data.pkl`, and a member for each storage), and the
older stream of five pickles and the raw storages. Work and memory are bounded by the file's size and the limits below.
"""

import io
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np

from glcic_tf.common.errors import UserError, first_line
from glcic_tf.convert.torch_pickle import MAX_BYTES, Refused, Storages, require, spell, unpickle

_MAX_PICKLE_BYTES = 2**22  # of the pickles, which do not hold the tensors' numbers; about 10 kB for 100 tensors
_CHUNK = 2**20  # bytes

_LEGACY_START = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # ends the first pickle: the number below as LONG1, then STOP
_LEGACY_NUMBERS = (0x1950A86A20F9469CFC6C, 1001)  # magic number, version

# What zipfile, numpy, struct and the code below raise for broken files; RuntimeError is zipfile's for encrypted ones.
_BROKEN = (OSError, EOFError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RuntimeError)
_BROKEN += (struct.error, zipfile.BadZipFile)


class _BoundedFile(io.FileIO):
    """File that returns little at a time, so that zipfile cannot be made to read an endless table of contents."""

    def read(self, size=-1):
        return super().read(size if 0 <= size <= _MAX_PICKLE_BYTES else _MAX_PICKLE_BYTES)


def read(path):
    """Return what `torch.save` wrote: a state dict, or a checkpoint that holds one; the file may come from anybody.

    Args:
        path: file in the zip format of PyTorch 1.6 and newer, or in the stream format of older ones (and of
            `_use_new_zipfile_serialization=False`), of at most `MAX_BYTES`.

    Returns:
        Nested dicts (with str or int keys, in the order of the file), lists, tuples, numbers, str, bytes and None.
        Tensors, parameters and storages come as read-only arrays with PyTorch's axes, bfloat16 as float32, and share
        memory if they did in PyTorch; torch.Size comes as tuple, devices and dtypes as str, NumPy's scalars as numbers.
        A hostile file can nest this deeply or in itself: do not walk, print or compare all of it, but look up entries.

    Raises:
        UserError: the file is missing, too large, broken, in another format, or asks for a class or function that a
            state dict does not need. Nothing that it asks for is ever run.
    """
    path = Path(path)
    try:
        try:
            return _read(path)
        except _BROKEN as error:
            raise Refused(f"it is broken ({first_line(error)})") from error
    except Refused as refused:
        raise UserError(
            f"{path}: cannot be read as PyTorch weights: {refused}; "
            "give a complete file that torch.save wrote of a model's state_dict()."
        ) from refused


def _read(path):
    require(path.is_file(), "it is a folder" if path.is_dir() else "there is no such file")
    size = path.stat().st_size
    require(size <= MAX_BYTES, f"it has {size / 1e6:.0f} MB, more than {MAX_BYTES / 1e6:.0f} MB")
    with _BoundedFile(path) as file:
        start = file.read(512)
        file.seek(0)
        if start.startswith(b"PK\x03\x04"):
            with zipfile.ZipFile(file) as archive:
                return _read_zip(archive, size)
        if _LEGACY_START in start[:32]:
            return _read_legacy(file, size)
    require(start[257:262] != b"ustar", "it is a tar file of PyTorch before 0.2; load and save it in a newer PyTorch")
    raise Refused(f"it begins with {start[:8]!r}, as no file of torch.save does")


def _read_zip(archive, size):
    members = {member.filename: member for member in archive.infolist()}
    pickles = [name for name in members if name.rpartition("/")[2] == "data.pkl"]
    if len(pickles) != 1 or len(members) != len(archive.infolist()):
        names = ", ".join(spell(name) for name in list(members)[:4])
        raise Refused(f"the zip holds {names or 'nothing'}, not one data.pkl and one member for each storage")
    folder = pickles[0].removesuffix("data.pkl")
    require(folder + "constants.pkl" not in members, "it is a TorchScript program, not a state dict")

    def reader(name, expected=None):
        require(folder + name in members, f"the zip lacks {spell(name)}")
        member = members[folder + name]
        stored = member.compress_type == zipfile.ZIP_STORED and member.compress_size == member.file_size
        require(stored, f"{spell(name)} in the zip is compressed, which torch.save never does")
        found = member.file_size
        require(expected in (None, found), f"{spell(name)} has {found} bytes, by its description {expected}")
        return archive.open(member).read

    order = reader("byteorder")(16) if folder + "byteorder" in members else b"little"
    require(order in (b"little", b"big"), f"its byte order is {order!r}, not little or big")
    data = reader("data.pkl")(_MAX_PICKLE_BYTES + 1)
    require(len(data) <= _MAX_PICKLE_BYTES, f"its data.pkl has more than {_MAX_PICKLE_BYTES / 1e6:.0f} MB")
    storages = Storages(size)
    value = unpickle(io.BytesIO(data), storages.find)
    for key, (array, file_type) in storages.found.items():
        read_bytes = reader(f"data/{key}", array.size * np.dtype(file_type).itemsize)
        _fill(array, file_type, read_bytes, swap=order.decode() != sys.byteorder)
    return value


def _read_legacy(file, size):
    pickles = io.BytesIO(file.read(_MAX_PICKLE_BYTES))
    require((unpickle(pickles), unpickle(pickles)) == _LEGACY_NUMBERS, "its version is not 1001")
    little = unpickle(pickles)["little_endian"] is True
    require(little, "it comes from a big-endian machine; load and save it in a newer PyTorch")
    storages = Storages(size)
    value = unpickle(pickles, storages.find)
    keys = unpickle(pickles)
    proper = type(keys) is list and all(type(key) is str for key in keys) and sorted(keys) == sorted(storages.found)
    require(proper, "its list of storages is not that of its tensors")
    file.seek(pickles.tell())
    for key in keys:
        array, file_type = storages.found[key]
        (found,) = struct.unpack("<q", file.read(8))
        require(found == array.size, f"storage {spell(key)} has {found} elements, by its description {array.size}")
        _fill(array, file_type, file.read, swap=sys.byteorder != "little")
    return value


def _fill(array, file_type, read_bytes, swap):
    raw = array if array.dtype == file_type else np.empty(array.size, file_type)
    raw_bytes, position = raw.view(np.uint8), 0
    while position < raw_bytes.size:
        chunk = read_bytes(min(_CHUNK, raw_bytes.size - position))
        require(chunk, "it ends in the middle of a storage")
        raw_bytes[position : position + len(chunk)] = np.frombuffer(chunk, np.uint8)
        position += len(chunk)
    if swap:
        raw.byteswap(inplace=True)
    if array.dtype == np.bool_:
        np.not_equal(raw, 0, out=array)
    elif raw is not array:
        bits = array.view(np.uint32)
        bits[...] = raw
        bits <<= 16
    array.flags.writeable = False
