"""The SavedModel's folder: notes, places that cannot be written, replacing, and the command."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from savedmodel_helpers import mask_of, photo, signature_of

from glcic_tf.common.errors import UserError
from glcic_tf.export import export_command, savedmodel
from glcic_tf.networks import model_file

SCRIPT = Path(__file__).parents[2] / "export.py"


def test_notes(saved):
    notes = json.loads((saved / "assets.extra" / "glcic.json").read_text())
    assert notes["model"] == {"phase": "joint"} and notes["fold_batch_norm"] is True


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_folders_are_created_and_an_empty_one_is_used(narrow, tmp_path, capfd):
    (tmp_path / "empty").mkdir()
    savedmodel.savedmodel(narrow, tmp_path / "empty")
    savedmodel.savedmodel(narrow, f"{tmp_path}/new/deep/1/")
    assert files(tmp_path / "empty") == files(tmp_path / "new" / "deep" / "1") != []
    assert sorted(os.listdir(tmp_path)) == ["empty", "new"]
    assert os.listdir(tmp_path / "new" / "deep") == ["1"]
    assert capfd.readouterr().out == ""


def test_overwriting(narrow, saved, tmp_path):
    path = shutil.copytree(saved, tmp_path / "out")
    with pytest.raises(UserError, match="out: exists already; add --overwrite"):
        savedmodel.savedmodel(narrow, path)
    before = (path / "assets.extra" / "glcic.json").read_text()
    savedmodel.savedmodel(narrow, path, overwrite=True, metadata={"new": 1})
    assert (path / "assets.extra" / "glcic.json").read_text() != before
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("names", [["letters.txt"], ["saved_model.pb", "letters.txt"], ["variables"]])
def test_what_is_no_savedmodel_is_never_replaced(narrow, tmp_path, names):
    path = tmp_path / "home"
    path.mkdir()
    for name in names:
        (path / name).write_text("mine")
    for overwrite, match in ((False, "exists already"), (True, "holds .* and is not a SavedModel alone")):
        with pytest.raises(UserError, match=match):
            savedmodel.savedmodel(narrow, path, overwrite=overwrite)
    assert files(path) == sorted(names) and os.listdir(tmp_path) == ["home"]


def test_places_that_cannot_be_written(narrow, tmp_path):
    (tmp_path / "file").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="file: is a file; expected the name of a folder"):
            savedmodel.savedmodel(narrow, tmp_path / "file", overwrite=overwrite)
        with pytest.raises(UserError, match="cannot be (created|written)"):
            savedmodel.savedmodel(narrow, tmp_path / "file" / "out", overwrite=overwrite)
    assert files(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(28, "No space left on device"), UserError),
        (tf.errors.ResourceExhaustedError(None, None, "disk full"), UserError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (ValueError("a bug"), ValueError),
    ],
    ids=lambda value: type(value).__name__,
)
def test_stopped_half_way_leaves_what_was_there(narrow, saved, tmp_path, monkeypatch, error, expected):
    path = shutil.copytree(saved, tmp_path / "out")
    before = files(path)
    save = tf.saved_model.save

    def fail(*args, **kwargs):
        save(*args, **kwargs)
        raise error

    monkeypatch.setattr(tf.saved_model, "save", fail)
    with pytest.raises(expected):
        savedmodel.savedmodel(narrow, path, overwrite=True)
    with pytest.raises(expected):
        savedmodel.savedmodel(narrow, tmp_path / "other")
    assert files(path) == before and os.listdir(tmp_path) == ["out"]


def test_old_one_comes_back_if_the_new_one_cannot_take_its_place(narrow, saved, tmp_path, monkeypatch):
    path = shutil.copytree(saved, tmp_path / "out")
    rename = Path.rename

    def fail(self, target):
        if self.suffix == ".part":
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(UserError, match="out: cannot be written .Input/output error."):
        savedmodel.savedmodel(narrow, path, overwrite=True)
    assert (path / "saved_model.pb").is_file() and os.listdir(tmp_path) == ["out"]


def test_from_the_command_line(narrow, complete, tmp_path):
    model_file.save(narrow, tmp_path / "narrow.keras", {"phase": "joint"})
    flags = ["--model=narrow.keras", "--format=savedmodel", "--output", "serving/1/"]
    command = [sys.executable, str(SCRIPT), *flags]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout[:23], done.stderr) == (0, "serving/1/: savedmodel,", "")
    image, mask = photo(1, 60, 80), mask_of(1, 60, 80, boxes=[(0, 10, 20, 40, 50)])
    np.testing.assert_array_equal(signature_of(tmp_path / "serving" / "1")(image, mask), complete(image, mask))
    notes = json.loads((tmp_path / "serving" / "1" / "assets.extra" / "glcic.json").read_text())
    assert notes["model"] == {"phase": "joint"}
    assert os.listdir(tmp_path / "serving") == ["1"]


@pytest.mark.parametrize(
    ("flags", "code", "expected"),
    [
        (["--output=out", "--format=tarball"], 2, "--format=tarball"),
        (["--model=scenes.keras"], 2, "missing: --output"),
        (["--output=out", "--model=missing.keras"], 1, "--model=missing.keras: there is no such file"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(tmp_path, glcic, monkeypatch, flags, code, expected):
    monkeypatch.chdir(tmp_path)
    found, out, err = glcic(*flags, name="export.py", command="export")
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert err.startswith("export.py: ") and expected in err
    assert os.listdir(tmp_path) == []


def test_models_and_outputs_that_cannot_be(saved, tmp_path):
    (tmp_path / "text.keras").write_text("hello")
    options = {"fold_batch_norm": True, "overwrite": False}
    with pytest.raises(UserError, match=r"text.keras: is not a model file"):
        export_command.write(tmp_path / "text.keras", tmp_path / "out", **options)
    assert files(tmp_path) == ["text.keras"]
    with pytest.raises(UserError, match=r"exists already; add --overwrite"):
        export_command.write(None, saved, **options)


def test_default_model_is_the_one_of_the_package(narrow, tmp_path, monkeypatch):
    model_file.save(narrow, tmp_path / "narrow.keras")
    monkeypatch.setattr("glcic_tf.convert.model_names.DEFAULT_MODEL", tmp_path / "narrow.keras")
    export_command.write(None, tmp_path / "out", fold_batch_norm=False, overwrite=False)
    notes = json.loads((tmp_path / "out" / "assets.extra" / "glcic.json").read_text())
    assert notes["fold_batch_norm"] is False
