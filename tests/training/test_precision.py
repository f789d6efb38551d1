"""The precision that a run computes in: chosen by the devices, told, and free to change when it is resumed."""

import json
import types

import cv2
import numpy as np
import pytest
import tensorflow as tf

from glcic_tf.common import processor
from glcic_tf.configs import compact, context_encoder, facade, tiny
from glcic_tf.training import loop, precision
from glcic_tf.training.cluster import Cluster


@pytest.fixture
def bfloat16(monkeypatch):
    """A function that says whether the processor gains by it."""
    return lambda has: monkeypatch.setattr(processor, "gains_by_bfloat16", lambda: has)


@pytest.fixture
def photos(tmp_path):
    folder, rng = tmp_path / "photos", np.random.default_rng(0)
    folder.mkdir()
    for i in range(8):
        small = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
        assert cv2.imwrite(str(folder / f"{i}.png"), cv2.resize(small, (72, 48), interpolation=cv2.INTER_CUBIC))
    return folder


def choose(policy, others=()):
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    cluster = Cluster(strategy)
    if others:
        cluster = types.SimpleNamespace(
            exchange=lambda values: np.array([values, *([other] for other in others)], float)
        )
    return precision.choose(policy, strategy, cluster)


@pytest.mark.parametrize(
    ("policy", "has", "expected", "told"),
    [
        ("auto", True, "mixed_bfloat16", "precision: mixed_bfloat16 (the processor gains by bfloat16)"),
        ("auto", False, "float32", "precision: float32 (the processor does not gain by bfloat16)"),
        ("mixed_bfloat16", True, "mixed_bfloat16", ""),
        (
            "mixed_bfloat16",
            False,
            "mixed_bfloat16",
            "config.precision=mixed_bfloat16: the processor does not gain by bfloat16, which may take several times as "
            "long as float32: set --config.precision=float32, or auto",
        ),
        ("float32", True, "float32", ""),
        ("float32", False, "float32", ""),
        ("mixed_float16", False, "mixed_float16", ""),
    ],
)
def test_what_is_chosen_and_told(bfloat16, caplog, policy, has, expected, told):
    caplog.set_level("INFO")
    bfloat16(has)
    assert choose(policy) == expected
    assert [record.message for record in caplog.records] == [told] * bool(told)


@pytest.mark.parametrize("here", [True, False])
def test_all_workers_choose_the_same(bfloat16, here):
    bfloat16(here)
    assert choose("auto", others=[not here]) == "float32"
    assert choose("auto", others=[here]) == ("mixed_bfloat16" if here else "float32")


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (9, 0)])
def test_gpus_have_it_since_ampere(monkeypatch, capability):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a GPU"])
    monkeypatch.setattr(
        tf.config.experimental, "get_device_details", lambda gpu: {"compute_capability": capability}, raising=False
    )
    strategy = types.SimpleNamespace(extended=types.SimpleNamespace(worker_devices=["/device:GPU:0"]))
    cluster = types.SimpleNamespace(exchange=lambda values: np.array([values]))
    assert precision.choose("auto", strategy, cluster) == ("float32" if capability < (8, 0) else "mixed_bfloat16")


@pytest.mark.parametrize("config", [compact, context_encoder, facade])
def test_the_recipes_leave_it_to_the_device(config):
    assert config.get_config().precision == "auto"


def test_a_run_goes_on_where_auto_becomes_another(photos, tmp_path, bfloat16, caplog):
    caplog.set_level("INFO")
    config, run = tiny.get_config(), tmp_path / "run"
    config.precision = "auto"
    for stage in config.stages.values():
        stage.steps = 1
    bfloat16(True)
    assert loop.train(config, photos, run, phase="completion")
    bfloat16(False)
    assert loop.train(config, photos, run)
    said = [record.message for record in caplog.records if record.message.startswith("precision")]
    assert said == [
        "precision: mixed_bfloat16 (the processor gains by bfloat16)",
        "precision: float32 (the processor does not gain by bfloat16)",
    ]
    assert json.loads((run / "config.json").read_text())["precision"] == "auto"
    assert config.precision == "auto"  # the caller's is left alone
