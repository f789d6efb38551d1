"""The commands: a run does each step once, however often it is stopped, and one line says what is wrong."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from portable_helpers import KERNEL, MIRROR, STEPS, assert_same, fails, newest, step_in_numpy, train

from glcic_tf.apps.portable import run_bundle, state_files
from glcic_tf.data import examples
from glcic_tf.networks import initial_weights
from glcic_tf.training.stages import PHASES, resolve

pytest_plugins = ["portable_helpers"]

ROOT = Path(__file__).parents[2]


def in_numpy(config, photos, steps):
    """The state after so many steps of a whole run, computed with NumPy."""
    read = examples.Photos(sorted(photos.iterdir()))
    state = {
        "discriminator/dense/kernel": initial_weights.draw("dense/kernel", (3, 1), 3),
        "step": np.int64(0),
        "completion/conv/kernel": initial_weights.draw("conv/kernel", KERNEL, 1),
        "completion_optimizer/momentum": np.zeros(KERNEL, np.float32),
    }
    first, losses = dict(state), []
    stages = resolve(config)
    for step in range(steps):
        stage = next(s for s in stages if s.start <= step < s.end)
        if step == stage.start and stage.index == 1:
            state["discriminator/dense/kernel"] = first["discriminator/dense/kernel"]
        if step == stage.start and stage.index == 2:
            state["completion_optimizer/momentum"] = first["completion_optimizer/momentum"]
        batch = examples.batch(read, stage, config.seed, step, MIRROR)
        state, seen = step_in_numpy(state, batch, stage.phase)
        losses.append(seen)
    return {name: value for name, value in state.items() if name != "step"}, losses


@pytest.mark.parametrize("steps", [STEPS, STEPS + 3, 3 * STEPS])
def test_a_run_does_each_step_once_on_its_own_batch(steps, bundle, config, photos, tmp_path):
    assert train(bundle, photos, tmp_path, f"--steps={steps}", "--log_every_steps=1") == 0
    arrays, position = newest(tmp_path)
    expected, losses = in_numpy(config, photos, steps)
    for name in expected:
        np.testing.assert_allclose(arrays[name], expected[name], rtol=1e-5, err_msg=name)
    assert arrays.keys() == expected.keys() and position["step"] == steps
    logged = [json.loads(line) for line in (tmp_path / "stats.jsonl").read_text().splitlines()]
    boundaries = {*range(0, STEPS, 2), *range(STEPS, 2 * STEPS, 2), *range(2 * STEPS, 3 * STEPS, 2), steps, 15}
    boundaries = sorted(step for step in boundaries if step <= steps)
    assert [line["step"] for line in logged] == boundaries[1:]
    for line, (begin, end) in zip(logged, itertools.pairwise(boundaries), strict=True):
        np.testing.assert_allclose(line["completion_loss"], np.mean(losses[begin:end]), rtol=1e-5)
        assert line["images_per_second"] > 0 and 0 <= line["input_share"] <= 1


def test_a_log_line_is_the_mean_over_its_steps_and_its_speed_leaves_out_saving(
    bundle, config, photos, tmp_path, monkeypatch
):
    clock = [0.0]
    monkeypatch.setattr(run_bundle, "time", SimpleNamespace(monotonic=lambda: clock[0], strftime=time.strftime))

    def passes(seconds, function):
        def slow(*args):
            clock[0] += seconds
            return function(*args)

        return slow

    monkeypatch.setattr(run_bundle._Trainer, "_call", passes(10, run_bundle._Trainer._call))
    monkeypatch.setattr(state_files, "save", passes(1000, state_files.save))
    assert train(bundle, photos, tmp_path, f"--steps={STEPS}", "--save_minutes=0") == 0
    (line,) = [json.loads(line) for line in (tmp_path / "stats.jsonl").read_text().splitlines()]
    np.testing.assert_allclose(line["completion_loss"], np.mean(in_numpy(config, photos, STEPS)[1]), rtol=1e-5)
    assert line["images_per_second"] == STEPS * 4 / 30  # three calls; two states were saved meanwhile


@pytest.mark.parametrize("parts", [[3, 2, 4, 6], [5, 5, 5], [1, 7, 7], [10, 5]])
def test_parts_equal_the_whole(parts, bundle, photos, tmp_path):
    assert train(bundle, photos, tmp_path / "whole") == 0
    for steps in parts:
        assert train(bundle, photos, tmp_path / "parts", f"--steps={steps}") == 0
    (ours, ours_at), (theirs, theirs_at) = newest(tmp_path / "parts"), newest(tmp_path / "whole")
    assert_same(ours, theirs)
    assert {**ours_at, "files": 0} == {**theirs_at, "files": 0}


def test_phases_one_after_the_other(bundle, photos, tmp_path, capsys):
    for i, phase in enumerate(PHASES):
        for later in PHASES[i + 1 :]:
            fails(
                capsys,
                f"--phase={later}: the run in {tmp_path} is in its {phase} phase"
                if i
                else f"--phase={later} needs a trained",
                bundle,
                photos,
                tmp_path,
                f"--phase={later}",
            )
        assert train(bundle, photos, tmp_path, f"--phase={phase}") == 0
        position = newest(tmp_path)[1]
        assert (position["step"], position["phase"], position["stage"]) == ((i + 1) * STEPS, phase, i)
        assert position["completion_stage"] == (0, 0, 2)[i]
    train(bundle, photos, tmp_path / "whole")
    assert_same(newest(tmp_path)[0], newest(tmp_path / "whole")[0])
    capsys.readouterr()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    for phase in ("all", "completion", "joint"):
        assert train(bundle, photos, tmp_path, f"--phase={phase}") == 0
        assert "nothing is left to do: step 15" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}


def start(bundle, photos, output, *flags, **environment):
    module = [sys.executable, "-m", "glcic_tf", "portable", "run", f"--bundle={bundle}", f"--data_dir={photos}"]
    command = [*module, f"--output={output}", *flags]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=os.environ | environment)


def test_killed_again_and_again_it_ends_as_if_uninterrupted(own, config, photos, tmp_path):
    """Stages of thousands of steps, so that SIGKILL, and in the end SIGTERM, come in the middle of one."""
    folder, edit = own
    many = 3000

    def lengthen(manifest):
        for i, entry in enumerate(manifest["stages"]):
            entry["stage"] |= {"start": i * many, "steps": many, "first_example": i * many * 4}

    edit(lengthen)
    output, steps = tmp_path / "out", []
    for number in (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM):
        process = start(folder, photos, output, "--save_minutes=0")
        before = len(steps) and steps[-1]
        while process.poll() is None and not list((output / "state").glob("step-*")):
            time.sleep(0.01)
        # By the names: a state may be deleted, as too old, while it is read here.
        while process.poll() is None and not any(
            int(path.name.removeprefix("step-")) >= before + 9 for path in (output / "state").glob("step-*")
        ):
            time.sleep(0.01)
        process.send_signal(number)
        _, error = process.communicate(timeout=60)
        steps.append(newest(output)[1]["step"])
        assert process.returncode == (-number if number == signal.SIGKILL else 0), error
    assert "stopped and saved at step" in error and 0 < steps[0] < steps[1] < steps[2] < many
    assert train(folder, photos, tmp_path / "whole", f"--steps={steps[2]}", "--log_every_steps=1000") == 0
    assert_same(newest(output)[0], newest(tmp_path / "whole")[0])
    assert all(path.name.startswith("step-") for path in (output / "state").iterdir())


def test_minutes_end_a_run_after_a_call(bundle, photos, tmp_path, capsys):
    assert train(bundle, photos, tmp_path, "--minutes=0") == 0
    assert "stopped and saved at step 2; the same command goes on from there" in capsys.readouterr().err
    assert newest(tmp_path)[1]["step"] == 2


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_state(bundle, photos, tmp_path, capsys):
    train(bundle, photos, tmp_path, "--steps=2")
    arrays, position = newest(tmp_path)
    arrays["completion/conv/kernel"] = arrays["completion/conv/kernel"] * np.nan
    state_files.save(tmp_path / "bad", arrays, position)
    fails(
        capsys, "step 3: the loss is not a finite number", bundle, photos, tmp_path / "o", f"--state={tmp_path / 'bad'}"
    )
    assert not (tmp_path / "o" / "state").exists()


def test_without_jax_there_is_one_line(bundle, photos, tmp_path):
    (tmp_path / "jax.py").write_text("raise ImportError('No module named jax')")
    process = start(bundle, photos, tmp_path / "out", PYTHONPATH=str(tmp_path))
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1 and len(error.splitlines()) == 1, error
    assert error.startswith("glcic portable run: JAX 0.10 to 0.12 is needed to run a bundle (No module named jax)")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["export", "--config=no.py"], "glcic portable export: --config=no.py: there is no such file"),
        (["export", "--config=configs/tiny.py", "--config.batch=3"], "did you mean batch_size"),
        (["import", "--workdir=x"], "glcic portable import: missing: --state"),
        (["import", "--state=nowhere", "--workdir=/nowhere/x"], "nowhere: is not a saved state"),
    ],
)
def test_wrong_flags_of_the_other_commands_are_one_line(argv, message, glcic, monkeypatch):
    monkeypatch.chdir(ROOT)
    code, _, err = glcic("portable", *argv)
    assert code != 0 and len(err.splitlines()) == 1, err
    assert message in err


def test_what_a_state_lacks_begins_anew(bundle, config, photos, tmp_path, capsys):
    train(bundle, photos, tmp_path / "a", f"--steps={STEPS}")
    train(bundle, photos, tmp_path / "a", "--steps=1", "--parts=completion")
    arrays, _ = newest(tmp_path / "a")
    assert set(arrays) == {"completion/conv/kernel"}
    capsys.readouterr()
    assert train(bundle, photos, tmp_path / "a", f"--steps={STEPS - 1}") == 0
    assert "stage discriminator: begins anew: completion_optimizer, discriminator\n" in capsys.readouterr().err
    first = initial_weights.draw("dense/kernel", (3, 1), 3)
    d = first
    _, losses = in_numpy(config, photos, 2 * STEPS)
    for step in range(STEPS + 1, 2 * STEPS):
        d = d * 0.5 + losses[step] * step
    np.testing.assert_allclose(newest(tmp_path / "a")[0]["discriminator/dense/kernel"], d, rtol=1e-5)


@pytest.mark.parametrize("place", ["file", "file/below", "stats", "state"])
def test_an_output_that_cannot_be_written_is_one_line(place, bundle, photos, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    (tmp_path / "out" / "stats.jsonl").mkdir(parents=True)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "state").write_text("")
    output = {"stats": tmp_path / "out", "state": tmp_path / "taken"}.get(place, tmp_path / place)
    message = {"stats": "stats.jsonl: cannot be written", "state": "state: cannot be created"}.get(
        place, "cannot be created"
    )
    fails(capsys, message, bundle, photos, output, "--steps=1")
