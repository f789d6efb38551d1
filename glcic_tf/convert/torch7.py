"""Files of Torch7 (`.t7`), the Lua predecessor of PyTorch, read without Torch.

This is its binary serialisation as x86 machines write it: little-endian, with 64-bit longs. The file may come from
anybody: no code in it is run, the sizes that it claims are compared with the rest of the file before anything is
allocated, and depth, number of values and extent of the tensors are bounded. Weights are not copied but are views into
the bytes of the file, so that memory never exceeds a small multiple of the file's size.
"""

import dataclasses
import math
import os
import re
import struct
import types
from pathlib import Path

import numpy as np

from glcic_tf.common import files
from glcic_tf.common.errors import UserError, first_line

MAX_BYTES = 2**30  # of a file; the published completion networks have 47 MB
_MAX_VALUES = 2**20  # a network of 50 layers has a few thousand
_MAX_DEPTH = 200  # values within values; a container of layers takes 3
_MAX_AXES = 32
# All tensors together, if each were copied, may take that many bytes per byte of the file, plus 1 MB: tensors often
# share a storage, but overlapping ones (stride 0) can turn a few bytes into terabytes.
_VIEW_BYTES_PER_BYTE = 8

_NIL, _NUMBER, _STRING, _TABLE, _TORCH, _BOOLEAN, _FUNCTION, _OLD_CLOSURE, _CLOSURE = range(9)  # the type tags
_LEAST_ENTRY_BYTES = 12  # of a table: an empty string or a boolean as key, and nil
_UNFINISHED = object()  # stands for a tensor or storage while it is being read

_DTYPES = {"Byte": "u1", "Char": "i1", "Short": "<i2", "Int": "<i4", "Long": "<i8", "Half": "<f2", "Double": "<f8"}
_DTYPES |= {f"Cuda{kind}": dtype for kind, dtype in _DTYPES.items()} | {"Float": "<f4", "Cuda": "<f4"}
_TENSORS = {f"torch.{kind}Tensor": np.dtype(dtype) for kind, dtype in _DTYPES.items()}
_STORAGES = {f"torch.{kind}Storage": np.dtype(dtype) for kind, dtype in _DTYPES.items()}

_ADVICE = "if Torch7 wrote it, fetch it again"
_SAVE_ANEW = "save it with torch.save(name, model) in Torch7 on a 64-bit x86 machine"


@dataclasses.dataclass(eq=False)
class Object:
    """An object of a Torch class that is neither tensor nor storage, equal to itself only.

    Attributes:
        class_name: `nn.SpatialConvolution` and the like, in printable ASCII; `function` for a Lua function, whose code
            is skipped and which has no fields.
        fields: dict of what the object holds; see `read`.
        version: the class's `__version`, 0 in files from before there was one. Batch normalisation before version 2
            keeps `running_std`, the reciprocal of the standard deviation, in place of `running_var`.
    """

    class_name: str
    fields: dict = dataclasses.field(repr=False)
    version: int = 0


class _Refused(Exception):
    """Why a file is not read, as the middle of a sentence, and what to do about it."""

    def __init__(self, problem, advice=_ADVICE):
        super().__init__(problem)
        self.advice = advice


def read(path):
    """Read the object in a binary Torch7 file that anybody may have made; no code in it is run.

    Args:
        path: file that `torch.save` of Torch7 wrote; bytes after the object are ignored.

    Returns:
        The object, which may contain itself. What the file refers to several times is one Python object.

        * nil, booleans: None, bool. Numbers: float. Strings: str, decoded as UTF-8 or, if that fails, as Latin-1.
        * Tables: dict; a key is str, bool, int if it is an integral number, otherwise float. Lua counts from 1.
        * Tensors: arrays of their shape (empty ones: [0]), read-only views into the bytes of the file, which stay in
          memory as long as any of them. Storages: such arrays of one axis. CUDA's are treated like the CPU's.
        * Other objects, functions: Object.

    Raises:
        UserError: the file is missing, empty, too large, cut off, damaged, in another format, nested too deeply, or a
            tensor reaches beyond its storage.
    """
    try:
        data = _file_bytes(path)
        _check_start(data)
        return _Reader(data).root()
    except _Refused as refused:
        raise UserError(
            f"{files.printable(path)}: is not a binary file of Torch7: {refused}; {refused.advice}."
        ) from refused


def _file_bytes(path):
    try:
        if not Path(path).is_file():  # a named pipe would never end
            raise _Refused("it is a folder" if Path(path).is_dir() else "there is no such file", "give a .t7 file")
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_BYTES:
                raise _Refused(f"it is larger than {MAX_BYTES / 1e6:.0f} MB", "give a file of one completion network")
            data = file.read(size)
    except OSError as error:
        raise _Refused(f"it cannot be opened ({first_line(error.strerror or error)})", "give a .t7 file") from error
    if not data:
        raise _Refused("it is empty", "fetch it again")
    return data


def _check_start(data):
    """Raise _Refused for formats that are easily mistaken for this one."""
    if re.match(rb"[1-8]\r?\n[-\dni]", data):
        raise _Refused("it is in Torch7's ASCII format", _SAVE_ANEW)
    if data.startswith((b"PK", b"\x80")):
        raise _Refused("it is a zip or a pickle, as PyTorch and Keras write them", "give a .t7 file")
    if data[:3] == b"\0\0\0" and 1 <= int.from_bytes(data[3:4]) <= _CLOSURE:
        raise _Refused("it comes from a big-endian machine", _SAVE_ANEW)


class _Reader:
    """The state of reading one file.

    Methods that are generators read values that contain other values: they yield once for each of these, which is then
    sent to them, and return what they have read. So nesting grows a list and not Python's stack.
    """

    def __init__(self, data):
        self._data = data
        self._position = 0
        self._values_left = _MAX_VALUES
        self._view_bytes_left = _VIEW_BYTES_PER_BYTE * len(data) + 2**20
        self._known = {}  # by the index that the file gives them: tables, tensors, storages, objects, closures
        self._storages = set()  # their id(); all of them are in _known

    def root(self):
        """Return the first value in the file."""
        stack, found = [], self._value()
        while True:
            to_send = None
            if isinstance(found, types.GeneratorType):
                if len(stack) == _MAX_DEPTH:
                    raise _Refused(f"at byte {self._position} it is nested more than {_MAX_DEPTH} values deep")
                stack.append(found)
            elif stack:
                to_send = found
            else:
                return found
            try:
                stack[-1].send(to_send)
            except StopIteration as finished:
                stack.pop()
                found = finished.value
            else:
                found = self._value()

    def _value(self):
        """Return a value that is complete, or a generator that reads the rest of it."""
        self._values_left -= 1
        if self._values_left < 0:
            raise _Refused(f"it holds more than {_MAX_VALUES} values", "give a file of one completion network")
        start = self._position
        tag = self._int("a type tag")
        if tag == _NIL:
            return None
        if tag == _NUMBER:
            return struct.unpack_from("<d", self._data, self._skip(8, "a number"))[0]
        if tag == _STRING:
            return self._text()
        if tag == _BOOLEAN:
            return self._int("a boolean") == 1
        if tag == _FUNCTION:
            return self._function(None)
        if tag not in (_TABLE, _TORCH, _OLD_CLOSURE, _CLOSURE):
            raise _Refused(f"found type tag {tag} at byte {start}, expected 0 to {_CLOSURE}")
        index = self._int("an index")
        if index not in self._known:
            return {_TABLE: self._table, _TORCH: self._object}.get(tag, self._function)(index)
        if self._known[index] is _UNFINISHED:
            raise _Refused(f"the tensor with index {index} contains itself at byte {start}")
        return self._known[index]

    def _table(self, index):
        start = self._position
        size = self._int("the size of a table")
        if not 0 <= size * _LEAST_ENTRY_BYTES <= len(self._data) - self._position:
            raise _Refused(f"the table at byte {start} claims {size} entries, more than the rest of the file can hold")
        table = self._known[index] = {}
        for _ in range(size):
            start = self._position
            key = yield
            if isinstance(key, float) and key.is_integer():
                key = int(key)
            if not isinstance(key, (str, bool, int, float)) or key != key:  # NaN is not a key in Lua either
                raise _Refused(f"the key of a table at byte {start} is neither string nor number nor boolean")
            if key in table:
                raise _Refused(f"a table has the key at byte {start} twice")
            table[key] = yield
        return table

    def _function(self, index):
        self._skip(self._int("the size of a function"), "the code of a function")
        function = Object("function", {})
        if index is not None:
            self._known[index] = function
        yield  # the variables of the function: other values may refer to what is in them
        return function

    def _object(self, index):
        start = self._position
        version, name = 0, self._bytes("a class name")
        if re.fullmatch(rb"V \d{1,9}", name):
            version, name = int(name[2:]), self._bytes("a class name")
        if not re.fullmatch(rb"[!-~]{1,100}", name):
            raise _Refused(f"the class name at byte {start} is none")
        name = name.decode()
        if name in _TENSORS or name in _STORAGES:
            self._known[index] = _UNFINISHED
            self._known[index] = self._storage(name) if name in _STORAGES else (yield from self._tensor(name))
        else:
            found = self._known[index] = Object(name, {}, version)
            found.fields = yield
            if not isinstance(found.fields, dict):
                raise _Refused(f"the {name} at byte {start} is not followed by a table of its fields")
        return self._known[index]

    def _storage(self, name):
        start, dtype = self._position, _STORAGES[name]
        size = struct.unpack_from("<q", self._data, self._skip(8, f"the size of a {name}"))[0]
        if size < 0:
            raise _Refused(f"the {name} at byte {start} claims {size} elements")
        storage = np.frombuffer(self._data, dtype, size, self._skip(size * dtype.itemsize, f"a {name}"))
        self._storages.add(id(storage))
        return storage

    def _tensor(self, name):
        start, dtype = self._position, _TENSORS[name]
        axes = self._int("the number of axes of a tensor")
        if not 0 <= axes <= _MAX_AXES:
            raise _Refused(f"the {name} at byte {start} has {axes} axes, expected up to {_MAX_AXES}")
        if self._shape_fits(axes, "i") and not self._shape_fits(axes, "q"):
            raise _Refused(f"the {name} at byte {start} is written with 32-bit longs", _SAVE_ANEW)
        layout = f"<{2 * axes + 1}q"
        place = self._skip(struct.calcsize(layout), f"the shape of a {name}")
        *numbers, offset = struct.unpack_from(layout, self._data, place)
        sizes, strides, offset = numbers[:axes], numbers[axes:], offset - 1  # Lua counts from 1
        storage = yield
        if any(number < 0 for number in numbers):
            raise _Refused(f"the {name} at byte {start} has a negative size or stride")
        empty = axes == 0 or 0 in sizes
        if not empty:
            if id(storage) not in self._storages or storage.dtype != dtype:
                raise _Refused(f"the {name} at byte {start} has no storage of its type")
            last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
            if offset < 0 or last >= storage.size:
                raise _Refused(f"the {name} at byte {start} reaches outside its storage of {storage.size} elements")
        # This counts empty tensors as well: NumPy refuses those whose other axes are too long.
        self._view_bytes_left -= math.prod(max(size, 1) for size in sizes) * dtype.itemsize
        if self._view_bytes_left < 0:
            advice = "in Torch7, call model:clearState() and save it anew"
            raise _Refused(f"its tensors, up to the one at byte {start}, overlap to many times the file's size", advice)
        if empty:
            return np.empty(sizes or (0,), dtype)
        # The stride of an axis of length 1 is meaningless and may be anything.
        steps = [stride * dtype.itemsize if size > 1 else 0 for size, stride in zip(sizes, strides, strict=True)]
        return np.ndarray(sizes, dtype, storage, offset * dtype.itemsize, steps)

    def _shape_fits(self, axes, long_format):
        """Return whether longs of one width make a plausible shape here, with a storage after it."""
        layout = f"<{2 * axes + 1}{long_format}i"
        if struct.calcsize(layout) > len(self._data) - self._position:
            return False
        *longs, tag = struct.unpack_from(layout, self._data, self._position)
        return tag == _TORCH and min(longs) >= 0 and all(0 < long < 2**32 for long in [*longs[:axes], longs[-1]])

    def _int(self, what):
        return struct.unpack_from("<i", self._data, self._skip(4, what))[0]

    def _text(self):
        string = self._bytes("a string")
        try:
            return string.decode()
        except UnicodeDecodeError:
            return string.decode("latin-1")

    def _bytes(self, what):
        length = self._int(f"the length of {what}")
        start = self._skip(length, what)
        return self._data[start : start + length]

    def _skip(self, length, what):
        """Step over `length` bytes, if so many are left, and return where they begin."""
        start, left = self._position, len(self._data) - self._position
        if not 0 <= length <= left:
            raise _Refused(f"{what} at byte {start} should have {length} bytes, but {left} are left")
        self._position += length
        return start
