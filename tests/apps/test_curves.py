"""curves: what is read from a run's files, also of an interrupted one, and pictures of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from glcic_tf.apps import curves
from glcic_tf.common.errors import UserError
from glcic_tf.imaging import images

CONFIG = {"batch_size": 4, "stages": {"first": {"batch_size": 8}, "second": {"batch_size": None}}}


def record(step, stage="first", **figures):
    return {"step": step, "phase": "completion", "stage": stage, **figures}


def make_run(folder, *records, tail=""):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "stats.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records) + tail)
    return folder


def test_minutes_and_records_of_one_step(tmp_path):
    """Steps 1-10 of 8 images at 4 a second: 20 s; steps 11-30 of 4 at 2 a second: 40 s."""
    run = make_run(
        tmp_path / "run",
        record(10, completion_loss=0.5, images_per_second=4.0),
        record(10, val_l1=12.0),
        record(30, "second", completion_loss=0.25, images_per_second=2.0, known_loss=None),
        tail='{"step": 40, "comple',
    )
    first, second = curves.read(run)
    assert (first["completion_loss"], first["val_l1"], second["completion_loss"]) == (0.5, 12.0, 0.25)
    assert first["minutes"] == pytest.approx(20 / 60) and second["minutes"] == pytest.approx(60 / 60)


def test_what_a_resumed_run_did_again_counts_once(tmp_path):
    records = [record(step, completion_loss=step / 100, images_per_second=8.0) for step in (10, 20, 30)]
    again = [record(step, completion_loss=step / 10, images_per_second=8.0) for step in (15, 25)]
    found = curves.read(make_run(tmp_path / "run", *records, *again))
    assert [(r["step"], r["completion_loss"]) for r in found] == [(10, 0.1), (15, 1.5), (25, 2.5)]
    assert found[-1]["minutes"] == pytest.approx(25 / 60)


def test_runs_are_joined_end_to_end():
    joined = curves.join([[{"step": 5, "minutes": 1.0}, {"step": 9, "minutes": 2.0}], [{"step": 4, "minutes": 0.5}]])
    assert [(r["step"], r["minutes"]) for r in joined] == [(5, 1.0), (9, 2.0), (13, 2.5)]


def test_a_line_is_interrupted_where_a_stage_has_no_such_figure():
    records = [record(1, "a", x=1.0), record(2, "a"), record(3, "b"), record(4, "b"), record(5, "c", x=2.0)]
    found = [(r["step"], r["x"]) for r in curves._with_gaps(records, "x")]
    assert found[0] == (1, 1.0) and found[1][0] == 3 and found[1][1] != found[1][1] and found[2] == (5, 2.0)
    assert curves._with_gaps(records, "y") == []


@pytest.mark.parametrize("axis", ["step", "minutes"])
def test_picture_is_the_same_every_time(tmp_path, axis):
    run = make_run(
        tmp_path / "run",
        *[record(i, completion_loss=1 / i, val_psnr_hole=10.0 + i, d_real=0.5, images_per_second=1.0) for i in (1, 2)],
    )
    for name in ("a.png", "b.png"):
        curves.plot(curves.read(run), tmp_path / name, axis)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert min(images.read_image(tmp_path / "a.png").shape[:2]) > 300


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda run: (run / "stats.jsonl").unlink(), "stats.jsonl: No such file"),
        (lambda run: (run / "config.json").write_text("{"), "is not as `glcic train` writes it"),
        (lambda run: (run / "config.json").write_text("[]"), "is not as `glcic train` writes it"),
        (lambda run: (run / "stats.jsonl").write_bytes(b"\xff\xfe"), "is not as `glcic train` writes it"),
        (
            lambda run: (run / "stats.jsonl").write_text('{"step": 1, "stage": "third", "images_per_second": 1}'),
            "is not",
        ),
        (lambda run: (run / "stats.jsonl").write_text(""), "found no figures"),
    ],
)
def test_what_is_no_run(tmp_path, spoil, message):
    run = make_run(tmp_path / "run", record(1, completion_loss=1.0, images_per_second=1.0))
    spoil(run)
    with pytest.raises(UserError, match=message):
        curves.plot(curves.read(run), tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()


def test_from_the_command_line(tmp_path):
    run = make_run(tmp_path / "run", record(1, completion_loss=1.0, images_per_second=1.0))
    command = [sys.executable, "-m", "glcic_tf", "curves", f"--runs={run},{run}"]
    root = Path(curves.__file__).parents[2]
    done = subprocess.run([*command, f"--output={tmp_path / 'a.svg'}"], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "<svg" in (tmp_path / "a.svg").read_text()
    done = subprocess.run([*command, f"--output={tmp_path / 'a.txt'}"], cwd=root, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "a.txt: expected a file that ends in .png, .svg, .pdf" in done.stderr
    assert not list(tmp_path.glob("*.txt")) and not list(tmp_path.glob(".*"))
