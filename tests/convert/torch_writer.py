"""Writes files as `torch.save` does, without PyTorch: for tests of the reader and of what builds on it.

Python's own pickler makes the pickles, as it does for PyTorch; only the names of PyTorch's functions, which cannot be
imported here, are put in by hand.
"""

import collections
import dataclasses
import io
import pickle
import struct
import zipfile

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
KINDS = {"f8": "Double", "f4": "Float", "f2": "Half", "i8": "Long", "i4": "Int", "i2": "Short", "i1": "Char"}
KINDS |= {"u1": "Byte", "b1": "Bool"}


@dataclasses.dataclass(frozen=True)
class Global:
    """A function or class by name."""

    module: str
    name: str

    def __call__(self, *_):
        raise AssertionError("only written, never called")


@dataclasses.dataclass(frozen=True)
class Call:
    """What a function returns when the file is read."""

    function: Global
    arguments: tuple
    state: object = None


@dataclasses.dataclass(eq=False)
class Storage:
    """Numbers [elements], as they stand in the file; `kind` is PyTorch's name of their type.

    `elements` and `data` go into the file instead of the truth where they are given; `view` (first, length) makes the
    part of a storage that PyTorch before 0.4 could write.
    """

    numbers: np.ndarray
    kind: str | None = None
    elements: int | None = None
    data: bytes | None = None
    view: tuple | None = None

    def __post_init__(self):
        self.numbers = np.ascontiguousarray(self.numbers)
        self.kind = self.kind or KINDS[self.numbers.dtype.str[1:]]
        self.elements = self.numbers.size if self.elements is None else self.elements

    def bytes(self, big_endian):
        swapped = self.numbers.byteswap() if big_endian else self.numbers
        return swapped.tobytes() if self.data is None else self.data


@dataclasses.dataclass(eq=False)
class Tensor:
    """A tensor that shows part of a storage; offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple
    strides: tuple


def tensor(array, kind=None):
    """Return a contiguous tensor with a storage of its own."""
    array = np.asarray(array)
    strides = tuple(int(np.prod(array.shape[axis + 1 :])) for axis in range(array.ndim))
    return Tensor(Storage(array.ravel(), kind), 0, array.shape, strides)


def bfloat16(array):
    """Return a contiguous tensor of bfloat16: the upper halves of float32 numbers."""
    array = np.ascontiguousarray(array, "<f4")
    return tensor((array.view("<u4") >> 16).astype("<u2"), "BFloat16")


def parameter(value):
    return Call(Global("torch._utils", "_rebuild_parameter"), (value, True, collections.OrderedDict()))


def state_dict(values):
    """Return an OrderedDict with the attribute that PyTorch hangs on it."""
    result = collections.OrderedDict(values)
    result._metadata = collections.OrderedDict([("", {"version": 1}), ("conv1", {"version": 1})])
    return result


def write_zip(path, value, *, protocol=2, big_endian=False, folder="archive", change=None, compression=0):
    """Write the format of PyTorch 1.6 and newer; `change` may alter the dict of the zip's members before."""
    pickled, storages = dump(value, protocol, "zip")
    members = {"data.pkl": pickled, "byteorder": b"big" if big_endian else b"little"}
    members |= {f"data/{key}": storage.bytes(big_endian) for key, storage in storages.items()} | {"version": b"3\n"}
    if change:
        change(members)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(f"{folder}/{name}", content)
    return path


def write_legacy(path, value, *, protocol=2, keys=None, little_endian=True, version=1001, pickler=None):
    """Write the format of older PyTorch; `keys` replaces the list of storage keys."""
    pickler = pickler or _Pickler
    pickled, storages = dump(value, protocol, "legacy", pickler)
    sizes = {"short": 2, "int": 4, "long": 4}
    system = {"protocol_version": 1001, "little_endian": little_endian, "type_sizes": sizes}
    written = sorted(storages)
    with open(path, "wb") as file:
        for part in (MAGIC, version, system):
            file.write(dump(part, protocol, "legacy", pickler)[0])
        file.write(pickled)
        file.write(dump(written if keys is None else keys, protocol, "legacy", pickler)[0])
        for key in written:
            file.write(struct.pack("<q", storages[key].elements) + storages[key].bytes(big_endian=False))
    return path


def write_raw(path, pickled, form):
    """Write a file around a pickle that is given as bytes, without storages."""
    if form == "zip":
        return write_zip(path, None, change=lambda members: members.update({"data.pkl": pickled}))
    head = b"".join(pickle.dumps(part, 2) for part in (MAGIC, 1001, {"little_endian": True}))
    path.write_bytes(head + pickled + pickle.dumps([], 2))
    return path


def dump(value, protocol, form, pickler=None):
    """Return (pickle, dict from key to storage)."""
    stream = io.BytesIO()
    pickler = (pickler or _Pickler)(stream, protocol, form)
    pickler.dump(value)
    return stream.getvalue(), {key: storage for storage, key in pickler.keys.items()}


class _Pickler(pickle._Pickler):  # the one in Python, whose table of types can be added to
    def __init__(self, stream, protocol, form):
        super().__init__(stream, protocol)
        self.keys, self.form = {}, form

    def persistent_id(self, value):
        if not isinstance(value, Storage):
            return None
        first_key = "0" if self.form == "zip" else "94032"  # older files use addresses
        key = self.keys.setdefault(value, str(int(first_key) + len(self.keys)))
        reference = ("storage", Global("torch", f"{value.kind}Storage"), key, "cpu", value.elements)
        view = (key + "1", *value.view) if value.view else None
        return reference if self.form == "zip" else (*reference, view)

    def reducer_override(self, value):
        if isinstance(value, Tensor):
            rest = (value.storage, value.offset, value.shape, value.strides, False, collections.OrderedDict())
            return Global("torch._utils", "_rebuild_tensor_v2"), rest
        if isinstance(value, Call):
            return value.function, value.arguments, value.state
        return NotImplemented

    def _save_name(self, value):
        if self.proto >= 4:
            self.save(value.module)
            self.save(value.name)
            self.write(pickle.STACK_GLOBAL)
        else:
            self.write(f"c{value.module}\n{value.name}\n".encode())
        self.memoize(value)

    dispatch = {**pickle._Pickler.dispatch, Global: _save_name}


class Python2Pickler(_Pickler):
    """Pickles as Python 2 did: text as bytes, and an ordered dict with its pairs."""

    def reducer_override(self, value):
        if type(value) is collections.OrderedDict:
            return Global("collections", "OrderedDict"), ([list(pair) for pair in value.items()],)
        return super().reducer_override(value)

    def _save_text(self, value):
        data = value.encode("latin-1")
        short = len(data) < 256
        self.write((b"U" + struct.pack("<B", len(data)) if short else b"T" + struct.pack("<i", len(data))) + data)
        self.memoize(value)

    dispatch = {**_Pickler.dispatch, str: _save_text}
