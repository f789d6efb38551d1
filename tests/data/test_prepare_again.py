"""Preparing again, in parts, after being killed, and beside another run."""

import importlib
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from prepare_helpers import ROOT, contents, examples_of, prepared

from glcic_tf.common.errors import UserError
from glcic_tf.data import shards
from glcic_tf.data.prepare import merge, parts, prepare_folder
from glcic_tf.data.prepare.entry import Settings


def test_processes_and_a_second_run_change_nothing(mixed_photos, done, tmp_path):
    prepared(mixed_photos, tmp_path / "shards", processes=2)
    assert contents(tmp_path / "shards") == contents(done[0])
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "shards").glob("*.tfrecord")}
    assert prepared(mixed_photos, tmp_path / "shards") == done[1]
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "shards").glob("*.tfrecord")}


# Kills itself (-9) at the n-th call of a function.
KILLED = """
import os, signal, sys
from glcic_tf.data.prepare import merge, parts, prepare_folder
from glcic_tf.data.prepare.entry import Settings
module, name, count = sys.argv[3:6]
module = {"parts": parts, "merge": merge, "os": os}[module]
function, calls = getattr(module, name), []
def killing(*args, **options):
    calls.append(0)
    if len(calls) == int(count):
        os.kill(os.getpid(), signal.SIGKILL)
    return function(*args, **options)
setattr(module, name, killing)
prepare_folder.prepare(sys.argv[1], sys.argv[2], Settings(short_side_px=40), 0.008, processes=1)
"""


@pytest.mark.parametrize(
    ("module", "name", "count", "whole"),
    [
        ("os", "replace", 3, 0),  # settings, then the first shard: it has its name, but is not noted
        ("parts", "_sync_and_close", 3, 1),  # the second shard is written, and has no name yet
        ("merge", "_write", 3, None),  # all but index.json
    ],
)
def test_killed_and_started_again_ends_the_same(mixed_photos, done, tmp_path, module, name, count, whole):
    output = tmp_path / "shards"
    arguments = [sys.executable, "-c", KILLED, mixed_photos, output, module, name, str(count)]
    ended = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert not (output / "index.json").exists()
    with pytest.raises(UserError, match="holds shards and no index.json: glcic prepare has not finished"):
        shards.Shards(output)
    finished = {
        path.with_suffix("").name for path in (output / "parts").glob("*.finished") if not path.name.startswith(".")
    }
    assert whole is None or len(finished) == whole
    before = {path: path.stat().st_mtime_ns for path in output.glob("*.tfrecord") if path.stem in finished}
    prepared(mixed_photos, output)
    assert before == {path: path.stat().st_mtime_ns for path in before}, "a finished shard was made again"
    assert contents(output) == contents(done[0])


def test_damaged_and_missing_pieces_are_made_again(mixed_photos, done, tmp_path):
    output = tmp_path / "shards"
    shutil.copytree(done[0], output)
    names = sorted(path.name for path in output.glob("*.tfrecord"))
    (output / names[-1]).unlink()
    notes = parts.finished_path(output, 1, 2)
    notes.write_bytes(notes.read_bytes()[:-1] + b"?")
    prepared(mixed_photos, output)
    assert contents(output) == contents(done[0])


@pytest.mark.parametrize(
    ("said", "changed"),
    [
        (b'"opencv"', b'"opencW"'),
        (b'"sha256"', b'"sha257"'),
        (b'"copied"', b'"copiee"'),
        (b'"reason"', b'"reasom"'),
        (b'"opencv": "', b'"opencv": 5, "": "'),
    ],
)
def test_notes_that_lack_something_are_made_again(mixed_photos, done, tmp_path, said, changed):
    output = tmp_path / "shards"
    shutil.copytree(done[0], output)
    notes = next(path for path in sorted((output / "parts").glob("*.finished")) if said in path.read_bytes())
    notes.write_bytes(notes.read_bytes().replace(said, changed, 1))
    with pytest.raises(UserError, match="part 1 of 1 is not finished"):
        merge.merge(output)
    prepared(mixed_photos, output)
    assert contents(output) == contents(done[0])


def test_parts_make_the_same_index_in_any_order(mixed_photos, done, tmp_path, capsys):
    output, elsewhere = tmp_path / "shards", tmp_path / "elsewhere"
    assert prepared(mixed_photos, output, part=(3, 3)) is None
    assert prepared(mixed_photos, output, part=(1, 3)) is None
    assert "part 1 of 3 is done; not done yet: 2. Whichever is the last writes the index." in capsys.readouterr().out
    with pytest.raises(UserError, match="part 2 of 3 is not finished; run it with --part=2/3, or copy"):
        merge.merge(output)
    assert prepared(mixed_photos, elsewhere, part=(2, 3)) is None  # on a machine with its own disk
    shutil.copytree(elsewhere, output, dirs_exist_ok=True)
    found = merge.merge(output)
    one, other = shards.Shards(done[0]), shards.Shards(output)
    for name in ("length", "crc32", "height", "width", "mean", "name_end"):
        np.testing.assert_array_equal(getattr(one.table, name), getattr(other.table, name))
    assert one.table.names.tobytes() == other.table.names.tobytes()
    assert [one.jpeg(i) for i in range(16)] == [other.jpeg(i) for i in range(16)]
    assert (output / "skipped.jsonl").read_bytes() == (done[0] / "skipped.jsonl").read_bytes()
    assert {key: found[key] for key in ("mean_pixel", "photos", "skipped", "duplicates")} == {
        key: done[1][key] for key in ("mean_pixel", "photos", "skipped", "duplicates")
    }
    assert len(examples_of(output)) == 18  # the two duplicates of other parts are in the shards, not in the index
    assert merge.verify(output) == found


def test_more_parts_than_photos(mixed_photos, tmp_path):
    (tmp_path / "two").mkdir()
    for name in ("tiny.bmp", "turned.jpg"):
        shutil.copy(mixed_photos / name, tmp_path / "two")
    for part in range(1, 5):
        found = prepared(tmp_path / "two", tmp_path / "shards", part=(part, 4))
        assert (found is None) == (part < 4)
    assert found["photos"] == 2 and [shard["photos"] for shard in found["shards"]] == [1, 1]


CRASHING = """
import os, signal
from glcic_tf.data.prepare.entry import prepare_all
def crash(folder, names, settings):
    if "some/small 2.jpg" in names:
        os.kill(os.getpid(), signal.SIGKILL)
    return prepare_all(folder, names, settings)
"""


def test_a_photo_that_crashes_a_process_is_skipped_alone(mixed_photos, tmp_path, monkeypatch, capsys):
    (tmp_path / "crashing.py").write_text(CRASHING)  # the other processes import it, and not this module
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(prepare_folder, "prepare_all", importlib.import_module("crashing").crash)
    found = prepared(mixed_photos, tmp_path / "shards", processes=2)
    assert (found["photos"], found["skipped"]) == (15, 5)
    assert "small 2.jpg: ended the process that decoded it (exit code -9)" in capsys.readouterr().err


def test_folders_that_cannot_be_used(mixed_photos, done, tmp_path):
    source = tmp_path / "photos"
    source.mkdir()
    with pytest.raises(UserError, match="photos: holds no photo; expected files that end in .jpg"):
        prepared(source, tmp_path / "shards")
    (source / "a.jpg").write_text("no image")
    with pytest.raises(UserError, match="none of the 1 photos can be used, a.jpg for example is not an image"):
        prepared(source, tmp_path / "shards")
    assert not (tmp_path / "shards" / "index.json").exists()
    for output in (source, source / "shards", source / ".." / "photos" / "x"):
        with pytest.raises(UserError, match="--output=.*: lies in --input="):
            prepared(source, output)
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "letter.txt").write_text("")
    with pytest.raises(UserError, match="--output=.*others: holds letter.txt, and no shards; choose another"):
        prepared(source, tmp_path / "others")
    with pytest.raises(UserError, match="--output=.*letter.txt: is a file; expected the name of a folder"):
        prepared(source, tmp_path / "others" / "letter.txt")
    with pytest.raises(UserError, match="missing: expected a folder of photos, found nothing"):
        prepared(tmp_path / "missing", tmp_path / "none")
    assert not (tmp_path / "none").exists()
    with pytest.raises(UserError, match="holds no parts/settings.json; name a folder that prepare writes"):
        merge.merge(source)


def test_another_run_in_the_same_place(mixed_photos, done, tmp_path):
    with pytest.raises(UserError, match="begun with other settings .short_side_px was 40, is 32.; give the same, or"):
        prepared(mixed_photos, done[0], photo_settings=Settings(32))
    (tmp_path / "one").mkdir()
    shutil.copy(mixed_photos / "tiny.bmp", tmp_path / "one")
    with pytest.raises(UserError, match="begun with other photos .22 then, 1 now.; choose another --output, or"):
        prepared(tmp_path / "one", done[0])
    shutil.copytree(done[0], tmp_path / "finished", ignore=shutil.ignore_patterns("parts"))
    with pytest.raises(UserError, match="finished: holds finished shards; choose another, or delete it"):
        prepared(mixed_photos, tmp_path / "finished")
    assert merge.verify(tmp_path / "finished") == done[1]  # parts/ is not needed once there is an index


def test_two_processes_at_one_part(mixed_photos, tmp_path):
    parts.write_settings(tmp_path, {"parts": 1, "found": 1})
    with (
        parts.locked(tmp_path, 1),
        pytest.raises(UserError, match="another process writes part 1 of it; wait for it, or take another --part"),
        parts.locked(tmp_path, 1),
    ):
        pass
    with parts.locked(tmp_path, 1), parts.locked(tmp_path, 2):
        pass


def test_no_room_leaves_no_half_shard(mixed_photos, tmp_path, monkeypatch):
    def full(file):
        file.close()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parts, "_sync_and_close", full)
    with pytest.raises(UserError, match="shard-0001-00001.tfrecord: cannot be written .No space left on device.; see"):
        prepared(mixed_photos, tmp_path / "shards")
    assert {path.name for path in (tmp_path / "shards").rglob("*")} == {"parts", "settings.json", ".lock-0001"}
