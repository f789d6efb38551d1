"""Folders that may not be searched: messages name them, where a file in them would else be taken for missing."""

import os
import sys
import tempfile
from pathlib import Path

import pytest

from glcic_tf.common import cli, files, storage
from glcic_tf.common.errors import UserError
from glcic_tf.completion import folder as completion_folder
from glcic_tf.data import shards
from glcic_tf.imaging import photo_folders
from glcic_tf.networks import model_file, model_zip


@pytest.fixture
def locked():
    """A folder with others in it, none of which may be searched by who runs the test."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        folder = Path(place, "locked")
        (folder / "inner").mkdir(parents=True)
        (folder / "inner" / "index.json").write_text("{}")
        folder.chmod(0)
        is_root = os.geteuid() == 0  # who may search everything
        if is_root:
            os.seteuid(65534)
        yield folder
        if is_root:
            os.seteuid(0)
        folder.chmod(0o755)


def _complete(path):
    completion_folder.infer(path, "alpha", path.with_name("out.png"))


@pytest.mark.parametrize(
    "use",
    [
        storage.exists,
        storage.is_folder,
        shards.is_shards,
        shards.Shards,
        photo_folders.find_photos,
        _complete,
        model_file.load,
        model_zip.read_metadata,
    ],
    ids=lambda use: use.__qualname__,
)
def test_a_folder_in_one_that_may_not_be_searched(locked, use):
    with pytest.raises(UserError) as raised:
        use(locked / "inner")
    assert str(raised.value) == f"{locked}: cannot be searched (Permission denied); see that its permissions allow it."


def test_a_command_that_may_not_use_a_file_says_so_in_one_line(locked, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["glcic"])
    with pytest.raises(SystemExit) as raised:
        cli.run(lambda: (locked / "inner").stat(), define_flags=lambda: None)
    assert raised.value.code == 1
    assert capsys.readouterr().err.strip() == (
        f"glcic: {locked}: cannot be searched (Permission denied); see that its permissions allow it."
    )


def test_of_what_is_not_there_nothing_else_is_said(tmp_path):
    for path in (tmp_path / "none", tmp_path / "none" / "a", tmp_path / "nul\0", tmp_path / ("a" * 300)):
        assert not storage.exists(path)
        assert not storage.is_folder(path)
    told = files.told_of_permission(PermissionError(13, "Permission denied", str(tmp_path / "a")))
    assert told == f"{tmp_path / 'a'}: cannot be used (Permission denied); see that its permissions allow it."
