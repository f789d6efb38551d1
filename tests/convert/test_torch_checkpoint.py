"""torch_checkpoint: what torch.save wrote comes back, and files that somebody else made can do nothing but be refused.

The files come from torch_writer, which shares nothing with the reader. PyTorch itself (2.13) was seen to read them
alike, and the reader to read PyTorch's own.
"""

import collections
import copyreg
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from torch_writer import (
    Call,
    Global,
    Python2Pickler,
    Storage,
    Tensor,
    bfloat16,
    parameter,
    state_dict,
    tensor,
    write_legacy,
    write_raw,
    write_zip,
)

from glcic_tf.common.errors import UserError
from glcic_tf.convert import torch_checkpoint

FORMS = {"zip": write_zip, "legacy": write_legacy}
REBUILD = Global("torch._utils", "_rebuild_tensor_v2")
both_forms = pytest.mark.parametrize("form", FORMS)


def text(value):
    """Instruction for a text."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def refused(path, match):
    with pytest.raises(UserError, match=match) as error:
        torch_checkpoint.read(path)
    message = str(error.value)
    assert message.startswith(str(path)) and message.isprintable() and len(message) < 500 + len(str(path))


def same(actual, expected):
    assert actual.dtype == expected.dtype and actual.shape == expected.shape
    np.testing.assert_array_equal(actual, expected)


def random(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@both_forms
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_checkpoint(tmp_path, form, protocol):
    weight, bias = random(8, 4, 5, 5), random(8)
    weights = [("conv1.weight", tensor(weight)), ("conv1.bias", parameter(tensor(bias)))]
    weights += [("bn1.num_batches_tracked", tensor(np.int64(2**40 + 7))), ("bn1.empty", tensor(np.zeros((0, 3), "f4")))]
    momentum = {0: {"step": 3, "exp_avg": tensor(bias)}, 1: {}}
    meta = {"iter": 10**12, "lr": 0.125, "text": "ä\n", "classes": ("a", None, True, -5), "raw": b"\x00\xff" * 4}
    checkpoint = {"state_dict": state_dict(weights), "optimizer": {"state": momentum, "groups": [[]]}, "meta": meta}
    read = torch_checkpoint.read(FORMS[form](tmp_path / "x.pth", checkpoint, protocol=protocol))
    assert list(read) == list(checkpoint) and read["meta"] == meta and read["optimizer"]["groups"] == [[]]
    assert type(read["state_dict"]) is dict and list(read["state_dict"]) == [name for name, _ in weights]
    for array, expected in zip(
        read["state_dict"].values(), (weight, bias, np.int64(2**40 + 7), np.zeros((0, 3), "f4")), strict=True
    ):
        same(array, np.asarray(expected))
    same(read["optimizer"]["state"][0]["exp_avg"], bias)


def test_files_of_python_2(tmp_path):
    """Text is written as bytes and an ordered dict with its pairs, as in the weights that LPIPS gives."""
    weight, long_name = random(8, 4, 5, 5), "x" * 300
    weights = collections.OrderedDict([("conv1.weight", tensor(weight)), (long_name, 5), ("\xe4", "\xe4")])
    read = torch_checkpoint.read(write_legacy(tmp_path / "x.pth", weights, pickler=Python2Pickler))
    assert type(read) is dict and list(read) == ["conv1.weight", long_name, "\xe4"]
    same(read.pop("conv1.weight"), weight)
    assert read == {long_name: 5, "\xe4": "\xe4"}


@both_forms
@pytest.mark.parametrize("kind", ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "b1"])
def test_types(tmp_path, form, kind):
    array = (random(3, 5) * 50).astype(kind)
    same(torch_checkpoint.read(FORMS[form](tmp_path / "x.pth", [tensor(array)]))[0], array)


@both_forms
def test_bfloat16_is_float32_without_the_lower_half(tmp_path, form):
    array = np.array([[1.0, -2.5, 3.140625], [np.inf, 2.0**-130, -0.0]], np.float32)  # all of them have 8 bits
    read = torch_checkpoint.read(FORMS[form](tmp_path / "x.pth", {"a": bfloat16(array), "b": bfloat16(random(9))}))
    same(read["a"], array)
    assert read["b"].dtype == np.float32 and 0 < np.abs(read["b"] / random(9) - 1).max() < 2**-7


@both_forms
def test_bytes_that_are_no_bool_are_true(tmp_path, form):
    storage = Storage(np.array([0, 1, 2, 255], "u1"), "Bool")
    read = torch_checkpoint.read(FORMS[form](tmp_path / "x.pth", [Tensor(storage, 0, (4,), (1,))]))[0]
    assert read.dtype == np.bool_ and read.tobytes() == b"\x00\x01\x01\x01"


@both_forms
def test_views_of_one_storage(tmp_path, form):
    numbers = random(100)
    storage = Storage(numbers)
    views = {"turned": ((4, 5), (1, 7), 3), "stepped": ((3,), (2,), 95), "repeated": ((6, 2), (0, 1), 98)}
    views |= {"whole": ((5, 20), (20, 1), 0), "overlapping": ((4, 4), (1, 1), 50), "scalar": ((), (), 99)}
    value = {name: Tensor(storage, offset, shape, strides) for name, (shape, strides, offset) in views.items()}
    read = torch_checkpoint.read(FORMS[form](tmp_path / "x.pth", value))
    for name, (shape, strides, offset) in views.items():
        places = [offset + sum(i * s for i, s in zip(index, strides, strict=True)) for index in np.ndindex(shape)]
        same(read[name], numbers[places].reshape(shape))
        assert not read[name].flags.writeable
    assert np.shares_memory(read["turned"], read["whole"])


def test_parts_of_storages_of_old_pytorch(tmp_path):
    numbers = random(20)
    storage = Storage(numbers, view=(5, 10))
    path = write_legacy(tmp_path / "x.pth", {"a": Tensor(storage, 2, (2, 3), (1, 2))})
    same(torch_checkpoint.read(path)["a"], numbers[[7, 9, 11, 8, 10, 12]].reshape(2, 3))
    storage = Storage(numbers, view=(5, 16))
    refused(write_legacy(tmp_path / "x.pth", Tensor(storage, 0, (1,), (1,))), "part of storage 94032 lies outside")


def test_big_endian(tmp_path):
    arrays = {"f": random(7), "i": np.arange(5) - 2**40, "b": np.array([True, False]), "h": np.arange(3, dtype="f2")}
    value = {name: tensor(array) for name, array in arrays.items()} | {"bf": bfloat16(np.float32([1.5, -8]))}
    read = torch_checkpoint.read(write_zip(tmp_path / "x.pth", value, big_endian=True))
    for name, array in {**arrays, "bf": np.float32([1.5, -8])}.items():
        same(read[name], array)
    refused(write_legacy(tmp_path / "x.pth", value, little_endian=False), "big-endian machine")


@both_forms
def test_small_values(tmp_path, form):
    value = {
        "size": Call(Global("torch", "Size"), ((2, 3),)),
        "gpu": Call(Global("torch", "device"), ("cuda", 1)),
        "type": Global("torch", "float16"),
        "numbers": [np.float32(1.5), np.int64(-7), np.bool_(True), np.dtype(">f8").type(2.5)],
    }
    read = torch_checkpoint.read(FORMS[form](tmp_path / "x.pth", value))
    assert read == {"size": (2, 3), "gpu": "cuda:1", "type": "torch.float16", "numbers": [1.5, -7, True, 2.5]}


def attacks(code):
    """Pickles that run `code` when an ordinary unpickler reads them."""
    call = text(code) + b"\x85R."
    chain = b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n" + text("builtins") + b"\x85R" + text("exec") + b"tR"
    return {
        "GLOBAL": b"\x80\x02cbuiltins\nexec\n" + call,
        "STACK_GLOBAL": b"\x80\x04\x8c\x08builtins\x8c\x04exec\x93" + call,
        "getattr": b"\x80\x02" + chain + call,
        "INST": b"(" + text(code) + b"ibuiltins\nexec\n.",
        "OBJ": b"(cbuiltins\nexec\n" + text(code) + b"o.",
        "EXT1": b"\x80\x02\x82\x71" + call,
        "hidden": b"\x80\x02}" + text("a") + b"cbuiltins\nexec\n" + text(code) + b"\x85Rs.",
        "dropped": b"\x80\x02cbuiltins\nexec\n" + text(code) + b"\x85R0}.",
        "state": b"\x80\x04}}\x8c\x01xcbuiltins\nexec\n" + text(code) + b"\x85Rs0.",
        "protocol 0": b"cbuiltins\nexec\n(V" + code.encode() + b"\ntR.",
    }


@both_forms
@pytest.mark.parametrize("attack", attacks(""))
def test_no_code_runs(tmp_path, form, attack):
    marker = tmp_path / "marker"
    payload = attacks(f"open({str(marker)!r}, 'w').close()")[attack]
    copyreg.add_extension("builtins", "exec", 0x71)
    try:
        pickle.loads(payload)
        assert marker.exists()  # the attack is one
        marker.unlink()
        refused(write_raw(tmp_path / "x.pth", payload, form), r"builtins\.\w+, which no state|with (INST|OBJ|EXT1)")
    finally:
        copyreg.remove_extension("builtins", "exec", 0x71)
        copyreg.clear_extension_cache()
    assert not marker.exists()


def test_no_code_runs_from_the_other_pickles_of_old_files(tmp_path):
    good = write_legacy(tmp_path / "x.pth", {"a": 1}).read_bytes()
    marker = tmp_path / "marker"
    payload = attacks(f"open({str(marker)!r}, 'w').close()")["GLOBAL"]
    starts = [0, *(place + 1 for place in range(len(good)) if good[place : place + 3] == b".\x80\x02")]
    assert len(starts) == 5
    for start in starts[1:]:
        (tmp_path / "x.pth").write_bytes(good[:start] + payload)
        refused(tmp_path / "x.pth", "asks for builtins.exec")
    assert not marker.exists()


STORAGE = Storage(np.zeros(10, np.float32))


@both_forms
@pytest.mark.parametrize(
    ("value", "match"),
    [
        (Call(Global("os", "system"), ("true",)), r"asks for os\.system, which no state dict needs"),
        (Call(Global("collections", "OrderedDict.fromkeys"), ((),)), r"asks for collections\.OrderedDict\.fromkeys"),
        (Call(Global("torch.storage", "os.system"), ("true",)), r"asks for torch\.storage\.os\.system"),
        (Call(Global("torch.nn.modules.conv", "Conv2d"), ()), r"asks for torch\.nn\.modules\.conv\.Conv2d"),
        (Call(Global("collections", "OrderedDict"), ([["a", 1, 2]],)), "ordered dict of something that is not pairs"),
        (Call(Global("collections", "OrderedDict"), ("ab",)), "ordered dict of something that is not pairs"),
        (Call(Global("collections", "OrderedDict"), ([[(1, 2), 3]],)), "keys that are neither text nor small"),
        (Call(Global("torch", "FloatStorage"), (10**9,)), "calls something that is not a function"),
        (Call(Global("_codecs", "encode"), ("true", "rot13")), "encodes something"),
        (Call(Global("_codecs", "encode"), ("x" * 65, "latin1")), "encodes something"),
        (Call(Global("torch", "device"), ("x" * 33,)), "device without a proper name"),
        (Call(Global("numpy", "dtype"), ("O8", False, True)), "NumPy that is not a number"),
        (Call(Global("numpy.core.multiarray", "scalar"), (np.dtype("f4"), b"12345")), "NumPy that is not a number"),
        (Call(Global("torch", "Size"), ((2,),), {"a": 1}), "sets the state of something that has none"),
        (Call(REBUILD, ()), "broken"),
        (Call(REBUILD, ("storage", 0, (1,), (1,))), "tensor without a storage"),
        (Call(REBUILD, (tensor(random(2, 2)), 0, (1,), (1,))), "tensor without a storage"),
        (Tensor(STORAGE, 0, (11,), (1,)), r"\[11\] that does not fit its storage of 10 elements"),
        (Tensor(STORAGE, 1, (10,), (1,)), "does not fit"),
        (Tensor(STORAGE, 0, (2, 2), (9, 1)), "does not fit"),
        (Tensor(STORAGE, 0, (2**21,), (0,)), "does not fit"),
        (Tensor(STORAGE, 0, (2**29, 2**29, 0), (0, 0, 0)), "does not fit"),
        (Tensor(STORAGE, -1, (1,), (1,)), "not proper"),
        (Tensor(STORAGE, 9, (2,), (-1,)), "not proper"),
        (Tensor(STORAGE, 0, (-1,), (1,)), "not proper"),
        (Tensor(STORAGE, 0, (2**70,), (0,)), "not proper"),
        (Tensor(STORAGE, 0, (True,), (1,)), "not proper"),
        (Tensor(STORAGE, 0, (2,), (1, 1)), "not proper"),
        (Tensor(STORAGE, 0, [2], [1]), "not proper"),
        (Tensor(STORAGE, 0, (1,) * 33, (1,) * 33), "more than 32 axes"),
        (Storage(np.zeros(10, np.float32), elements=2**28), "larger than the whole file"),
        (Storage(np.zeros(10, np.float32), elements=-1), "storage that does not hold numbers"),
        (Storage(np.zeros(10, np.float32), elements=11), "by its description|the middle of a storage"),
        (Storage(np.zeros(10, np.float32), "ComplexFloat"), "asks for torch.ComplexFloatStorage"),
        ({(1, 2): 3}, "keys that are neither text nor small"),
        ({2**31: 3}, "keys that are neither text nor small"),
        ({1.5: 3}, "keys that are neither text nor small"),
    ],
)
def test_refused_values(tmp_path, form, value, match):
    refused(FORMS[form](tmp_path / "x.pth", {"a": value}), match)


REFERENCE = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
DOUBLED = b"\x80\x02)q\x000" + b"h\x00h\x00\x86q\x000" * 200  # a tuple that holds the one before twice, and so on
LONG = text("x" * 1000) + b"q\x01"
RAW = {
    "nothing": (b"", "goes on with nothing"),
    "no stop": (b"\x80\x02}", "goes on with nothing"),
    "unknown": (b"\x80\x02\xff.", "goes on with byte 255"),
    "new object": (b"\x80\x02ccollections\nOrderedDict\n)\x81.", "goes on with NEWOBJ"),
    "set": (b"\x80\x04\x8f.", "goes on with EMPTY_SET"),
    "text of protocol 0": (b"S'\\q'\n.", "goes on with STRING"),
    "pop of nothing": (b"\x80\x020.", "broken"),
    "two values": (b"\x80\x02NN.", "end with one value"),
    "open mark": (b"\x80\x02(.", "end with one value"),
    "value above a mark": (b"\x80\x02(N.", "end with one value"),
    "no mark": (b"\x80\x02]e.", "broken"),
    "key without value": (b"\x80\x02}(" + text("a") + b"u.", "broken"),
    "empty memo": (b"\x80\x02h\x05.", "a value that it does not hold"),
    "appends to dict": (b"\x80\x02}(NNe.", "not a list"),
    "item of list": (b"\x80\x02]" + text("a") + b"Ns.", "not a dict"),
    "no text": (b"\x80\x02X\x01\x00\x00\x00\xff.", "broken"),
    "reference to text": (b"\x80\x02" + text("x") + b"Q.", "not a storage"),
    "short reference": (b"\x80\x02" + text("storage") + b"\x85Q.", "not a storage"),
    "module": (b"\x80\x02(" + text("module") + b"NNNtQ.", "not a storage"),
    "no type": (b"\x80\x02(" + text("storage") + b"NNNNtQ.", "does not hold numbers"),
    "number of text": (b"\x80\x02" + REFERENCE + text("1") + b"tQ.", "does not hold numbers"),
    "odd view": (b"\x80\x02" + REFERENCE + b"K\x00K\x07tQ.", "broken"),
    "two sizes": (b"\x80\x02" + REFERENCE + b"K\x00tQ" + REFERENCE + b"K\x01tQ\x86.", "in two ways"),
    "no such storage": (b"\x80\x02" + REFERENCE + b"K\x00tQ.", "lacks data/0|list of storages"),
    "huge text": (b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"a.", "broken"),
    "huge bytes": (b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"a.", "broken"),
    "huge bytearray": (b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"a.", "with BYTEARRAY8"),
    "huge number": (b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"a.", "with LONG4"),
    "doubled tuple as key": (DOUBLED + b"}h\x00Ns.", "neither text nor small"),
    "doubled tuple as name": (DOUBLED + text("x") + b"h\x00\x93.", "without a proper name"),
    "many arguments": (b"\x80\x02ctorch\nSize\n(" + b"N" * 10 + b"tR.", "not a function of PyTorch"),
    "array as name": (b"\x80\x02(" + REFERENCE + b"K\x00tQNNNNtQ.", "not a storage"),
    "many instructions": (b"\x80\x02" + b"N" * 2**18 + b".", "more than 262144 instructions"),
    "many marks": (b"\x80\x02" + b"(" * 100_000, "goes on with nothing|end with one value"),
    "many devices": (b"\x80\x02" + LONG + b"(" + b"ctorch\ndevice\nh\x01\x85R" * 10_000 + b"l.", "proper name"),
    "many bytes": (b"\x80\x02" + LONG + b"(" + b"c_codecs\nencode\nh\x01h\x01\x86R" * 10_000 + b"l.", "encodes"),
    "nothing small": (b"\x80\x02" + b"N" * (2**22 + 1), "more than"),
}


@both_forms
@pytest.mark.parametrize("case", RAW)
def test_refused_pickles(tmp_path, form, case):
    pickled, match = RAW[case]
    path = write_raw(tmp_path / "x.pth", pickled, form)
    if form == "legacy" and case in ("nothing", "no stop"):  # then the list of keys follows at once
        path.write_bytes(path.read_bytes()[: -len(pickle.dumps([], 2))])
    tracemalloc.start()
    try:
        refused(path, match)
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()


@both_forms
def test_harmless_bombs_are_read(tmp_path, form):
    bombs = {
        "doubled": DOUBLED + b"h\x00.",
        "deep": b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b".",
        "in itself": b"\x80\x02]q\x00h\x00a.",
        "far memo": b"\x80\x02}r\xff\xff\xff\xff.",
        "wrong frame": b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"}.",
        "attributes": b"\x80\x02}}" + text("__class__") + text("x") + b"sb.",
    }
    tracemalloc.start()
    try:
        for pickled in bombs.values():
            torch_checkpoint.read(write_raw(tmp_path / "x.pth", pickled, form))
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda members: members.pop("data/0"), "the zip lacks data/0"),
        (lambda members: members.pop("data.pkl"), "zip holds archive/byteorder, .* not one data.pkl"),
        (lambda members: members.update({"x/data.pkl": b""}), "not one data.pkl"),
        (lambda members: members.update({"constants.pkl": b""}), "TorchScript"),
        (lambda members: members.update({"byteorder": b"middle"}), "byte order is b'middle'"),
        (lambda members: members.update({"data/0": bytes(39)}), "data/0 has 39 bytes, by its description 40"),
        (lambda members: members.update({"data.pkl": bytes(2**22 + 1)}), "more than 4 MB"),
    ],
)
def test_refused_zips(tmp_path, change, match):
    refused(write_zip(tmp_path / "x.pth", tensor(random(10)), change=change), match)


def test_zips_that_are_packed_encrypted_or_hold_a_name_twice(tmp_path):
    path, value = tmp_path / "x.pth", tensor(np.zeros(2**20, "f4"))
    refused(write_zip(path, value, compression=zipfile.ZIP_DEFLATED), "compressed, which torch.save never does")
    good = write_zip(path, value).read_bytes()
    place = good.rindex(b"PK\x01\x02", 0, good.rindex(b"archive/data/0"))
    path.write_bytes(good[: place + 8] + b"\x01" + good[place + 9 :])  # the flag in the table of contents
    refused(path, "encrypted")
    path.write_bytes(good.replace(b"archive/byteorder", b"archive//data.pkl"))
    refused(path, "not one data.pkl")
    path.write_bytes(write_zip(path, value, change=lambda members: members.update({"data/1": b""})).read_bytes())
    path.write_bytes(path.read_bytes().replace(b"data/1", b"data/0"))
    refused(path, "not one data.pkl and one member")


def test_zip_with_an_endless_table_of_contents(tmp_path):
    entries = 150_000
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\x01\x02", *[0] * 18)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0, 0, len(entry) * entries, 4, 0)
    (tmp_path / "x.pth").write_bytes(b"PK\x03\x04" + entry * entries + end)
    tracemalloc.start()
    try:
        refused(tmp_path / "x.pth", "broken")
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()


def test_refused_old_files(tmp_path):
    path, value = tmp_path / "x.pth", tensor(random(10))
    refused(write_legacy(path, value, version=1002), "version is not 1001")
    good = write_legacy(path, value).read_bytes()
    path.write_bytes(good.replace(struct.pack("<q", 10), struct.pack("<q", 9)))
    refused(path, "storage 94032 has 9 elements, by its description 10")
    for keys in (["1"], [], ["94032", "94032"], [94032], "94032", {}):
        refused(write_legacy(path, value, keys=keys), "list of storages is not that of its tensors")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "begins with b''"),
        (b"\x89HDF\r\n\x1a\n", "begins with b'.x89HDF"),
        (b"<!DOCTYPE html>\n", "begins with b'<!DOCTYP'"),
        (b"storages".ljust(257, b"\0") + b"ustar\x0000", "tar file of PyTorch before 0.2"),
        (b"PK\x03\x04", "broken"),
    ],
)
def test_other_files(tmp_path, content, match):
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    refused(path, match)


def test_missing_folder_and_too_large(tmp_path):
    refused(tmp_path / "none.pth", "there is no such file")
    refused(tmp_path, "it is a folder")
    with open(tmp_path / "x.pth", "wb") as file:
        file.truncate(2**30 + 1)
    refused(tmp_path / "x.pth", "1074 MB, more than 1074 MB")


@both_forms
def test_cut_and_damaged_files(tmp_path, form):
    """Every cut is noticed; a damaged byte is too, or changes numbers and names only. The zip has checksums."""
    path, rng = tmp_path / "x.pth", np.random.default_rng(0)
    weights = state_dict({f"conv{i}.weight": tensor(random(2, 3)) for i in range(6)})
    good = FORMS[form](path, {"state_dict": weights, "meta": {"a": 1.5}}).read_bytes()
    for length in range(1, len(good), max(1, len(good) // 200)):
        path.write_bytes(good[:length])
        refused(path, "cannot be read as PyTorch weights")
    outcomes = collections.Counter()
    for _ in range(400):
        damaged = bytearray(good)
        for place in rng.integers(0, len(good), rng.integers(1, 4)):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            torch_checkpoint.read(path)
            outcomes["read"] += 1
        except UserError as error:
            assert "\n" not in str(error)
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 30
