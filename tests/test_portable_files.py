"""Bundles, states and photos without TensorFlow: what is read and written, and what is said of it when it is broken.

The bundle is a toy: programs that JAX itself made, whose result NumPy can compute.
"""

import contextlib
import dataclasses
import functools
import hashlib
import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glcic_tf import examples, initial_weights, photo_folder, schedule
from glcic_tf.errors import UserError
from glcic_tf.portable import __main__ as command
from glcic_tf.portable import bundle as bundle_module
from glcic_tf.portable import feed, pjrt, run, state_files
from glcic_tf.portable.bundle import Bundle

ROOT = Path(command.__file__).parents[2]
STEPS, PER_CALL, MIRROR = 5, 2, True
KERNEL = (2, 2, 3, 1)
NAMES = ["discriminator/dense/kernel", "step", "completion/conv/kernel", "completion_optimizer/momentum"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(12):
        assert cv2.imwrite(str(folder / f"{i:02}.png"), rng.integers(0, 256, (20 + i, 30, 3), dtype=np.uint8))
    return folder


@pytest.fixture(scope="module", autouse=True)
def _compile_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pjrt, "Program", functools.cache(pjrt.Program))
        yield


@pytest.fixture(scope="module")
def config(small_config):
    config = small_config(4)
    config.data.mirror, config.data.validation_photos = MIRROR, 0
    for stage in config.stages.values():
        stage.steps = STEPS
    return config


def step_in_numpy(state, batch, phase):
    """What one step of the toy does: C and its optimiser rest in the second phase, D in the first."""
    state = dict(state)
    seen = sum(float(batch[name].astype(np.float64).mean()) * (i + 1) for i, name in enumerate(feed._NAMES)) / 1000
    if phase != "discriminator":
        state["completion_optimizer/momentum"] = state["completion_optimizer/momentum"] * 0.5 + seen
        state["completion/conv/kernel"] = state["completion/conv/kernel"] + state["completion_optimizer/momentum"]
    if phase != "completion":
        state["discriminator/dense/kernel"] = state["discriminator/dense/kernel"] * 0.5 + seen * int(state["step"])
    state["step"] = state["step"] + 1
    return state, seen


def toy_program(stage):
    """The same as a program: the loop over a call's batches."""

    def program(image, mask, patch, real_patch, n, d, step, c, momentum):
        def body(i, carried):
            d, step, c, momentum, total = carried
            inputs = (image, mask, patch, real_patch)
            seen = sum(jnp.mean(x[i].astype(jnp.float64)) * (k + 1) for k, x in enumerate(inputs)) / 1000
            if stage.phase != "discriminator":
                momentum = (momentum * 0.5 + seen).astype(jnp.float32)
                c = c + momentum
            if stage.phase != "completion":
                d = (d * 0.5 + seen * step).astype(jnp.float32)
            return d, step + 1, c, momentum, total + seen.astype(jnp.float32)

        d, step, c, momentum, total = jax.lax.fori_loop(0, n, body, (d, step, c, momentum, jnp.float32(0)))
        bad = jnp.where(jnp.isfinite(jnp.sum(c)), jnp.int64(-1), step - n)
        return bad, total / n, momentum, d, c, step  # not in the order of the parameters

    sizes = (PER_CALL, stage.batch_size, stage.image_size, stage.image_size)
    shapes = [((*sizes, 3), "uint8"), ((*sizes, 1), "uint8"), ((*sizes[:2], 2), "int32"), ((*sizes[:2], 2), "int32")]
    shapes += [((), "int32"), ((3, 1), "float32"), ((), "int64"), (KERNEL, "float32"), (KERNEL, "float32")]
    arguments = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in shapes]
    lowered = jax.jit(program, donate_argnums=(5, 6, 7, 8), keep_unused=True).lower(*arguments)
    return lowered.compiler_ir("hlo").as_serialized_hlo_module_proto()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, config, photos):
    folder = tmp_path_factory.mktemp("bundle")
    (folder / "programs").mkdir()
    shapes = [[3, 1], [], list(KERNEL), list(KERNEL)]
    firsts = [{"draw": 3}, {"constant": 0}, {"draw": 1}, {"constant": 0}]
    fresh = [["completion_optimizer"], ["discriminator"], ["completion_optimizer"]]  # as if another one came
    entries = []
    for stage in schedule.resolve(config):
        content = toy_program(stage)
        (folder / "programs" / f"{stage.name}.hlo").write_bytes(content)
        dtypes = ["float32", "int64", "float32", "float32"]
        variables = [
            {"name": name, "shape": shape, "dtype": dtype, "first": first}
            for name, shape, dtype, first in zip(NAMES, shapes, dtypes, firsts, strict=True)
        ]
        entries.append(
            {
                "stage": bundle_module.stage_fields(stage),
                "program": {"file": f"{stage.name}.hlo", "sha256": hashlib.sha256(content).hexdigest()},
                "arguments": [*feed._NAMES, "n"],
                "variables": variables,
                "results": ["bad_step", "completion_loss"],
                "replaces": [[2, 8], [3, 5], [4, 7], [5, 6]],
                "fresh": fresh[stage.index],
            }
        )
    bundle_module.write_manifest(
        folder,
        {
            "format": bundle_module.FORMAT,
            "made_with": {},
            "config": schedule.to_dict(config),
            "mean_pixel": [0.4, 0.5, 0.6],
            "photos": 12,
            "fingerprint": photo_folder.fingerprint(sorted(photos.iterdir())),
            "validation": "held_out",
            "steps_per_call": PER_CALL,
            "state": None,
            "stages": entries,
        },
    )
    return folder


@pytest.fixture
def own(bundle, tmp_path):
    """A copy of the bundle to break, and a function that edits its manifest."""
    folder = tmp_path / "bundle"
    shutil.copytree(bundle, folder)

    def edit(change):
        path = folder / "bundle.json"
        manifest = json.loads(path.read_text())
        change(manifest)
        path.write_text(json.dumps(manifest))

    return folder, edit


def train(bundle, photos, output, *flags):
    """Run the command in this process: its exit code."""
    return command._run([f"--bundle={bundle}", f"--data_dir={photos}", f"--output={output}", *flags])


def fails(capsys, message, bundle, photos, output, *flags):
    """Run the command; it must fail with one line that has `message`."""
    capsys.readouterr()
    assert train(bundle, photos, output, *flags) == 1
    out, err = capsys.readouterr()
    said = [line for line in err.splitlines() if line.startswith("portable run: ")]
    assert out == "" and len(said) == 1 and err.splitlines()[-1] == said[0], err
    assert message in said[0], said[0]
    return err


def newest(output):
    return state_files.Saved(Path(output) / "state").latest(pytest.fail)


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name].dtype == theirs[name].dtype, name
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


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
    stages = schedule.resolve(config)
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
    monkeypatch.setattr(run, "time", SimpleNamespace(monotonic=lambda: clock[0], strftime=time.strftime))

    def passes(seconds, function):
        def slow(*args):
            clock[0] += seconds
            return function(*args)

        return slow

    monkeypatch.setattr(run._Trainer, "_call", passes(10, run._Trainer._call))
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
    for i, phase in enumerate(schedule.PHASES):
        for later in schedule.PHASES[i + 1 :]:
            fails(
                capsys,
                f"--phase={later}: the run is in its {phase} phase",
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
    module = [sys.executable, "-m", "glcic_tf.portable", "run", f"--bundle={bundle}", f"--data_dir={photos}"]
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
    assert error.startswith("portable run: JAX 0.10 to 0.12 is needed to run a bundle (No module named jax); install")


@pytest.mark.parametrize("argv", [[], ["train"], ["--help"]])
def test_another_command_is_one_line(argv, capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(["portable", *argv])
    assert str(stopped.value).startswith(f"portable: expected export, run, import, found {argv[0] if argv else None};")
    assert "\n" not in stopped.value.code


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["export", "--config=no.py"], "portable export: --config=no.py: there is no such file"),
        (["export", "--config=configs/tiny.py", "--config.batch=3"], "did you mean batch_size"),
        (["import", "--workdir=x"], "portable import: missing: --state"),
        (["import", "--state=nowhere", "--workdir=/nowhere/x"], "nowhere: is no saved state"),
    ],
)
def test_wrong_flags_of_the_other_commands_are_one_line(argv, message, tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "glcic_tf.portable", *argv], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert result.returncode != 0 and len(result.stderr.splitlines()) == 1, result.stderr
    assert message in result.stderr


# Bundles


def test_a_bundle_that_is_missing_or_broken_is_one_line(own, photos, tmp_path, capsys):
    folder, edit = own
    out = tmp_path / "out"
    fails(capsys, f"--bundle={tmp_path}: bundle.json cannot be read", tmp_path, photos, out)
    fails(capsys, "bundle.json cannot be read (Not a directory)", folder / "bundle.json", photos, out)
    content = (folder / "bundle.json").read_bytes()
    for broken in (content[: len(content) // 2], b"", b"\xff\xfe" + content, b"[1]", b"{}", b"null"):
        (folder / "bundle.json").write_bytes(broken)
        fails(capsys, "the bundle is damaged: copy it again, or export it anew", folder, photos, out)
    (folder / "bundle.json").write_bytes(content)
    edit(lambda manifest: manifest.update(format=2))
    fails(capsys, "bundle.json: is of format 2, but this version reads 1; export it anew", folder, photos, out)
    assert not list(out.rglob("step-*"))


def test_a_manifest_that_lacks_anything_is_one_line(own, photos, tmp_path, capsys):
    folder, edit = own
    manifest = json.loads((folder / "bundle.json").read_text())
    places = [
        (lambda m: m, manifest.keys() - {"made_with", "format"}),
        (lambda m: m["stages"][2], manifest["stages"][2].keys()),
        (lambda m: m["stages"][2]["program"], ("file", "sha256")),
        (lambda m: m["stages"][2]["variables"][1], ("name", "shape", "dtype", "first")),
        (lambda m: m["stages"][2]["stage"], manifest["stages"][2]["stage"].keys()),
    ]
    for place, keys in places:
        for key in keys:
            whole = json.loads(json.dumps(manifest))
            value = place(whole).pop(key)
            (folder / "bundle.json").write_text(json.dumps(whole))
            fails(capsys, f"misses {key!r}" if key in whole else "misses", folder, photos, tmp_path / "out")
            if place is places[-1][0] and not isinstance(value, dict):
                continue
            place(whole)[key] = 7.5
            (folder / "bundle.json").write_text(json.dumps(whole))
            fails(capsys, "misses", folder, photos, tmp_path / "out")


def test_a_program_that_is_missing_or_broken_is_one_line(own, photos, tmp_path, capsys, monkeypatch):
    folder, edit = own
    program = folder / "programs" / "completion.hlo"
    content = program.read_bytes()
    program.write_bytes(content[:-1])
    fails(
        capsys,
        "completion.hlo: has another checksum than the manifest says; the bundle is",
        folder,
        photos,
        tmp_path / "o",
    )
    program.unlink()
    fails(capsys, "completion.hlo: cannot be read (No such file", folder, photos, tmp_path / "o")
    for broken in (content[: len(content) // 2], b"", b"no program"):
        program.write_bytes(broken)
        checksum = hashlib.sha256(broken).hexdigest()
        edit(lambda manifest, checksum=checksum: manifest["stages"][0]["program"].update(sha256=checksum))
        fails(capsys, "stage completion: cannot be compiled for cpu", folder, photos, tmp_path / "o")
    monkeypatch.setattr(bundle_module, "MAX_PROGRAM_BYTES", 5)
    fails(capsys, "completion.hlo: is larger than any program", folder, photos, tmp_path / "o")
    # Nothing outside of the bundle is read.
    (tmp_path / "secret").write_bytes(content)
    edit(lambda manifest: manifest["stages"][0]["program"].update(file="../../secret"))
    fails(capsys, f"{folder}/programs/secret: cannot be read", folder, photos, tmp_path / "o")


def test_stages_come_back_as_they_were(bundle, config):
    opened = Bundle(bundle)
    assert opened.stages == schedule.resolve(config)
    assert all(dataclasses.is_dataclass(stage.hole) for stage in opened.stages)
    for entry, stage in zip(opened.manifest["stages"], opened.stages, strict=True):
        assert opened.program(entry) == (bundle / "programs" / f"{stage.name}.hlo").read_bytes()


def test_a_state_of_another_run_or_shape_is_refused(own, bundle, photos, tmp_path, capsys):
    folder, edit = own
    train(bundle, photos, tmp_path / "out", "--steps=3")
    edit(lambda manifest: manifest["config"].update(width=0.5, seed=9))
    for flags in ([tmp_path / "out"], [tmp_path / "o", f"--state={tmp_path / 'out' / 'state' / 'step-00000003'}"]):
        fails(capsys, "the state is of a run with another config (seed, width)", folder, photos, *flags)
    arrays, position = newest(tmp_path / "out")
    arrays["completion/conv/kernel"] = arrays["completion/conv/kernel"][:1]
    state_files.save(tmp_path / "other", arrays, position)
    fails(
        capsys,
        "completion/conv/kernel is float32 [1, 2, 3, 1], but the program takes float32 [2, 2, 3, 1]",
        *(bundle, photos, tmp_path / "o", f"--state={tmp_path / 'other'}"),
    )


def test_a_bundle_that_has_a_state_begins_with_it(own, bundle, photos, tmp_path, capsys):
    folder, edit = own
    train(bundle, photos, tmp_path / "out", "--steps=7")
    shutil.copytree(tmp_path / "out" / "state" / "step-00000007", folder / "state")
    edit(lambda manifest: manifest.update(state={"step": 7}))
    capsys.readouterr()
    assert train(folder, photos, tmp_path / "on") == 0
    assert "begins anew: completion_optimizer\n" in capsys.readouterr().err  # with the third stage, not before
    assert train(bundle, photos, tmp_path / "out") == 0
    assert_same(newest(tmp_path / "on")[0], newest(tmp_path / "out")[0])
    shutil.rmtree(folder / "state")
    fails(capsys, f"{folder}/state: is no saved state (state.json: No such file", folder, photos, tmp_path / "o")


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


# Photos


@pytest.mark.parametrize(
    "form",
    ["missing", "empty", "no tar", "tar cut", "tar.gz cut", "tar.gz broken", "tar.xz broken", "tar above", "few"],
)
def test_photos_that_cannot_be_had_are_one_line(form, bundle, photos, tmp_path, capsys):
    data, message = tmp_path / "data", "cannot be unpacked"
    if form == "missing":
        message = "data: expected a folder of photos, found nothing"
    elif form in ("empty", "few"):
        data.mkdir()
        message = "holds no photo" if form == "empty" else "3 photos to train on, fewer than one batch of 4"
        for path in sorted(photos.iterdir())[: 3 if form == "few" else 0]:
            shutil.copy(path, data)
    elif form == "no tar":
        data.write_text("no tar")
    elif form in ("tar cut", "tar.gz cut"):
        with tarfile.open(data, "w:gz" if form == "tar.gz cut" else "w") as archive:
            archive.add(photos, "photos")
        data.write_bytes(data.read_bytes()[:10_000])
    elif form in ("tar.gz broken", "tar.xz broken"):
        with tarfile.open(data, f"w:{form[4:6]}") as archive:
            archive.add(photos, "photos")
        content = bytearray(data.read_bytes())
        content[5000:5100] = bytes(100)
        data.write_bytes(content)
    elif form == "tar above":
        with tarfile.open(data, "w") as archive:
            archive.add(photos / "00.png", "../../above.png")
    fails(capsys, message, bundle, data, tmp_path / "out")
    assert not (tmp_path / "out" / "state").exists() and not (tmp_path.parent / "above.png").exists()


def test_a_tar_equals_its_folder(bundle, photos, tmp_path, capsys):
    with tarfile.open(tmp_path / "photos.tar.gz", "w:gz") as archive:
        archive.add(photos, "some/folder")
    assert train(bundle, photos, tmp_path / "folder", "--steps=3") == 0
    assert train(bundle, tmp_path / "photos.tar.gz", tmp_path / "tar", "--steps=3") == 0
    assert_same(newest(tmp_path / "folder")[0], newest(tmp_path / "tar")[0])
    assert "warning" not in capsys.readouterr().err
    with feed.folder(tmp_path / "photos.tar.gz") as unpacked:
        assert len(list(Path(unpacked).rglob("*.png"))) == 12
    assert not Path(unpacked).exists()


def test_other_photos_are_told(bundle, photos, tmp_path, capsys):
    (tmp_path / "more").mkdir()
    for path in photos.iterdir():
        shutil.copy(path, tmp_path / "more" / f"x{path.name}")
    assert train(bundle, tmp_path / "more", tmp_path / "out", "--steps=1") == 0
    assert "warning: these 12 photos are not the 12 that the bundle was made with" in capsys.readouterr().err


def test_photos_are_held_out_as_train_py_does(bundle, config, tmp_path):
    rng = np.random.default_rng(0)
    for i in range(30):
        assert cv2.imwrite(str(tmp_path / f"{i:02}.png"), rng.integers(0, 256, (20, 20, 3), dtype=np.uint8))
    config = config.copy_and_resolve_references()
    config.data.validation_photos = 2
    expected, held_out = photo_folder.find(config, tmp_path, None, 4)
    manifest = {"config": schedule.to_dict(config), "validation": "held_out", "photos": 28, "fingerprint": ""}
    said = []
    assert feed.find(manifest, tmp_path, 4, 0.0, said.append).paths == expected.paths
    assert len(expected.paths) == 28 and len(held_out.paths) == 2 and len(said) == 1
    said.clear()
    manifest |= {"validation": "folder", "fingerprint": photo_folder.fingerprint(sorted(tmp_path.iterdir()))}
    assert len(feed.find(manifest, tmp_path, 4, 0.0, said.append).paths) == 30 and not said


@pytest.mark.parametrize(("begin", "end"), [(0, 5), (1, 5), (2, 4), (4, 5)])
def test_calls_have_the_batches_of_their_steps(begin, end, config, photos):
    stage = schedule.resolve(config)[1]
    begin, end = stage.start + begin, stage.start + end
    read = examples.Photos(sorted(photos.iterdir()))
    with ThreadPoolExecutor(3) as pool:
        made = list(feed.calls(read, stage, config.seed, MIRROR, begin, end, PER_CALL, pool))
    assert [n for n, _ in made] == [min(PER_CALL, end - step) for step in range(begin, end, PER_CALL)]
    for step, (n, arrays) in zip(range(begin, end, PER_CALL), made, strict=True):
        assert len(arrays) == 4
        for i in range(n):
            batch = examples.batch(read, stage, config.seed, step + i, MIRROR)
            for name, array in zip(("image", "mask", "patch", "real_patch"), arrays, strict=True):
                assert array.shape == (PER_CALL, *batch[name].shape) and array.dtype == batch[name].dtype
                np.testing.assert_array_equal(np.asarray(array)[i], batch[name], err_msg=name)


def test_closing_the_calls_early_leaves_no_thread(config, photos):
    stage = schedule.resolve(config)[0]
    before = threading.active_count()
    with ThreadPoolExecutor(2) as pool:
        made = feed.calls(examples.Photos(sorted(photos.iterdir())), stage, 0, False, 0, STEPS, 1, pool)
        with contextlib.closing(made):
            next(made)
            assert threading.active_count() > before
    assert threading.active_count() == before


def test_an_error_while_batches_are_made_arrives_and_leaves_no_thread(bundle, photos, tmp_path, capsys):
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos" / "05.png").write_text("no photo")
    before = threading.active_count()
    fails(capsys, "1 of 12 photos cannot be decoded, more than 1%", bundle, tmp_path / "photos", tmp_path / "out")
    assert threading.active_count() == before


def test_cached_photos_are_those_of_the_files_and_stay_within_their_room(photos, monkeypatch):
    read = examples.Photos(sorted(photos.iterdir()))
    one = read.read(0).nbytes
    decoded = []
    original = examples.Photos.read
    monkeypatch.setattr(examples.Photos, "read", lambda self, i: decoded.append(i) or original(self, i))
    cached = feed._CachedPhotos(read, 3.5 * one)
    for _ in range(3):
        for i in range(4):
            np.testing.assert_array_equal(cached.read(i), original(read, i))
    assert sorted(decoded) == [0, 1, 2, 3, 3, 3]
    assert cached._room >= 0


# States


def arrays_of(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "completion/conv/kernel": rng.normal(0, 0.05, (3, 3, 4, 5)).astype(np.float32),
        "completion/bn/moving_variance": rng.uniform(1e-4, 1e3, 9).astype(np.float32),
        "discriminator/dense/bias": np.float32([0.0, -0.0, 0.25]),
        "completion_optimizer/iteration": np.array(2**40 + 1, np.int64),
        "completion_optimizer/average": (10 ** rng.uniform(-38, 38, 5000) * rng.choice([-1, 1], 5000)).astype(
            np.float32
        ),
        "completion_optimizer/a/b/c": np.float64([1 / 3]),
        "discriminator_optimizer_loss_scale/scale": np.array(32768.0, np.float32),
    }


def test_32_bit_keep_everything_and_files_are_named_by_part(tmp_path):
    arrays = arrays_of()
    state_files.save(tmp_path / "s", arrays, {"step": 3, "more": [1, "x"]})
    loaded, position = state_files.load(tmp_path / "s")
    assert_same(loaded, arrays)
    parts = ["completion", "completion_optimizer", "discriminator", "discriminator_optimizer_loss_scale"]
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == [
        *(f"{part}.npz" for part in parts),
        "state.json",
    ]
    for part in parts:
        content = (tmp_path / "s" / f"{part}.npz").read_bytes()
        assert position["files"][f"{part}.npz"] == hashlib.sha256(content).hexdigest()
    assert {name: position[name] for name in ("step", "more", "bits", "parts")} == {
        "step": 3,
        "more": [1, "x"],
        "bits": 32,
        "parts": "all",
    }


def test_16_bit_round_networks_to_float16_and_averages_to_bfloat16(tmp_path):
    arrays = arrays_of()
    special = np.float32([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-40, 3.4028235e38, 1.0, 1.00390625, 1.01171875])
    arrays["completion_optimizer/special"] = special
    arrays["completion_optimizer/nan"] = np.array([0x7F800001, 0xFFFFFFFF], np.uint32).view(np.float32)
    state_files.save(tmp_path / "s", arrays, {"step": 3}, bits=16)
    state_files.save(tmp_path / "whole", arrays, {"step": 3})
    loaded, position = state_files.load(tmp_path / "s")
    assert position["bits"] == 16 and loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        ours = loaded[name]
        assert ours.dtype == array.dtype and ours.shape == array.shape, name
        if array.dtype != np.float32:
            np.testing.assert_array_equal(ours, array, err_msg=name)
        elif name.startswith("completion/"):
            np.testing.assert_allclose(ours, array, rtol=2**-11, atol=2**-25, err_msg=name)
            assert (ours != array).any()
        else:
            if name.startswith("completion_optimizer"):
                expected = np.asarray(jnp.asarray(array).astype(jnp.bfloat16).astype(jnp.float32))
                tiny = np.abs(array) < np.finfo(np.float32).tiny  # JAX may flush these to 0
                finite = ~tiny & np.isfinite(expected)
                np.testing.assert_array_equal(ours[~tiny & ~finite], expected[~tiny & ~finite], err_msg=name)
                left, best = (np.abs(x[finite].astype(np.float64) - array[finite]) for x in (ours, expected))
                np.testing.assert_array_equal(left, best, err_msg=name)  # half way, both neighbours are the nearest
                assert (np.abs(ours[tiny]) < 1.2e-38).all()
            normal = np.isfinite(array) & (np.abs(array) > 1e-37) & (np.abs(array) < 3e38)
            np.testing.assert_allclose(ours[normal], array[normal], rtol=2**-8 if "optimizer" in name else 2**-11)
    rounded = loaded["completion_optimizer/special"]
    assert np.isnan(rounded[0]) and rounded[1] == np.inf and rounded[2] == -np.inf
    assert rounded[3] == 0 and np.signbit(rounded[4]) and rounded[4] == 0 and rounded[8] == 1
    assert np.isnan(loaded["completion_optimizer/nan"]).all()
    size = sum(path.stat().st_size for path in (tmp_path / "s").glob("*.npz"))
    assert size < 0.6 * sum(path.stat().st_size for path in (tmp_path / "whole").glob("*.npz"))


def test_a_network_beyond_float16_is_refused_and_the_old_state_stays(tmp_path):
    arrays = arrays_of()
    state_files.save(tmp_path / "s", arrays, {"step": 3})
    for value in (65520.0, -1e9):
        large = arrays | {"completion/bn/moving_variance": np.float32([1.0, value])}
        with pytest.raises(
            UserError, match="completion/bn/moving_variance has values beyond float16's; save in 32 bit"
        ):
            state_files.save(tmp_path / "s", large, {"step": 4}, bits=16)
    state_files.save(tmp_path / "t", arrays | {"completion/x": np.float32([65503.0])}, {"step": 4}, bits=16)
    loaded, position = state_files.load(tmp_path / "s")
    assert_same(loaded, arrays)
    assert position["step"] == 3 and sorted(path.name for path in tmp_path.iterdir()) == ["s", "t"]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ("networks", {"completion", "discriminator"}),
        ("completion", {"completion"}),
        ("all", {"completion", "discriminator", "completion_optimizer", "discriminator_optimizer_loss_scale"}),
    ],
)
def test_parts_that_are_asked_for_are_saved(parts, expected, tmp_path):
    state_files.save(tmp_path / "s", arrays_of(), {"step": 3}, parts)
    loaded, position = state_files.load(tmp_path / "s")
    assert {name.split("/")[0] for name in loaded} == expected and position["parts"] == parts
    assert {path.stem for path in (tmp_path / "s").glob("*.npz")} == expected


def test_saving_that_fails_leaves_the_old_state(tmp_path, monkeypatch):
    saved = state_files.Saved(tmp_path)
    saved.save(arrays_of(0), {"step": 3}, "all", 32)
    savez, calls = np.savez, []

    def fail(path, **arrays):
        calls.append(path)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        savez(path, **arrays)

    monkeypatch.setattr(np, "savez", fail)
    for step in (3, 4):
        calls.clear()
        with pytest.raises(UserError, match=f"step-0000000{step}: cannot be written .No space left on device"):
            saved.save(arrays_of(1), {"step": step}, "all", 32)
    loaded, position = saved.latest(pytest.fail)
    assert_same(loaded, arrays_of(0))
    assert position["step"] == 3 and [path.name for path in tmp_path.iterdir()] == ["step-00000003"]


def test_two_states_are_kept_and_a_state_of_other_parts_is_replaced(tmp_path):
    saved = state_files.Saved(tmp_path)
    for step in (2, 9, 10, 110, 1000):
        saved.save(arrays_of(step), {"step": step}, "all", 32)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000110", "step-00001000"]
    saved.save(arrays_of(1), {"step": 1000}, "completion", 16)
    assert {name.split("/")[0] for name in saved.latest(pytest.fail)[0]} == {"completion"}
    (tmp_path / ".123-4.part").mkdir()  # left by a run that was killed
    (tmp_path / "step-x").mkdir()
    saved.save(arrays_of(1), {"step": 10**9}, "all", 32)
    assert saved.latest(pytest.fail)[1]["step"] == 10**9
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00001000", "step-1000000000", "step-x"]
    assert state_files.Saved(tmp_path / "none").latest(pytest.fail) is None
    # States of higher numbers that cannot be read do not crowd out the one that was just saved.
    for name in ("step-1000000000", "step-00001000"):
        (tmp_path / name / "completion.npz").write_text("broken")
    saved.save(arrays_of(1), {"step": 7}, "all", 32)
    saved.save(arrays_of(1), {"step": 8}, "all", 32)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000007", "step-00000008", "step-x"]
    (tmp_path / "step-00000008" / "of the user").write_text("")
    with pytest.raises(UserError, match="holds .* and is more than a saved state"):
        saved.save(arrays_of(1), {"step": 8}, "all", 32)


def damage(folder, how):
    path = folder / "completion.npz"
    content = bytearray(path.read_bytes())
    if how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "bit":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif how == "missing":
        path.unlink()
    elif how == "manifest":
        (folder / "state.json").write_text((folder / "state.json").read_text()[:-40])
    elif how == "no manifest":
        (folder / "state.json").unlink()
    elif how in ("format", "files", "step"):
        position = json.loads((folder / "state.json").read_text())
        position[how] = "x"
        (folder / "state.json").write_text(json.dumps(position))
    elif how == "list":
        (folder / "state.json").write_text("[1]")


DAMAGES = {
    "cut": "completion.npz: has another checksum than state.json says; the state is damaged",
    "bit": "completion.npz: has another checksum than state.json says; the state is damaged",
    "missing": "completion.npz: cannot be read (No such file or directory); copy the whole state again",
    "manifest": "state.json: is no JSON; the state is damaged: take an older one",
    "no manifest": "is no saved state (state.json: No such file or directory); name the folder of one",
    "format": "state.json: is of another format than this version's 1",
    "list": "state.json: is of another format than this version's 1",
    "files": "state.json: misses files or step; the state is damaged",
    "step": "state.json: misses files or step; the state is damaged",
}


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_state_is_left_out_for_an_older_one(how, bundle, photos, tmp_path, capsys):
    train(bundle, photos, tmp_path / "out", "--steps=2")
    train(bundle, photos, tmp_path / "out", "--steps=1")
    newer = tmp_path / "out" / "state" / "step-00000003"
    damage(newer, how)
    fails(capsys, DAMAGES[how], bundle, photos, tmp_path / "other", f"--state={newer}")
    assert not (tmp_path / "other" / "state").exists()
    assert train(bundle, photos, tmp_path / "out", "--steps=1") == 0
    error = capsys.readouterr().err
    assert f"left out: {newer}" in error and DAMAGES[how] in error and "goes on from step 2" in error
    assert newest(tmp_path / "out")[1]["step"] == 3


def rewrite(folder, member, content):
    """Put something else into completion.npz, with its checksum put right."""
    path = folder / "completion.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content)
    position = json.loads((folder / "state.json").read_text())
    position["files"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "state.json").write_text(json.dumps(position))


def npy(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


class Evil:
    def __reduce__(self):
        return os.mkdir, (str(Path.cwd() / "evil"),)


def test_a_forged_state_is_one_line_and_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state_files.save(tmp_path / "s", arrays_of(), {"step": 3})
    header = npy(np.zeros(3, np.float32))
    huge = header.replace(b"(3,)", b"(99999999999999,)")
    forged = [
        ("conv/kernel.npy", npy(np.array([Evil()], object), allow_pickle=True)),
        ("conv/kernel.npy", huge),
        ("conv/kernel.npy", header[:-2]),
        ("conv/kernel.npy", b""),
        ("conv/kernel", b"no array"),
        ("conv/kernel.npy", b"no array"),
    ]
    for member, content in forged:
        rewrite(tmp_path / "s", member, content)
        with pytest.raises(UserError, match="completion.npz: .*the state is damaged: take an older one"):
            state_files.load(tmp_path / "s")
    assert not (tmp_path / "evil").exists()
    monkeypatch.setattr(state_files, "_MAX_BYTES", 100)
    rewrite(tmp_path / "s", "conv/kernel.npy", npy(np.zeros(99, np.float32)))
    with pytest.raises(UserError, match=r"completion\.npz: is larger than any state"):
        state_files.load(tmp_path / "s")
    # A file of another folder is not read, whatever the list says.
    position = json.loads((tmp_path / "s" / "state.json").read_text())
    position["files"] = {"../../secret.npz": "x"}
    (tmp_path / "s" / "state.json").write_text(json.dumps(position))
    with pytest.raises(UserError, match=r"s/secret\.npz: cannot be read"):
        state_files.load(tmp_path / "s")


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


def test_a_program_has_the_parameters_of_its_arguments(bundle):
    program = pjrt.Program((bundle / "programs" / "joint.hlo").read_bytes(), "joint")
    assert program.parameters[:2] == [(np.uint8, (PER_CALL, 4, 16, 16, 3)), (np.uint8, (PER_CALL, 4, 16, 16, 1))]
    assert program.parameters[5:] == [(np.float32, (3, 1)), (np.int64, ()), (np.float32, KERNEL), (np.float32, KERNEL)]
    assert program.flops > 0 and program.memory_bytes > 0
    assert run._first_value({"shape": [2], "dtype": "float32", "first": {"values": [1, 2]}, "name": "x"}).tolist() == [
        1,
        2,
    ]
