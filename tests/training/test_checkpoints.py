"""Checkpoints: the newest that can be read, damaged ones, a full disk, and the best."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from loop_helpers import assert_same, make_config, stored, variables

from glcic_tf.common.errors import UserError
from glcic_tf.networks import model_file
from glcic_tf.training import loop, monitor
from glcic_tf.training.checkpoints import Checkpoints


def test_newest_checkpoint_that_can_be_read_is_resumed(photos, tmp_path, caplog):
    config = make_config(steps=15)
    config.data.mean_pixel = (0.5, 0.5, 0.5)
    assert loop.train(config, photos, tmp_path, phase="completion")
    folder = tmp_path / "checkpoints"
    assert sorted(path.name for path in folder.iterdir() if path.suffix == ".index") == [
        f"ckpt-{step}.index" for step in (10, 15, 5)
    ]
    index = folder / "ckpt-15.index"
    index.write_bytes(index.read_bytes()[:40])
    path, meta = Checkpoints(folder).latest()
    assert path.endswith("ckpt-10") and meta["step"] == 10 and "ckpt-15: cannot be restored" in caplog.text
    (folder / "ckpt-99.index").write_text("broken")
    config.checkpoints_kept = 1
    assert loop.train(config, photos, tmp_path, phase="completion")
    assert [path.name for path in folder.glob("*.index")] == ["ckpt-15.index"]  # not the one with the highest number
    for path in folder.glob("ckpt-*.index"):
        path.write_text("broken")
    with pytest.raises(UserError, match="ckpt-15: cannot be restored"):
        loop.train(config, photos, tmp_path, phase="completion")


@pytest.mark.parametrize(
    "config", [{}, {"stages": True}, {"stages": ["joint"]}, {"stages": {"a": 3}}, {"stages": {"a": {"phase": "joint"}}}]
)
def test_notes_that_are_not_of_a_run_are_passed_over(config, tmp_path, caplog):
    notes = {"step": 1, "stage": 0, "fingerprint": "", "photos": 8, "mean_pixel": [0.5] * 3}
    sound = notes | {"config": {"stages": {"a": {"phase": "joint", "steps": 5}}}}
    for number, meta in ((1, sound), (2, notes | {"config": config})):
        tf.train.Checkpoint(meta=tf.Variable(json.dumps(meta))).write(str(tmp_path / f"ckpt-{number}"))
    path, found = Checkpoints(tmp_path).latest()
    assert path.endswith("ckpt-1") and found == sound and "ckpt-2: cannot be restored" in caplog.text


def damage(path, how):
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "a byte":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :])
    else:
        path.write_bytes(content[: {"empty": 0, "half": len(content) // 2, "less 1": len(content) - 1}[how]])


@pytest.fixture(scope="module")
def two_checkpoints(photos, tmp_path_factory):
    config = make_config(steps=10)
    config.data.mean_pixel = (0.5, 0.5, 0.5)
    workdir = tmp_path_factory.mktemp("two")
    assert loop.train(config, photos, workdir, phase="completion")
    return workdir


@pytest.mark.parametrize("how", ["empty", "half", "less 1", "a byte", "missing"])
def test_a_checkpoint_whose_data_are_not_whole_is_passed_over(two_checkpoints, tmp_path, caplog, how):
    folder = tmp_path / "checkpoints"
    shutil.copytree(two_checkpoints / "checkpoints", folder)
    damage(folder / "ckpt-10.data-00000-of-00001", how)
    path, meta = Checkpoints(folder).latest()
    assert path.endswith("ckpt-5") and meta["step"] == 5
    (record,) = caplog.records
    assert "left out: " in record.getMessage() and "ckpt-10: cannot be restored" in record.getMessage()
    assert "\n" not in record.getMessage()


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(two_checkpoints, photos, tmp_path):
    shutil.copytree(two_checkpoints, tmp_path, dirs_exist_ok=True)
    damage(tmp_path / "checkpoints" / "ckpt-10.data-00000-of-00001", "half")
    config = make_config(steps=10)
    config.data.mean_pixel = (0.5, 0.5, 0.5)
    assert loop.train(config, photos, tmp_path, phase="completion")
    assert_same(variables(tmp_path), variables(two_checkpoints))


def test_a_full_disk_is_one_line_and_the_older_checkpoints_stay(photos, tmp_path, monkeypatch):
    written = []
    write = tf.train.Checkpoint.write

    def full(self, path, *args, **kwargs):
        if len(written) == 2:
            Path(f"{path}.data-00000-of-00001.tempstate1").write_bytes(b"half")
            Path(f"{path}_temp").mkdir()
            where = "{{function_node __wrapped__SaveV2_dtypes_236_device_/job:localhost/replica:0/task:0/device:CPU:0}}"
            raise tf.errors.ResourceExhaustedError(None, None, f"{where} {path}_temp/part; No space left on device")
        written.append(path)
        return write(self, path, *args, **kwargs)

    monkeypatch.setattr(tf.train.Checkpoint, "write", full)
    with pytest.raises(UserError, match=r"ckpt-15: cannot be written \(.*No space left on device\); check free space"):
        loop.train(make_config(), photos, tmp_path, phase="completion")
    assert {path.name.partition(".")[0] for path in (tmp_path / "checkpoints").iterdir()} == {"ckpt-5", "ckpt-10"}
    assert Checkpoints(tmp_path / "checkpoints").latest()[1]["step"] == 10


@pytest.mark.parametrize("figure", ["val_l1", "val_psnr_hole"])
def test_the_best_checkpoint_is_kept_also_after_a_break_and_replaced_at_a_new_stage(
    figure, photos, tmp_path, monkeypatch
):
    """Validation returns the figures given here; an error in place of a figure interrupts the run."""
    sign = 1 if figure == "val_l1" else -1
    course = {5: 3.0, 10: 2.0, 15: 2.5, 20: KeyError, 25: 9.0, 30: 9.0, 35: 9.5, 40: 8.0}
    run = monitor.Validation.run

    def told(self, shown):
        figures, grid = run(self, shown)
        value = course[next(steps)]
        if value is KeyError:
            raise KeyError
        return figures | {figure: sign * value}, grid

    monkeypatch.setattr(monitor.Validation, "run", told)
    config = make_config()
    config.sample_every_steps, config.keep_best, config.average_decay = 5, figure, 0.5

    def kept():
        path, meta = Checkpoints(tmp_path / "best").latest()
        assert {file.name.partition(".")[0] for file in (tmp_path / "best").iterdir()} == {Path(path).name}
        notes, model = model_file.read_metadata(tmp_path / "best.keras"), model_file.load(tmp_path / "best.keras")
        assert notes["step"] == meta["step"] == meta["best"]["step"] and notes[figure] == meta["best"]["value"]
        held = stored(path)
        for variable in model.variables:
            key = f"average/{variable.path.replace('/', '.S')}/.ATTRIBUTES/VARIABLE_VALUE"
            np.testing.assert_array_equal(variable.numpy(), held[key], err_msg=key)
        return meta["step"]

    steps = iter([5, 10, 15, 20])
    with pytest.raises(KeyError):
        loop.train(config, photos, tmp_path, phase="completion")
    assert kept() == 10
    course[20] = 2.1
    steps = iter([20])
    assert loop.train(config, photos, tmp_path, phase="completion")
    assert kept() == 10
    steps = iter([25, 30, 35, 40])
    assert loop.train(config, photos, tmp_path, phase="discriminator")
    assert kept() == 40
    assert json.loads((tmp_path / "stats.jsonl").read_text().splitlines()[-1])[figure] == sign * 8.0


def test_the_best_checkpoint_needs_photos_to_watch_training_on(photos, tmp_path):
    config = make_config()
    config.keep_best, config.data.validation_photos = "val_l1", 0
    with pytest.raises(UserError, match="config.keep_best=val_l1: there are no photos to watch training on; raise"):
        loop.train(config, photos, tmp_path / "run")
    assert not (tmp_path / "run").exists()
