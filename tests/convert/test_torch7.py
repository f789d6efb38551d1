"""torch7: files that torch7_writer.py made, sound ones and hostile ones."""

import os
import random
import struct
import tracemalloc

import numpy as np
import pytest
from torch7_writer import KINDS, Function, Module, Pairs, Storage, Tensor, damaged, dumps, lua_list, network, tensor

from glcic_tf.common.errors import UserError
from glcic_tf.convert import torch7


@pytest.fixture
def loads(tmp_path):
    def load(content):
        path = tmp_path / "model.t7"
        path.write_bytes(content)
        return torch7.read(path)

    return load


@pytest.fixture
def refused(tmp_path, loads):
    """A function: the one line that says why bytes are no file; finding out takes little memory."""

    def why(content):
        tracemalloc.start()
        try:
            with pytest.raises(UserError) as caught:
                loads(content)
            assert tracemalloc.get_traced_memory()[1] <= allowed(content)
        finally:
            tracemalloc.stop()
        message = str(caught.value)
        assert message.startswith(f"{tmp_path / 'model.t7'}: is not a binary file of Torch7: ")
        assert message.endswith(".")
        assert message.isprintable() and message.isascii() and len(message) < 400 + len(str(tmp_path))
        return message

    return why


def allowed(content):
    """Bytes of memory that reading may take at most; empty tables are dearest."""
    return 16 * len(content) + 200_000


def floats(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    "value",
    [None, True, False, 0.0, -2.5, 3.0, 1e300, float("inf"), "", "two\nlines \0 and more", "Füße 👟", "x" * 100_000],
)
def test_scalars(loads, value):
    found = loads(dumps(value))
    assert found == value and type(found) is type(value)
    assert loads(dumps(value) + b"and trailing bytes") == value
    assert loads(dumps(b"Fu\xdfe \xff")) == "Fuße ÿ"  # no UTF-8


def test_tables_and_their_keys(loads):
    value = {"a": 1.5, 1: "one", 2.0: {"deep": lua_list([None, {}])}, -0.5: False, False: 3.0, -7: None}
    found = loads(dumps(value))
    assert found == value
    assert [type(key) for key in found] == [str, int, int, float, bool, int]


def test_objects_with_and_without_version(loads):
    for version, expected in ((None, 0), (1, 1), (12, 12)):
        found = loads(dumps(Module("nn.Linear", {"bias": False}, version)))
        assert (found.class_name, found.version, found.fields) == ("nn.Linear", expected, {"bias": False})
    assert loads(dumps(tensor([1.0, 2.0]).storage)).tolist() == [1, 2]


def test_shared_values_are_one_object(loads):
    table, module, array = {"x": 1.0}, Module("nn.Identity", {}), tensor(floats(2, 3))
    found = loads(dumps(lua_list([table, module, array, [table, module, array][0], module, array, {"x": 1.0}])))
    assert found[1] is found[4] and found[2] is found[5] and found[3] is found[6]
    assert found[1] == found[7] and found[1] is not found[7]


def test_cycles(loads):
    table = {}
    module = Module("nn.Sequential", {"parent": table})
    module.fields["self"] = module
    table |= {1: table, "module": module}
    found = loads(dumps(table))
    assert found[1] is found and found["module"].fields["self"] is found["module"]
    assert found["module"].fields["parent"] is found
    assert "Sequential" in repr(found)


@pytest.mark.parametrize("kind", KINDS)
def test_element_types(loads, kind):
    limits = (np.iinfo if np.issubdtype(KINDS[kind], np.integer) else np.finfo)(KINDS[kind])
    values = np.array([0, limits.min, limits.max, 7, 5, 3], KINDS[kind])
    found = loads(dumps({"tensor": tensor(values.reshape(2, 3), kind), "storage": Storage(kind, values)}))
    assert found["tensor"].dtype == found["storage"].dtype == values.dtype
    assert np.array_equal(found["tensor"], values.reshape(2, 3)) and np.array_equal(found["storage"], values)


def test_views_into_one_storage(loads):
    values = floats(60)
    storage, grid = Storage("Float", values), values[6:].reshape(6, 9)
    views = [
        (Tensor("Float", (6, 9), (9, 1), 7, storage), grid),
        (Tensor("Float", (9, 6), (1, 9), 7, storage), grid.T),
        (Tensor("Float", (2, 3), (18, 2), 7 + 9 + 4, storage), grid[1:5:2, 4:9:2]),
        (Tensor("Float", (2, 3, 3, 3), (27, 1, 9, 3), 7, storage), grid.reshape(2, 3, 3, 3).transpose(0, 3, 1, 2)),
        (Tensor("Float", (1, 60, 1), (2**62, 1, 0), 1, storage), values[None, :, None]),
        (Tensor("Float", (1,), (1,), 60, storage), values[59:]),
        (Tensor("Float", (4, 3), (0, 1), 2, storage), np.broadcast_to(values[1:4], (4, 3))),
        (Tensor("Float", (58, 3), (1, 1), 1, storage), np.lib.stride_tricks.sliding_window_view(values, 3)),
    ]
    content = dumps({"all": storage, "views": lua_list([view for view, _ in views])})
    assert content.count(values.tobytes()) == 1
    found = loads(content)
    for number, (_, expected) in enumerate(views, 1):
        array = found["views"][number]
        assert array.shape == expected.shape and np.array_equal(array, expected)
        assert np.shares_memory(array, found["all"]) and not array.flags.writeable
        assert np.array_equal(np.ascontiguousarray(array * 2), expected * 2)


def test_empty_tensors(loads):
    empty = [Tensor("Float", (), (), 1, None), Tensor("Float", (), (), 1, Storage("Float", []))]
    empty += [Tensor("Float", (), (), 1, Storage("Float", [1, 2])), Tensor("Float", (0,), (1,), 1, None)]
    for found in loads(dumps(lua_list(empty))).values():
        assert found.shape == (0,) and found.dtype == np.float32
    assert loads(dumps(Tensor("Long", (3, 0, 2), (2, 2, 1), 1, None))).shape == (3, 0, 2)


def test_network_with_flattened_weights(loads):
    root, arrays = network()
    found = loads(dumps(root))
    assert np.array_equal(found["mean"], floats(3).astype(np.float64))
    layers = found["model"].fields["modules"]
    names = ["SpatialConvolution", "SpatialBatchNormalization", "ReLU"] * 2
    assert [layers[i].class_name for i in range(1, 7)] == [f"nn.{name}" for name in names]
    for i, layer in enumerate([layers[1], layers[2], layers[4], layers[5]]):
        assert np.array_equal(layer.fields["weight"], arrays[2 * i])
        assert np.array_equal(layer.fields["bias"], arrays[2 * i + 1])
        assert not layer.fields["gradWeight"].any()
    assert layers[2].version == 2 and layers[2].fields["eps"] == 1e-5 and layers[1].fields["output"].size == 0


@pytest.mark.parametrize("tag", [6, 7, 8])
def test_functions_are_skipped(loads, tag):
    inside = {"x": 2.0}
    function = Function(b"\x1bLJ\x01 os.execute('touch here')", lua_list([{"name": "up", "value": inside}]), tag)
    found = loads(dumps({"f": function, "inside": inside, "again": function}))
    assert found["f"].class_name == "function" and found["f"].fields == {} and found["inside"] == inside
    assert tag == 6 or found["again"] is found["f"]
    if tag != 6:  # as a recursive function has itself among its variables
        function.upvalues[1]["value"] = function
        assert loads(dumps(function)).class_name == "function"


def test_places_that_are_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with open(tmp_path / "large", "wb") as file:
        file.truncate(torch7.MAX_BYTES + 1)
    cases = [("no.t7", "no such file"), (".", "a folder"), ("pipe", "no such file"), ("x" * 300, "")]
    for name, problem in [*cases, ("large", "larger than 1074 MB")]:
        with pytest.raises(UserError, match=f"is not a binary file of Torch7: .*{problem}.*; give a "):
            torch7.read(tmp_path / name)


def test_other_formats(refused):
    for content in (b"4\n1\n3\nV 1\n13\nnn.Sequential\n3\n2\n1\n", b"1\n-0.5\n", b"2\n5\nhello\n"):
        assert "ASCII format; save it with torch.save(name, model)" in refused(content)
    assert "empty" in refused(b"")
    assert "zip or a pickle" in refused(b"PK\x03\x04" + bytes(100)) and "pickle" in refused(b"\x80\x02}q\x00.")
    assert "big-endian" in refused(struct.pack(">iii", 3, 1, 0))
    assert "type tag 1196311625 at byte 0" in refused(b"IDNG\r\n\x1a\n")
    assert "type tag -1 at byte 0, expected 0 to 8" in refused(b"\xff" * 40)
    assert "type tag 9 at byte 0" in refused(struct.pack("<ii", 9, 0))


@pytest.mark.parametrize("shape", [(3,), (5, 2), (2, 4, 3, 3)])
def test_32_bit_longs(refused, shape):
    assert "32-bit longs" in refused(dumps({"weight": tensor(floats(*shape))}, long_format="i"))


def test_cut_off_at_every_byte(refused):
    content = dumps(Module("nn.X", {"weight": tensor(floats(2, 3)), "s": "abc", True: 1, "f": Function(b"code", {})}))
    for length in range(len(content)):
        assert "byte" in refused(content[:length]) or length == 0


def total_bytes(value, seen):
    """Bytes of all arrays in a value if they are copied, as is done here."""
    if id(value) in seen:
        return 0
    seen[id(value)] = value
    if isinstance(value, np.ndarray):
        return np.ascontiguousarray(value).nbytes
    inside = value.fields if isinstance(value, torch7.Object) else value
    return sum(total_bytes(part, seen) for part in inside.values()) if isinstance(inside, dict) else 0


def test_damage_anywhere(loads):
    rng, outcomes = random.Random(7), set()
    sound = [dumps(network()[0]), dumps({"f": Function(b"code", {1: {"name": "x"}}), 1: Storage("Long", [5])})]
    for _ in range(600):
        content = damaged(sound[rng.random() < 0.3], rng)
        tracemalloc.start()
        try:
            total = total_bytes(loads(content), {})
            outcomes.add(None)
            assert total <= 8 * len(content) + 2**20
        except UserError as error:
            outcomes.add(UserError)
            assert str(error).isprintable()
        assert tracemalloc.get_traced_memory()[1] <= allowed(content) + 2**20
        tracemalloc.stop()
    assert outcomes == {None, UserError}


@pytest.mark.parametrize("size", [-1, -(2**31), 2**31 - 1, 1000])
def test_claimed_sizes(refused, size):
    for what, content in (("a string", (2, size, 0)), ("the code of a function", (8, 9, size, 0))):
        message = refused(struct.pack(f"<{len(content)}i", *content))
        assert f"{what} at byte" in message and f"should have {size} bytes, but 4 are left" in message
    assert f"claims {size} entries" in refused(dumps(Pairs([(1, 2)], size)))
    assert "class name at byte" in refused(struct.pack("<iii", 4, 1, size) + b"V 1")
    for count in (size, 2**61, 2**63 - 1, -(2**63)):  # 2**61 of 8 bytes are 0 bytes in 64 bits
        assert "torch.DoubleStorage at byte" in refused(dumps(Storage("Double", [1, 2], count)))


OUTSIDE = [((11,), (1,), 1), ((10,), (1,), 2), ((1,), (1,), 0), ((1,), (1,), 11), ((1,), (1,), -(2**63))]
OUTSIDE += [((2,), (2**63 - 1,), 1), ((2**62, 2**62), (2**62, 2**62), 1)]
OUTSIDE += [((2,), (2**62,), 1), ((5,), (2**62,), 1)]  # steps and extents of 4 times that are 0 in 64 bits
NEGATIVE = [((3,), (-1,), 9), ((-3,), (1,), 1), ((0, -3), (1, 1), 1), ((1,), (-1,), 1)]
OVERLAPPING = [((10**12,), (0,), 1), ((2**62,) * 32, (0,) * 32, 1), ((0, 2**62), (1, 1), 1)]


@pytest.mark.parametrize(
    ("problem", "cases"),
    [("outside its storage of 10 elem", OUTSIDE), ("negative size or stride", NEGATIVE), ("overlap to", OVERLAPPING)],
)
def test_tensors_that_reach_too_far(refused, problem, cases):
    storage = Storage("Float", range(10))
    for case in cases:
        assert problem in refused(dumps({1: storage, 2: Tensor("Float", *case, storage)}))
    for axes in (-1, 33, 2**31 - 1):
        content = dumps(Module("torch.FloatTensor", None))[:-4] + struct.pack("<i", axes)
        assert f"has {axes} axes, expected up to 32" in refused(content)


def test_many_tensors_of_one_storage(refused):
    storage = Storage("Float", np.zeros(20_000))
    assert "overlap" in refused(dumps(lua_list([tensor(storage.values, storage=storage) for _ in range(40)])))


@pytest.mark.parametrize("storage", [None, Storage("Double", [1, 2]), {}, 2.5, tensor([1, 2]), Module("nn.X", {})])
def test_storages_that_are_none(refused, storage):
    assert "the torch.FloatTensor at byte 36 has no storage" in refused(dumps(Tensor("Float", (2,), (1,), 1, storage)))


def test_a_tensor_in_itself(refused):
    holder = Tensor("Float", (2,), (1,), 1, {})
    holder.storage["tensor"] = holder
    assert "contains itself" in refused(dumps(holder))


@pytest.mark.parametrize("levels", [201, 1_000_000])
def test_nested_too_deep(refused, loads, levels):
    head, inside = struct.pack("<i", 3), struct.pack("<iid", 1, 1, 1.0)  # a table with the key 1
    tables = [head + struct.pack("<i", index) + inside for index in range(levels)]
    assert "nested more than 200 values deep" in refused(b"".join(tables))
    assert len(loads(b"".join(tables[:200]) + dumps(None))) == 1
    for step in (dumps(Module("nn.Sequential", None))[:-4], dumps(Function(b"code", None))[:-4]):
        steps = [step[:4] + struct.pack("<i", index) + step[8:] for index in range(levels // 50 + 201)]
        assert "nested more than 200 values deep" in refused(b"".join(steps))


def test_many_values(refused, loads, monkeypatch):
    tables = dumps(lua_list([{} for _ in range(30_000)]))  # with keys and itself 60,001 values
    monkeypatch.setattr(torch7, "_MAX_VALUES", 60_001)
    assert len(loads(tables)) == 30_000
    monkeypatch.setattr(torch7, "_MAX_VALUES", 60_000)
    assert "more than 60000 values" in refused(tables)


def test_tables_and_objects_that_are_none(refused):
    for key in (None, {}, tensor([1.0]), float("nan")):
        assert "neither string nor number nor boolean" in refused(dumps(Pairs([(key, 1)])))
    for pairs in ([("a", 1), ("a", 2)], [(1, 1), (True, 2)]):
        assert "twice" in refused(dumps(Pairs(pairs)))
    for name in ("", "nn.\nX", "n" * 101, "nn.\u202e", "V 12345678901"):
        assert "is none" in refused(dumps(Module(name, {})))
    for fields in (None, 1.5, "x", tensor([1.0])):
        assert "the nn.X at byte 8 is not followed by a table" in refused(dumps(Module("nn.X", fields)))
