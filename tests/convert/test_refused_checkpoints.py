"""PyTorch files that run code, are damaged or ask for too much are refused; nothing in them is run."""

import collections
import copyreg
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from checkpoint_helpers import FORMS, both_forms, random, refused
from torch_writer import (
    Call,
    Global,
    Storage,
    Tensor,
    state_dict,
    tensor,
    write_legacy,
    write_raw,
    write_zip,
)

from glcic_tf.common.errors import UserError
from glcic_tf.convert import torch_checkpoint

REBUILD = Global("torch._utils", "_rebuild_tensor_v2")


def text(value):
    """Instruction for a text."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


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
