"""Interprets the pickle of a PyTorch file without running anything that it asks for.

A pickle is a small program, and the usual unpickler lets it call any function. Here an interpreter with a few dozen
harmless instructions follows it instead. It may only "call" a short list of names, each with a function below that
builds a plain value; Python's own unpickler is not involved, and nothing is imported by name.
"""

import math
import pickletools

import numpy as np

MAX_BYTES = 2**30  # of a file; a completion network with both discriminators has about 210 MB
_MAX_INSTRUCTIONS = 2**18  # of one pickle; about 3000 for 100 tensors
_MAX_AXES = 32
_MAX_REPEATED = 2**20  # elements of a tensor that shows elements of its storage more than once

_STORAGES = {  # type of the elements in the file, and of those that are returned
    "torch.DoubleStorage": (np.float64, np.float64),
    "torch.FloatStorage": (np.float32, np.float32),
    "torch.HalfStorage": (np.float16, np.float16),
    "torch.BFloat16Storage": (np.uint16, np.float32),  # the upper halves of float32 numbers
    "torch.LongStorage": (np.int64, np.int64),
    "torch.IntStorage": (np.int32, np.int32),
    "torch.ShortStorage": (np.int16, np.int16),
    "torch.CharStorage": (np.int8, np.int8),
    "torch.ByteStorage": (np.uint8, np.uint8),
    "torch.BoolStorage": (np.uint8, np.bool_),  # a byte that is neither 0 nor 1 would make a broken bool
}
_TYPES = {f"torch.{name}" for name in ("float64", "float32", "float16", "bfloat16", "bool", "uint8")}
_TYPES |= {f"torch.int{bits}" for bits in (8, 16, 32, 64)}
_NUMPY_TYPES = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}

# Instructions of pickles, grouped by what they do; `unpickle` handles the others by name.
_LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
_LITERALS |= {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
_LITERALS |= {"BINSTRING", "SHORT_BINSTRING"}  # text of Python 2, which wrote files that are still handed out
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_CONTAINERS = {"EMPTY_LIST": list, "EMPTY_DICT": dict}
_TAKE = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "APPEND": 1, "SETITEM": 2}
_TAKE |= {"TUPLE": None, "APPENDS": None, "SETITEMS": None}  # all above the last mark
_GET, _PUT = {"BINGET", "LONG_BINGET"}, {"BINPUT", "LONG_BINPUT", "MEMOIZE"}
_IGNORED = {"PROTO", "FRAME"}
_WITH_ARGUMENT = _LITERALS | _GET | _PUT - {"MEMOIZE"} | _IGNORED


class Refused(Exception):
    """Why a file is not read, as the middle of a sentence."""


class _Global(str):
    """Name of a class or function that a pickle mentions; the thing itself is never looked up."""


class _NumpyType:
    """A numpy.dtype of one number, whose byte order follows later."""

    def __init__(self, code):
        self.dtype = np.dtype(f"<{code}")


class Storages:
    """Makes an array for each storage that a pickle mentions, to be filled later: in old files the numbers come last.

    Attributes:
        found: dict from key to (array [elements], dtype of the elements in the file).
    """

    def __init__(self, file_bytes):
        self.found = {}
        self._bytes_left = file_bytes

    def find(self, reference):
        """Return the array of a persistent id: ("storage", type, key, place, elements), and in old files a view."""
        proper = type(reference) is tuple and len(reference) in (5, 6) and _is_text(reference[0], "storage")
        require(proper, "it refers to something outside of its pickle that is not a storage")
        kind, key, elements = reference[1], reference[2], reference[4]
        proper = type(kind) is _Global and kind in _STORAGES and type(key) is str and _is_size(elements)
        require(proper, "it describes a storage that does not hold numbers")
        file_type, result_type = _STORAGES[kind]
        if key not in self.found:
            self._bytes_left -= elements * np.dtype(file_type).itemsize
            require(self._bytes_left >= 0, "its storages claim to be larger than the whole file")
            self.found[key] = (np.empty(elements, result_type), file_type)
        array, first_file_type = self.found[key]
        same = first_file_type is file_type and array.dtype == result_type and array.size == elements
        require(same, f"it describes storage {spell(key)} in two ways")
        if len(reference) == 5 or reference[5] is None:
            return array
        _, first, length = reference[5]
        inside = _is_size(first) and _is_size(length) and first + length <= elements
        require(inside, f"a part of storage {spell(key)} lies outside of it")
        return array[first : first + length]


def unpickle(stream, find_storage=None):
    """Return what the pickle at the stream's position describes, and leave the position after it."""
    stack, outer, memo = [], [], {}  # outer: the stacks below the open marks
    for _ in range(_MAX_INSTRUCTIONS):
        code = stream.read(1)
        instruction = pickletools.code2op.get(code.decode("latin-1"))
        name = instruction.name if instruction else f"byte {code[0]}" if code else "nothing"
        argument = instruction.arg.reader(stream) if name in _WITH_ARGUMENT else None
        if name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _CONTAINERS:
            stack.append(_CONTAINERS[name]())
        elif name in _GET:
            require(argument in memo, "its pickle refers to a value that it does not hold")
            stack.append(memo[argument])
        elif name in _PUT:
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif name in _TAKE:
            if _TAKE[name] is None:
                items, stack = stack, outer.pop()
            else:
                items = [stack.pop() for _ in range(_TAKE[name])][::-1]
            if name.startswith("TUPLE"):
                stack.append(tuple(items))
            else:
                (_append if name.startswith("APPEND") else _set)(stack[-1], items)
        elif name == "MARK":
            outer.append(stack)
            stack = []
        elif name == "POP":
            stack.pop()
        elif name == "GLOBAL":
            stack.append(_find(*(stream.readline()[:-1].decode("ascii") for _ in range(2))))
        elif name == "STACK_GLOBAL":
            class_name, module = stack.pop(), stack.pop()
            stack.append(_find(module, class_name))
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(_call(function, arguments))
        elif name == "BUILD":
            _build(stack[-2], stack.pop())
        elif name == "BINPERSID" and find_storage:
            stack.append(find_storage(stack.pop()))
        elif name == "STOP":
            require(len(stack) == 1 and not outer, "its pickle does not end with one value")
            return stack[0]
        else:
            require(name in _IGNORED, f"its pickle goes on with {name}, which torch.save does not write there")
    raise Refused(f"its pickle has more than {_MAX_INSTRUCTIONS} instructions")


def _append(target, items):
    require(type(target) is list, "its pickle appends to something that is not a list")
    target.extend(items)


def _set(target, items):
    require(type(target) is dict, "its pickle sets an item of something that is not a dict")
    for key, value in zip(items[::2], items[1::2], strict=True):
        # Other keys can take for ever to hash (a tuple that holds the one before twice, and so on), or collide.
        proper = type(key) is str or type(key) is int and abs(key) < 2**31
        require(proper, "it holds a dict with keys that are neither text nor small whole numbers")
        target[key] = value


def _find(module, name):
    require(type(module) is type(name) is str, "its pickle asks for something without a proper name")
    full_name = f"{module}.{name}"
    known = full_name in _CALLS or full_name in _STORAGES or full_name in _TYPES
    require(known, f"it asks for {spell(full_name)}, which no state dict needs (nothing of it was run)")
    return _Global(full_name)


def _call(function, arguments):
    proper = type(function) is _Global and function in _CALLS and type(arguments) is tuple and len(arguments) < 10
    require(proper, "it calls something that is not a function of PyTorch")
    return _CALLS[function](*arguments)


def _build(target, state):
    """Give an object its state: a dict's attributes are not needed, and a numpy.dtype's state is its byte order."""
    if type(target) is _NumpyType:
        proper = type(state) is tuple and len(state) > 1 and _is_text(state[1], "<", "|", ">")
        require(proper, "it holds something of NumPy that is not a number")
        target.dtype = target.dtype.newbyteorder(state[1])
    else:
        require(type(target) is dict, "its pickle sets the state of something that has none")


# Stand-ins for the functions and classes that a pickle may call. Each returns something small, however large its
# arguments are (a pickle can repeat them in two bytes).


def _tensor(storage, offset, shape, strides, *_):
    require(type(storage) is np.ndarray and storage.ndim == 1, "it holds a tensor without a storage")
    proper = type(shape) is type(strides) is tuple and len(shape) == len(strides) <= _MAX_AXES
    require(
        proper and all(_is_size(number) for number in (offset, *shape, *strides)),
        f"it holds a tensor whose offset, shape and strides are not proper, or with more than {_MAX_AXES} axes",
    )
    elements = math.prod(max(1, side) for side in shape)
    last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
    fits = elements <= max(storage.size, _MAX_REPEATED) and (last < storage.size or 0 in shape)
    require(fits, f"it holds a tensor {list(shape)} that does not fit its storage of {storage.size} elements")
    if 0 in shape:
        tensor = np.empty(shape, storage.dtype)
    else:
        steps = [stride * storage.itemsize for stride in strides]
        tensor = np.ndarray(shape, storage.dtype, storage, offset * storage.itemsize, steps)
    tensor.flags.writeable = False
    return tensor


def _ordered_dict(pairs=()):
    """Return a dict of the pairs; pickles from Python 3 give no pairs, but set the items afterwards."""
    proper = type(pairs) in (list, tuple) and all(type(pair) is list and len(pair) == 2 for pair in pairs)
    require(proper, "it holds an ordered dict of something that is not pairs")
    result = {}
    _set(result, [part for pair in pairs for part in pair])
    return result


def _device(kind, index=None):
    proper = type(kind) is str and len(kind) <= 32 and (index is None or _is_size(index))
    require(proper, "it holds a device without a proper name")
    return kind if index is None else f"{kind}:{index}"


def _encode(text, encoding):
    """Return bytes from text, as pickles of protocol 2 write them; here only the bytes of a number."""
    proper = type(text) is str and len(text) <= 16 and _is_text(encoding, "latin1")
    require(proper, "it encodes something that is not a number")
    return text.encode("latin-1")


def _numpy_type(code, *_):
    require(type(code) is str and code in _NUMPY_TYPES, "it holds something of NumPy that is not a number")
    return _NumpyType(code)


def _numpy_scalar(numpy_type, data):
    proper = type(numpy_type) is _NumpyType and type(data) is bytes and len(data) == numpy_type.dtype.itemsize
    require(proper, "it holds something of NumPy that is not a number")
    return np.frombuffer(data, numpy_type.dtype)[0].item()


_CALLS = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
    "collections.OrderedDict": _ordered_dict,
    "torch.Size": lambda sides: sides,
    "torch.device": _device,
    "_codecs.encode": _encode,
    "numpy.dtype": _numpy_type,
    "numpy.core.multiarray.scalar": _numpy_scalar,
    "numpy._core.multiarray.scalar": _numpy_scalar,
}


def _is_text(value, *texts):
    return type(value) is str and value in texts


def _is_size(number):
    return type(number) is int and 0 <= number <= MAX_BYTES


def require(condition, why):
    """Raise Refused unless a condition holds."""
    if not condition:
        raise Refused(why)


def spell(name):
    """Return a name from the file so that it can stand in a message."""
    return ascii(name[:80])[1:-1][:80]
