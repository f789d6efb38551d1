"""torch_checkpoint: what torch.save wrote comes back; test_refused_checkpoints.py has files that are refused.

The files come from torch_writer, which shares nothing with the reader. PyTorch itself (2.13) was seen to read them
alike, and the reader to read PyTorch's own.
"""

import collections

import numpy as np
import pytest
from checkpoint_helpers import FORMS, both_forms, random, refused
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
    write_zip,
)

from glcic_tf.convert import torch_checkpoint


def same(actual, expected):
    assert actual.dtype == expected.dtype and actual.shape == expected.shape
    np.testing.assert_array_equal(actual, expected)


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
