"""Writes what Torch7's `torch.save` writes in binary mode, by hand with `struct`; shares nothing with the reader.

    torch7_writer.dumps({"model": Module("nn.Sequential", {"modules": lua_list([...])}), "mean": tensor(array)})

Python objects that stand in several places are written once and referred to by their index, as in Torch7.
"""

import dataclasses
import struct

import numpy as np

KINDS = {
    "Byte": np.uint8,
    "Char": np.int8,
    "Short": np.int16,
    "Int": np.int32,
    "Long": np.int64,
    "Half": np.float16,
    "Float": np.float32,
    "Double": np.float64,
    "CudaByte": np.uint8,
    "CudaChar": np.int8,
    "CudaShort": np.int16,
    "CudaInt": np.int32,
    "CudaLong": np.int64,
    "CudaHalf": np.float16,
    "Cuda": np.float32,
    "CudaDouble": np.float64,
}


@dataclasses.dataclass(eq=False)
class Storage:
    kind: str
    values: np.ndarray  # [length]
    claimed: int | None = None  # length to write instead of the true one


@dataclasses.dataclass(eq=False)
class Tensor:
    """`offset` counts elements from 1, `strides` are in elements; `storage` may be any object, also None."""

    kind: str
    sizes: tuple
    strides: tuple
    offset: int
    storage: object


@dataclasses.dataclass(eq=False)
class Module:
    class_name: str
    fields: object
    version: int | None = 1  # None: as it was before there were versions


@dataclasses.dataclass(eq=False)
class Function:
    code: bytes
    upvalues: object
    tag: int = 8  # 7 and 6 are those of older versions


@dataclasses.dataclass(eq=False)
class Raw:
    content: bytes


@dataclasses.dataclass(eq=False)
class Pairs:
    """A table with any keys, in any order, as often as one likes."""

    pairs: list
    claimed: int | None = None  # number of entries to write instead of the true one


def lua_list(items):
    return dict(enumerate(items, 1))


def tensor(array, kind="Float", storage=None, start=0):
    """A contiguous tensor with the values of `array`, at element `start` of `storage` or in a storage of its own."""
    array = np.asarray(array)
    storage = storage or Storage(kind, array.ravel())
    strides = [int(np.prod(array.shape[axis + 1 :])) for axis in range(array.ndim)]
    return Tensor(kind, array.shape, tuple(strides), start + 1, storage)


def flattened(arrays, kind="Float"):
    """Tensors like `arrays` which are views into one storage, one after the other, as after getParameters()."""
    storage = Storage(kind, np.concatenate([np.ravel(array) for array in arrays]))
    starts = np.cumsum([0, *(np.size(array) for array in arrays)])
    return [tensor(array, kind, storage, int(start)) for array, start in zip(arrays, starts, strict=False)]


def dumps(thing, long_format="q"):
    """The bytes of a file; `long_format` "i" is that of 32-bit machines."""
    return _Writer(long_format).written(thing)


class _Writer:
    def __init__(self, long_format):
        self.long_format = long_format
        self.indices = {}
        self.alive = []  # or an id() could come a second time

    def written(self, thing):
        if isinstance(thing, Raw):
            return thing.content
        if thing is None:
            return struct.pack("<i", 0)
        if isinstance(thing, bool):
            return struct.pack("<ii", 5, thing)
        if isinstance(thing, (int, float)):
            return struct.pack("<id", 1, thing)
        if isinstance(thing, (str, bytes)):
            return struct.pack("<i", 2) + counted(thing)
        if isinstance(thing, Function) and thing.tag == 6:
            return struct.pack("<i", 6) + counted(thing.code) + self.written(thing.upvalues)
        tag = 3 if isinstance(thing, (dict, Pairs)) else thing.tag if isinstance(thing, Function) else 4
        known = id(thing) in self.indices
        index = self.indices.setdefault(id(thing), len(self.indices) + 1)
        self.alive.append(thing)
        return struct.pack("<ii", tag, index) + (b"" if known else self.content(thing))

    def content(self, thing):
        if isinstance(thing, dict):
            return self.content(Pairs(list(thing.items())))
        if isinstance(thing, Pairs):
            size = len(thing.pairs) if thing.claimed is None else thing.claimed
            return struct.pack("<i", size) + b"".join(self.written(part) for pair in thing.pairs for part in pair)
        if isinstance(thing, Function):
            return counted(thing.code) + self.written(thing.upvalues)
        if isinstance(thing, Storage):
            size = len(thing.values) if thing.claimed is None else thing.claimed
            values = np.asarray(thing.values).astype(KINDS[thing.kind]).tobytes()
            return header(f"torch.{thing.kind}Storage") + self.longs(size) + values
        if isinstance(thing, Tensor):
            shape = struct.pack("<i", len(thing.sizes)) + self.longs(*thing.sizes, *thing.strides, thing.offset)
            return header(f"torch.{thing.kind}Tensor") + shape + self.written(thing.storage)
        return header(thing.class_name, thing.version) + self.written(thing.fields)

    def longs(self, *values):
        return struct.pack(f"<{len(values)}{self.long_format}", *values)


def counted(text):
    content = text.encode() if isinstance(text, str) else text
    return struct.pack("<i", len(content)) + content


def header(class_name, version=1):
    return (b"" if version is None else counted(f"V {version}")) + counted(class_name)


def _normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def network():
    """A Sequential of convolution, normalisation, ReLU, twice; weights and gradients are views into two storages.

    Returns:
        (table of `model` and `mean`, arrays [weight, bias, gamma, beta] of both).
    """
    arrays = [
        _normal(4, 3, 5, 5),
        _normal(4),
        _normal(4),
        _normal(4),
        _normal(2, 4, 3, 3),
        _normal(2),
        _normal(2),
        _normal(2),
    ]
    weights, gradients = flattened(arrays), flattened([0 * array for array in arrays])
    layers = []
    for i in (0, 4):
        names = ["weight", "bias"]
        fields = [dict(zip(names, weights[at : at + 2], strict=True)) for at in (i, i + 2)]
        for at, field in zip((i, i + 2), fields, strict=True):
            field |= {"gradWeight": gradients[at], "gradBias": gradients[at + 1], "_type": "torch.FloatTensor"}
        fields[0] |= {"kW": arrays[i].shape[3], "padW": 1, "output": tensor(np.empty(0))}
        fields[1] |= {"eps": 1e-5, "train": False, "running_mean": tensor(_normal(4 if i == 0 else 2, seed=i))}
        layers.append(Module("nn.SpatialConvolution", fields[0]))
        layers.append(Module("nn.SpatialBatchNormalization", fields[1], version=2))
        layers.append(Module("nn.ReLU", {"inplace": True, "threshold": 0}))
    root = {"model": Module("nn.Sequential", {"modules": lua_list(layers)}), "mean": tensor(_normal(3), "Double")}
    return root, arrays


def damaged(content, rng):
    """Bytes with a few of them changed, inserted, taken out, or overwritten by what may be tags, indices, sizes."""
    content = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(content))
        kind = rng.randrange(5)
        if kind == 0:
            content[at] = rng.randrange(256)
        elif kind == 1:
            content[at:at] = rng.randbytes(rng.randint(1, 12))
        elif kind == 2:
            del content[at : at + rng.randint(1, 12)]
        elif kind == 3:
            content[at : at + 4] = struct.pack("<i", rng.choice([0, 1, 2, 3, 4, 5, 6, 7, 8, -1, 2**31 - 1, 255]))
        else:
            content[at : at + 8] = struct.pack("<q", rng.choice([0, -1, 1, 2**62, -(2**63), 2**32, 3]))
    return bytes(content)
