"""A run from outside: phases, resuming, being killed, what it leaves behind, and what it refuses."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf
from loop_helpers import assert_same, make_config, variables
from small_networks import completion_network

from glcic_tf.common.errors import UserError
from glcic_tf.completion.completer import Completer
from glcic_tf.configs import default
from glcic_tf.networks import discriminator_file, model_file
from glcic_tf.networks.completion import completion_arguments
from glcic_tf.networks.discriminator import context_discriminator
from glcic_tf.training import loop, stages

ROOT = Path(__file__).parents[2]


# All that is off in the paper's configs.
PARTS = ("average", "completion")
EXTRAS = {
    "equal_phases": True,
    "average_decay": 0.9,
    "feature_matching_weight": 0.5,
    "optimizer.clip_norm": 0.01,
    "discriminator_optimizer.clip_norm": 0.01,
    "keep_best": "val_l1",
}


def full_config(**changes):
    config = make_config(**changes)
    config.update_from_flattened_dict(EXTRAS)
    return config


@pytest.fixture(scope="module")
def finished(photos, tmp_path_factory):
    """A run of all three phases at once, uninterrupted, with every optional feature."""
    workdir = tmp_path_factory.mktemp("finished")
    assert loop.train(full_config(), photos, workdir)
    return workdir


def assert_same_run(ours, theirs):
    ours, theirs = variables(ours), variables(theirs)
    assert {name.partition("/")[0] for name in ours} > {*PARTS, "completion_optimizer", "discriminator_optimizer"}
    assert_same(ours, theirs)


def lines(workdir):
    return [json.loads(line) for line in (workdir / "stats.jsonl").read_text().splitlines()]


def test_a_run_leaves_what_it_promises(finished):
    logged = lines(finished)
    assert all({"step", "phase", "stage"} <= line.keys() for line in logged)
    by_phase = {phase: [line for line in logged if line["phase"] == phase] for phase in stages.PHASES}
    assert [line["step"] for line in by_phase["joint"] if "completion_loss" in line] == [45, 50, 55, 60]
    last = [line for line in by_phase["joint"] if "adversarial_loss" in line][-1]
    assert {
        "completion_loss",
        "discriminator_loss",
        "d_real",
        "d_fake",
        "d_accuracy",
        "images_per_second",
    } <= last.keys()
    assert {"val_l1", "val_psnr_hole", "val_sharpness"} <= logged[-1].keys()
    grid = cv2.imread(str(finished / "samples" / "0000060.png"))
    assert grid.shape == (2 * (26 + 32), 3 * 32 + 12, 3)
    assert list((finished / "tensorboard" / finished.name).glob("events.*"))
    assert json.loads((finished / "config.json").read_text())["stages"]["joint"]["steps"] == 20
    assert len(list((finished / "checkpoints").glob("*.index"))) == 3
    for phase, step in zip(stages.PHASES, (20, 40, 60), strict=True):
        model = keras.saving.load_model(finished / f"{phase}.keras", compile=False)
        assert [i.name for i in model.inputs] == ["image", "mask"]
        assert model_file.read_metadata(finished / f"{phase}.keras")["step"] == step
    mean = json.loads((finished / "mean_pixel.json").read_text())
    np.testing.assert_allclose(model.get_layer("mean_pixel").get_weights()[0].ravel(), mean, rtol=1e-6)


def test_model_file_is_the_average_and_the_checkpoint_has_it_and_the_network(finished):
    held, model = variables(finished), model_file.load(finished / "joint.keras")
    for variable in model.variables:
        keys = [f"{part}/{variable.path.replace('/', '.S')}/.ATTRIBUTES/VARIABLE_VALUE" for part in PARTS]
        np.testing.assert_array_equal(variable.numpy(), held[keys[0]], err_msg=keys[0])
        if variable.path.endswith("/kernel") and variable.path != "mean_pixel/kernel":
            assert not np.array_equal(held[keys[0]], held[keys[1]]), "the average is the network itself"


def test_without_an_average_the_model_file_is_the_network(photos, tmp_path):
    assert loop.train(make_config(steps=1), photos, tmp_path, phase="completion")
    held, model = variables(tmp_path), model_file.load(tmp_path / "completion.keras")
    assert not [name for name in held if name.startswith("average/")]
    for variable in model.variables:
        key = f"completion/{variable.path.replace('/', '.S')}/.ATTRIBUTES/VARIABLE_VALUE"
        np.testing.assert_array_equal(variable.numpy(), held[key], err_msg=key)


def test_run_ends_with_a_saved_model(finished):
    """It gives the pixels that infer.py gives with the model file of the last phase."""
    loaded = tf.saved_model.load(finished / "savedmodel")
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 256, (40, 50, 3), np.uint8), np.zeros((40, 50), np.uint8)
    mask[10:20, 10:30] = 255
    inputs = {"image": tf.constant(image[None]), "mask": tf.constant(mask[None, ..., None])}
    completed = loaded.signatures["serving_default"](**inputs)["completed"][0].numpy()
    expected = Completer.load(finished / "joint.keras")(image, mask, scale=1, postprocess="none")
    assert np.abs(completed.astype(int) - expected).max() <= 1


def test_phases_one_after_the_other_equal_all_at_once(photos, tmp_path, finished):
    for phase in stages.PHASES:
        assert loop.train(full_config(), photos, tmp_path, phase=phase)
        assert (tmp_path / f"{phase}.keras").is_file()
    assert_same_run(tmp_path, finished)


def test_finished_run_says_so_and_changes_nothing(photos, finished, caplog):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    with caplog.at_level("INFO", "glcic_tf"):
        for phase in ("all", "discriminator"):
            assert loop.train(full_config(), photos, finished, phase=phase)
    assert "the run is finished: step 60 of 60" in caplog.text and "discriminator phase is finished" in caplog.text
    assert before == {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}


def start(photos, workdir):
    flags = [f"--config.stages.{phase}.steps=20" for phase in stages.PHASES]
    flags += [f"--config.{name}=5" for name in ("log_every_steps", "steps_per_loop")]
    flags += [f"--config.{name}={value}" for name, value in EXTRAS.items()]
    flags += ["--config.checkpoint_every_steps=1"]  # so that a signal arrives within a step or two
    flags += ["--config.sample_every_steps=10", f"--data_dir={photos}", f"--workdir={workdir}"]
    command = [sys.executable, "-m", "tests.small_networks", "train", "--config=tiny", *flags]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for_checkpoint(process, workdir, step):
    while process.poll() is None:
        if any(int(path.stem.split("-")[1]) >= step for path in (workdir / "checkpoints").glob("ckpt-*.index")):
            return
        time.sleep(0.002)
    pytest.fail(f"ended before step {step}: {process.stdout.read()}")


def test_killed_in_each_phase_and_resumed_equals_uninterrupted(photos, tmp_path, finished):
    """SIGKILL in each phase and SIGTERM in the last, each after a few of its steps; then it runs to the end."""
    resumed_at = []
    for step, number in (
        (5, signal.SIGKILL),
        (25, signal.SIGKILL),
        (45, signal.SIGKILL),
        (50, signal.SIGTERM),
        (None, None),
    ):
        process = start(photos, tmp_path)
        if step:
            wait_for_checkpoint(process, tmp_path, step)
            process.send_signal(number)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 0), output
        resumed_at += [int(line.rsplit(" ", 1)[1]) for line in output.splitlines() if " resumed " in line]
        if number == signal.SIGTERM:
            assert "stopped and saved at step" in output
    assert len(resumed_at) == 4
    for at, (begin, end) in zip(resumed_at, ((1, 20), (21, 40), (41, 60), (41, 60)), strict=True):
        assert begin <= at < end  # inside the phase; the checkpoint that was just being written may be lost
    assert_same_run(tmp_path, finished)


def test_config_that_contradicts_the_run_is_refused(photos, finished):
    config = full_config()
    config.batch_size = 2
    with pytest.raises(UserError, match=r"config\.batch_size was 4, is 2.*another --workdir"):
        loop.train(config, photos, finished)


def test_a_run_goes_on_with_another_number_of_parts(photos, tmp_path):
    config = make_config(steps=1)
    assert loop.train(config, photos, tmp_path, phase="completion")
    config.accumulate_steps = 2
    assert loop.train(config, photos, tmp_path, phase="discriminator")
    assert [line["step"] for line in lines(tmp_path) if "completion_loss" in line] == [1, 2]


def test_a_run_is_not_written_to_a_url(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="--workdir=gs://bucket/run: is a URL, but runs are written to a folder"):
        loop.train(make_config(), photos, "gs://bucket/run")
    assert not list(tmp_path.iterdir())


def test_phase_without_a_trained_completion_network_is_an_error(photos, tmp_path):
    for phase in ("discriminator", "joint"):
        with pytest.raises(UserError, match=f"--phase={phase} needs a trained completion network"):
            loop.train(make_config(), photos, tmp_path / "new", phase=phase)
    assert not (tmp_path / "new").exists()


def test_starting_from_a_model_file_takes_its_weights_and_mean_pixel(photos, tmp_path, finished):
    config = make_config(steps=1)
    config.init_from = str(finished / "completion.keras")
    config.optimizer.learning_rate = 1e-30
    assert loop.train(config, photos, tmp_path, phase="discriminator")
    ours, theirs = (model_file.load(p) for p in (tmp_path / "discriminator.keras", config.init_from))
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert lines(tmp_path)[0]["step"] == 2  # the completion phase is taken as done


def test_a_run_from_a_model_file_has_that_file_s_network_also_when_resumed(photos, tmp_path, caplog):
    """Converted weights need no flag: width, order of layers, value range and output are those of the file."""
    arguments = {"width": 1 / 32, "relu_first": True, "epsilon": 1e-3, "input_scale": 2.0, "output": "clip"}
    arguments["input_offset"] = [-1.0, -0.5, -1.0]
    model_file.save(completion_network(mean_pixel=(0.0, 0.0, 0.0), **arguments), tmp_path / "published.keras")
    config = make_config(steps=1)
    config.init_from = str(tmp_path / "published.keras")
    with caplog.at_level("INFO", "glcic_tf"):
        assert loop.train(config, photos, tmp_path / "run", phase="completion")
    assert "is ignored: the model file has 0.03125" in caplog.text
    (tmp_path / "published.keras").unlink()
    assert loop.train(config, photos, tmp_path / "run")
    for phase in ("completion", "joint"):
        model = model_file.load(tmp_path / "run" / f"{phase}.keras")
        assert completion_arguments(model) == arguments
        assert model.get_layer("mean_pixel").get_weights()[0].ravel().tolist() == [0, 0, 0]


def test_d_starts_from_a_file(photos, tmp_path, finished):
    config = make_config(steps=1)
    config.init_from = str(finished / "completion.keras")
    stage = stages.resolve(config)[1]
    arguments = {"image_size": stage.image_size, "patch_size": stage.patch_size, "width": 1 / 32, "relu_first": True}
    network = context_discriminator(**arguments)
    discriminator_file.save(network, tmp_path / "d.keras")
    config.discriminator.init_from = str(tmp_path / "d.keras")
    config.stages.discriminator.discriminator_optimizer.learning_rate = 1e-30
    assert loop.train(config, photos, tmp_path / "run", phase="discriminator")
    kept = [v for name, v in variables(tmp_path / "run").items() if v.shape == network.get_layer("logit").kernel.shape]
    assert any(np.array_equal(value, network.get_layer("logit").kernel) for value in kept)

    config.stages.discriminator.image_size = config.stages.joint.image_size = 2 * stage.image_size
    for field in ("short_edge_min_px", "short_edge_max_px"):
        config.stages.discriminator[field] = config.stages.joint[field] = 2 * stage.image_size
    with pytest.raises(
        UserError, match=r"d\.keras: is for 32 px and patches of 16 px; stage discriminator has 64 and 16"
    ):
        loop.train(config, photos, tmp_path / "other", phase="discriminator")


def test_stages_grow_and_d_is_built_anew(photos, tmp_path):
    config = make_config()
    config.stages = default.stages(
        config,
        small=default.stage("completion", steps=1, **default.size(16)),
        large=default.stage("completion", steps=1, known_weight=1.0),
        d_large=default.stage("discriminator", steps=1),
        joint=default.stage("joint", steps=1, optimizer=default.adam(1e-3)),
    )
    assert loop.train(config, photos, tmp_path)
    assert [line["stage"] for line in lines(tmp_path) if "images_per_second" in line] == list(config.stages)
    assert sorted(path.name for path in tmp_path.glob("*.keras")) == [f"{phase}.keras" for phase in stages.PHASES]


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_checkpoint(photos, tmp_path):
    config = make_config()
    config.stages.completion.optimizer.learning_rate = 1e30
    with pytest.raises(UserError, match=r"^step \d+: .*not.*finite.*no checkpoint was saved yet"):
        loop.train(config, photos, tmp_path, phase="completion")
    assert not (tmp_path / "checkpoints").exists()


def test_fewer_photos_than_a_batch(photos, tmp_path):
    config = make_config()
    config.batch_size = 19
    with pytest.raises(UserError, match="18 photos to train on, fewer than one batch of 19"):
        loop.train(config, photos, tmp_path)


def test_broken_photos_stop_training_with_one_line(photos, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in photos.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "broken.jpg").write_text("no photo")
    config = make_config()
    config.data.mean_pixel = (0.5, 0.5, 0.5)  # so that training itself meets the file
    config.data.validation_photos = 0
    with pytest.raises(UserError, match=r"1 of 21 photos cannot be decoded, more than 1%.*broken\.jpg"):
        loop.train(config, folder, tmp_path / "run")


def test_two_replicas_in_float16_train_all_phases(photos, tmp_path):
    config = make_config(steps=1)
    config.precision = "mixed_float16"
    assert loop.train(config, photos, tmp_path, strategy="mirrored")
    last = [line for line in lines(tmp_path) if "adversarial_loss" in line][-1]
    assert last["loss_scale"] >= 1 and np.isfinite(last["completion_loss"])
    model = model_file.load(tmp_path / "joint.keras")
    assert all(layer.compute_dtype == "float32" for layer in model.layers)


def test_broken_validation_photos_are_left_out(photos, tmp_path, caplog):
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "broken.png").write_text("no photo")
    (tmp_path / "val" / "good.png").write_bytes((photos / "0.png").read_bytes())
    assert loop.train(make_config(1), photos, tmp_path / "run", phase="completion", val_dir=tmp_path / "val")
    assert "left out: " in caplog.text and (tmp_path / "run" / "samples" / "0000001.png").is_file()


def test_places_that_cannot_be_written(photos, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--workdir=.*file.*cannot be made"):
        loop.train(make_config(), photos, tmp_path / "file" / "run")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config=configs/no.py"], "--config=configs/no.py: there is no such file"),
        (["--config=tiny", "--config.batch=3"], "--config.batch: .*did you mean batch_size"),
        (["--config=configs/tiny.py", "--config.hole=3"], "--config.hole: is a group of fields"),
        (["--config=configs/tiny.py", "--config.batch_size=x"], "--config.batch_size=x: invalid literal"),
        (["--config=configs/tiny.py", "--config.patch_size=64"], "patch_size 64 is larger than image_size 32"),
        (["--config=configs/tiny.py", "--phase=first"], "--phase=first"),
        ([], "missing: --config"),
    ],
)
def test_wrong_flags_give_one_line(photos, tmp_path, glcic, monkeypatch, flags, message):
    monkeypatch.chdir(ROOT)
    command = [*flags, f"--data_dir={photos}", f"--workdir={tmp_path / 'run'}"]
    code, _, err = glcic(*command, name="train.py", command="train")
    assert code != 0 and not (tmp_path / "run").exists()
    assert len(err.strip().splitlines()) == 1, err
    assert re.search(message, err), err
