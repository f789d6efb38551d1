"""The exported step: what JAX does with it is what train.py does, and its state comes back whole.

In less than float64 two runtimes part soon: a ReLU whose input rounds to the other side of 0 moves these small
networks' weights by 1e-4, and ADADELTA grows that. So whole courses are compared in float64; float32 and 16 bit step by
step, each from the same state, with activations that have no corner: what rounds how depends on the processor.
"""

import fcntl
import functools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
import small_networks
import tensorflow as tf

import train as train_script
from glcic_tf.apps.portable import export_bundle, pjrt, restore, run_bundle, state_files
from glcic_tf.apps.portable.bundle import Bundle
from glcic_tf.common import config_file
from glcic_tf.common.errors import UserError
from glcic_tf.data import dataset, examples, sources
from glcic_tf.networks import completion, discriminator, model_file
from glcic_tf.training import checkpoints, loop, stages, steps, train_state

ROOT = Path(train_script.__file__).parent
STEPS, PER_CALL = 20, 8
MEAN_PIXEL = (0.4, 0.5, 0.6)
REAL_NETWORK = completion.completion_network

# Two kinds of optimiser, a loss and a learning rate that change from step to step, and crops that may be mirrored.
CONFIG = f"""
from glcic_tf.configs import default, tiny


def get_config():
    config = tiny.get_config()
    config.update(default.size(16))
    config.hole.min_px, config.hole.max_px = 4, 6
    config.data.mirror, config.data.mean_pixel = True, {MEAN_PIXEL}
    config.stages = default.stages(
        config,
        completion=default.stage("completion", steps={STEPS}, known_weight=0.5),
        discriminator=default.stage(
            "discriminator", steps={STEPS}, discriminator_optimizer=default.adam(1e-3, warmup_steps=5)
        ),
        joint=default.stage("joint", steps={STEPS}, known_weight=0.25, known_weight_end=0.5),
    )
    return config
"""

# Runs the module with imports of all that only train.py needs forbidden.
ALONE = """
import runpy, sys
FORBIDDEN = {"tensorflow", "keras", "ml_collections", "tqdm", "tensorboard", "skimage"}

class Forbid:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in FORBIDDEN:
            raise AssertionError(f"{name} was imported")

sys.meta_path.insert(0, Forbid())
runpy.run_module("glcic_tf", run_name="__main__")
"""


def once(tmp_path_factory, name, make):
    """Make a folder once for all processes of this session of tests."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    with open(root / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = root / name
        if not folder.exists():
            make(folder)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    def make(folder):
        folder.mkdir()
        rng = np.random.default_rng(0)
        for i in range(20):
            small = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
            assert cv2.imwrite(str(folder / f"{i:02}.png"), cv2.resize(small, (36, 24), interpolation=cv2.INTER_CUBIC))

    return once(tmp_path_factory, "portable-photos", make)


@pytest.fixture(scope="module")
def config_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "config.py"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def config(config_path):
    return config_file.load(config_path)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, photos, config_path):
    """A bundle of a run that starts anew, as the command writes it."""

    def make(folder):
        command = [
            sys.executable,
            "-m",
            "tests.small_networks",
            "portable",
            "export",
            "--config",
            config_path,
            "--data_dir",
            photos,
        ]
        command += ["--workdir", folder / "run", "--output", folder / "bundle", f"--steps_per_call={PER_CALL}"]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert result.returncode == 0, result.stderr

    return once(tmp_path_factory, "portable-bundle", make) / "bundle"


@pytest.fixture(scope="module", autouse=True)
def _small_and_compiled_once():
    """To trace and compile takes longer than anything else here."""
    compile_ = functools.cache(functools.partial(pjrt.Program, name="test"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(completion, "completion_network", small_networks.completion_network)
        patch.setattr(pjrt, "Program", lambda hlo, name: compile_(hlo))
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory, photos, bundle):
    """A run under JAX that nothing interrupted."""
    return once(tmp_path_factory, "portable-finished", lambda folder: train(bundle, photos, folder))


def train(bundle, photos, output, **options):
    return run_bundle.run(bundle, photos, output, log_every_steps=5, **options)


def newest(output):
    return state_files.Saved(Path(output) / "state").latest(pytest.fail)


def flat(state):
    return {name: variable.numpy() for name, variable in export_bundle._flat(state).items()}


def call(program, entry, arrays, batches, n):
    """Call a program as the manifest says, on NumPy arrays by name: (results, arrays after it)."""
    inputs = [np.stack([batch[name] for batch in batches]) for name in entry["arguments"][:-1]]
    names = [variable["name"] for variable in entry["variables"]]
    values = [*inputs, np.int32(n), *(arrays[name] for name in names)]
    outputs = [pjrt.get(output) for output in program([pjrt.put(value) for value in values])]
    after = {names[parameter - len(entry["arguments"])]: outputs[result] for result, parameter in entry["replaces"]}
    return dict(zip(entry["results"], outputs, strict=False)), {**arrays, **after}


def difference(ours, theirs):
    """Norm of the difference of two dicts of arrays by part and kind of variable, as a share of the second's."""
    groups = {}
    for name in theirs:
        part, path = name.split("/", 1) if "/" in name else (name, name)
        kind = "accumulated_" + path.rsplit("accumulated_", 1)[1] if "accumulated_" in path else ""
        squares = groups.setdefault((part, kind), [0.0, 0.0])
        ours_, theirs_ = (np.asarray(arrays[name], np.float64) for arrays in (ours, theirs))
        squares[0] += np.sum((ours_ - theirs_) ** 2)
        squares[1] += np.sum(theirs_**2)
    return {group: (error / max(size, 1e-30)) ** 0.5 for group, (error, size) in groups.items()}


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name].dtype == theirs[name].dtype, name
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def lines(output):
    return [json.loads(line) for line in (output / "stats.jsonl").read_text().splitlines()]


def entry_of(bundle, phase):
    opened = Bundle(bundle)
    stage = next(stage for stage in opened.stages if stage.phase == phase)
    return opened, stage, opened.manifest["stages"][opened.stages.index(stage)]


@pytest.fixture
def smooth_networks(monkeypatch):
    """Networks with softplus in the place of ReLU."""

    def smooth(build):
        def built(*args, **arguments):
            network = build(*args, **arguments)
            for layer in network.layers:
                if getattr(layer, "activation", None) is keras.activations.relu:
                    layer.activation = keras.activations.softplus
            return network

        return built

    for module, name in ((completion, "completion_network"), (discriminator, "context_discriminator")):
        monkeypatch.setattr(module, name, smooth(getattr(module, name)))


@pytest.mark.parametrize(("phase", "depth"), [*((phase, "small") for phase in stages.PHASES), ("completion", "real")])
def test_each_float32_step_equals_that_of_train_py(phase, depth, config, photos, tmp_path, monkeypatch, request):
    if depth == "real":
        monkeypatch.setattr(completion, "completion_network", REAL_NETWORK)
    request.getfixturevalue("smooth_networks")
    stage = next(stage for stage in stages.resolve(config) if stage.phase == phase)
    train_photos, _ = sources.find(config, photos, None, stage.batch_size)
    state = train_state.TrainState(config, MEAN_PIXEL, tf.distribute.get_strategy())
    state.enter(stage)
    state.step.assign(stage.start)
    (tmp_path / "programs").mkdir()
    entry = export_bundle._entry(state, stage, [], PER_CALL, tmp_path)
    program = pjrt.Program((tmp_path / "programs" / entry["program"]["file"]).read_bytes(), phase)
    loop = steps.make_loop(state, stage)
    iterator = iter(dataset.batches(train_photos, stage, config.seed, stage.start, config.data.mirror))
    for step in range(stage.start, stage.end if depth == "small" else stage.start + 2):
        batch = examples.batch(train_photos, stage, config.seed, step, config.data.mirror)
        results, after = call(program, entry, flat(state), [batch] * PER_CALL, 1)
        expected = {name: value.numpy() for name, value in loop(iterator, tf.constant(1)).items()}
        assert results.keys() == expected.keys() - {"waited"} and int(results["bad_step"]) == -1
        for name, value in results.items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-4, err_msg=f"step {step}: {name}")
        for group, share in difference(after, flat(state)).items():
            assert share < 1e-4, (step, group)


@pytest.fixture
def double_precision(monkeypatch):
    monkeypatch.setattr(stages, "POLICIES", ("float64",))
    keras.config.set_floatx("float64")


@pytest.mark.usefixtures("double_precision")
def test_60_float64_steps_through_all_phases_equal_those_of_train_py(config, photos, tmp_path):
    config = config.copy_and_resolve_references()
    config.precision, config.discriminator.use_global = "float64", False
    config.r1_gamma, config.feature_matching_weight = 1.0, 0.5
    config.equal_phases, config.average_decay = True, 0.9
    config.optimizer.clip_norm = config.discriminator_optimizer.clip_norm = 1e-3
    export_bundle.export(config, photos, tmp_path / "run", tmp_path / "bundle", steps_per_call=PER_CALL)
    train_photos, _ = sources.find(config, photos, None, config.batch_size)
    state = train_state.TrainState(config, MEAN_PIXEL, tf.distribute.get_strategy())
    for stage in stages.resolve(config):
        out = tmp_path / "out"
        assert run_bundle.run(tmp_path / "bundle", photos, out, stage.phase, log_every_steps=1)
        state.enter(stage)
        loop = steps.make_loop(state, stage)
        iterator = iter(dataset.batches(train_photos, stage, config.seed, stage.start, config.data.mirror))
        logged = [line for line in lines(out) if line["stage"] == stage.name]
        assert [line["step"] for line in logged] == [stage.start + n for n in (8, 16, 20)]
        for line, n in zip(logged, (8, 8, 4), strict=True):
            expected = loop(iterator, tf.constant(n))
            for name in steps.METRICS[stage.phase]:
                np.testing.assert_allclose(line[name], expected[name], rtol=1e-6, err_msg=name)  # these are float32
        arrays, position = newest(out)
        expected = flat(state)
        assert position["step"] == expected.pop("step") == stage.end
        assert arrays.keys() == expected.keys()
        for name, value in expected.items():
            assert value.dtype == arrays[name].dtype
            if name.startswith(("completion/deconv", "average/deconv")) and name.endswith("/kernel"):
                sums = [value[row::2, column::2].sum((0, 1)) for row in (0, 1) for column in (0, 1)]
                np.testing.assert_allclose(sums, np.broadcast_to(sums[0], np.shape(sums)), atol=1e-7)
            np.testing.assert_allclose(arrays[name], value, rtol=1e-9, atol=1e-10, err_msg=name)


@pytest.mark.usefixtures("smooth_networks")
def test_a_step_in_16_bit_is_as_near_to_32_bit_as_that_of_train_py(config, photos, tmp_path):
    """TensorFlow rounds between any two operations, XLA between those that it does not fuse: each has its own noise."""
    stage = stages.resolve(config)[-1]
    train_photos, _ = sources.find(config, photos, None, stage.batch_size)
    batch = examples.batch(train_photos, stage, config.seed, stage.start, config.data.mirror)
    (tmp_path / "programs").mkdir()

    def step(policy):
        changed = config.copy_and_resolve_references()
        changed.precision, changed.discriminator.use_global = policy, False
        state = train_state.TrainState(changed, MEAN_PIXEL, tf.distribute.get_strategy())
        state.enter(stage)
        state.step.assign(stage.start)
        before = flat(state)
        entry = export_bundle._entry(state, stage, [], 1, tmp_path) if policy != "float32" else None
        advance, start = steps.make_advance(state, stage)
        metrics = steps.means(advance({name: tf.constant(value) for name, value in batch.items()}, start()), 1)
        return entry, before, {name: value.numpy() for name, value in metrics.items()}, flat(state)

    *_, exact_metrics, exact = step("float32")
    for policy, roundoff in (("mixed_bfloat16", 2**-9), ("mixed_float16", 2**-12)):
        entry, before, expected, theirs = step(policy)
        assert sorted(variable["name"] for variable in entry["variables"]) == sorted(before)
        assert_first_values(entry, before)
        content = (tmp_path / "programs" / entry["program"]["file"]).read_bytes()
        results, ours = call(pjrt.Program(content, policy), entry, before, [batch], 1)
        for name in steps.METRICS["joint"]:  # means of what a handful of roundings moved
            np.testing.assert_allclose(results[name], expected[name], rtol=4 * roundoff, err_msg=name)
            np.testing.assert_allclose(results[name], exact_metrics[name], rtol=8 * roundoff, err_msg=name)
        of_theirs = difference(theirs, exact)
        assert of_theirs["completion_optimizer", "accumulated_grad"] > roundoff  # it is computed in 16 bit
        for group, share in difference(ours, exact).items():
            assert share <= 1.5 * of_theirs[group], (policy, group)
        scales = [name for name in before if "loss_scale" in name]
        assert len(scales) == (4 if policy == "mixed_float16" else 0)
        assert_same({name: ours[name] for name in scales}, {name: theirs[name] for name in scales})


def assert_first_values(entry, fresh):
    for variable in entry["variables"]:
        name, value = variable["name"], run_bundle._first_value(variable)
        assert [list(value.shape), str(value.dtype)] == [variable["shape"], variable["dtype"]], name
        if name != "step" and not name.endswith("/learning_rate"):  # these are set anyway
            np.testing.assert_array_equal(value, fresh[name], err_msg=name)


@pytest.mark.parametrize("phase", stages.PHASES)
def test_a_bundle_without_a_state_begins_as_train_py_does(phase, bundle, config):
    opened, stage, entry = entry_of(bundle, phase)
    assert stage == next(s for s in stages.resolve(config) if s.phase == phase)
    assert opened.manifest["state"] is None and not (bundle / "state").exists()
    state = train_state.TrainState(config, MEAN_PIXEL, tf.distribute.get_strategy())
    state.enter(stage)
    assert_first_values(entry, flat(state))
    assert (
        entry["fresh"]
        == {
            "completion": ["completion_optimizer", "completion_optimizer_loss_scale"],
            "discriminator": ["discriminator", "discriminator_optimizer", "discriminator_optimizer_loss_scale"],
            "joint": ["discriminator_optimizer", "discriminator_optimizer_loss_scale"],  # Adam before, ADADELTA now
        }[phase]
    )


def run_alone(bundle, photos, output, *flags, killed_at_file=0):
    """Run the command in a process that cannot import TensorFlow; the k-th file of a state that it writes kills it."""
    killer = f"""
import glcic_tf.apps.portable.state_files as state_files, os, signal
real, written = state_files._checksum, []
def checksum(path):
    written.append(path)
    if len(written) == {killed_at_file}:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(path)
state_files._checksum = checksum
"""
    script, *imports = ALONE.rsplit("\n", 2)
    command = [sys.executable, "-c", "\n".join([script, killer, *imports]), "portable", "run", "--bundle", bundle]
    command += ["--data_dir", photos, "--output", output, *flags]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert "Traceback" not in result.stderr, result.stderr
    return result


def test_killed_without_tensorflow_and_resumed_equals_uninterrupted(bundle, photos, tmp_path, finished):
    """SIGKILL while a state is written, in the first phase; the last phase in two parts of another number of calls."""
    killed = run_alone(bundle, photos, tmp_path, "--save_minutes=0", killed_at_file=4)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    _, position = newest(tmp_path)
    assert position["step"] == PER_CALL < STEPS
    assert train(bundle, photos, tmp_path, phase="completion")
    alone = run_alone(bundle, photos, tmp_path, "--phase=discriminator")
    assert alone.returncode == 0 and "the discriminator phase done: step 40" in alone.stderr
    assert not train(bundle, photos, tmp_path, steps=3)
    assert newest(tmp_path)[1]["step"] == 43
    assert train(bundle, photos, tmp_path)
    (ours, ours_at), (theirs, theirs_at) = newest(tmp_path), newest(finished)
    assert_same(ours, theirs)
    assert ours_at == theirs_at | {"files": ours_at["files"]} and ours_at["step"] == 3 * STEPS
    assert not [path for path in (tmp_path / "state").iterdir() if not path.name.startswith("step-")]


def test_a_run_from_networks_in_16_bit_begins_its_optimisers_anew(bundle, photos, tmp_path, finished, capsys):
    assert not train(bundle, photos, tmp_path, steps=4, state=finished / "state" / f"step-{2 * STEPS:08d}")
    capsys.readouterr()
    assert not train(bundle, photos, tmp_path, steps=4, bits=16, parts="networks")
    assert "begins anew" not in capsys.readouterr().err
    arrays, position = newest(tmp_path)
    assert {name.split("/")[0] for name in arrays} == {"completion", "discriminator"}
    assert position["step"] == 2 * STEPS + 8 and position["stage"] == 2
    assert all(np.array_equal(array, array.astype(np.float16)) for array in arrays.values())
    assert not train(bundle, photos, tmp_path, steps=4)
    assert "joint: begins anew: completion_optimizer, discriminator_optimizer\n" in capsys.readouterr().err
    resumed, _ = newest(tmp_path)
    assert int(resumed["completion_optimizer/iteration"]) == 4
    assert int(resumed["discriminator_optimizer/iteration"]) == 4
    assert all(np.isfinite(array).all() for array in resumed.values())
    assert {name.split("/")[0]: None for name in resumed}.keys() == {n.split("/")[0] for n in newest(finished)[0]}


def checkpoint(workdir):
    """Every variable of the newest checkpoint by the name that a state has for it, and the notes."""
    path, meta = checkpoints.Checkpoints(workdir / "checkpoints").latest()
    reader = tf.train.load_checkpoint(path)
    found = {}
    for key in reader.get_variable_to_shape_map():
        name = key.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE").replace(".S", "/")
        if name not in ("meta", "save_counter", "_CHECKPOINTABLE_OBJECT_GRAPH"):
            found[name] = reader.get_tensor(key)
    return found, meta


def test_import_and_export_lose_nothing_and_train_py_goes_on(bundle, config, photos, tmp_path, finished, monkeypatch):
    """In the middle of the second phase, where C's optimiser is of another stage than D's."""
    out, imported, again = (tmp_path / name for name in ("out", "imported", "again"))
    assert not train(bundle, photos, out, steps=STEPS + 17)
    arrays, _ = newest(out)
    command = [sys.executable, "-m", "tests.small_networks", "portable", "import"]
    command += [f"--state={out}", f"--workdir={imported}"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0 and result.stdout == f"{imported}: is at step {STEPS + 17}\n", result.stderr
    stored, meta = checkpoint(imported)
    assert_same(stored, arrays | {"step": np.array(STEPS + 17)})
    assert (meta["phase"], meta["stage"], meta["completion_stage"]) == ("discriminator", 1, 0)
    model = model_file.load(imported / "discriminator.keras")
    assert_same(
        {v.path: v.numpy() for v in model.variables}, {v.path: arrays[f"completion/{v.path}"] for v in model.variables}
    )

    # Its bundle has the state, and what comes back of it is the same again.
    monkeypatch.setattr(
        export_bundle, "_entry", lambda state, stage, fresh, *_: {"variables": [], "stage": {}, "fresh": fresh}
    )
    export_bundle.export(config, photos, imported, tmp_path / "bundle")
    assert json.loads((tmp_path / "bundle" / "bundle.json").read_text())["stages"][0]["fresh"] == []
    exported, position = state_files.load(tmp_path / "bundle" / "state")
    assert_same(exported, arrays)
    assert restore.restore(tmp_path / "bundle" / "state", again) == STEPS + 17
    assert_same(checkpoint(again)[0], stored)
    assert checkpoint(again)[1] == meta

    # train.py and JAX go on alike.
    assert loop.train(config, photos, again, phase="discriminator")
    assert train(bundle, photos, tmp_path / "jax", state=tmp_path / "bundle" / "state", phase="discriminator")
    stored, _ = checkpoint(again)
    assert stored.pop("step") == 2 * STEPS
    for group, share in difference(newest(tmp_path / "jax")[0], stored).items():
        assert share < 1e-3, group
    assert_same(newest(tmp_path / "jax")[0], state_files.load(finished / "state" / f"step-{2 * STEPS:08d}")[0])

    # What would go back, or over something else, is refused.
    with pytest.raises(UserError, match=f"--workdir={again}: is at step 40 already, the state at 37"):
        restore.restore(out, again)
    with pytest.raises(UserError, match="bundle: exists already; add --overwrite"):
        export_bundle.export(config, photos, again, tmp_path / "bundle")
    with pytest.raises(UserError, match="there is nothing left to train: step 40 of 60"):
        export_bundle.export(config, photos, again, tmp_path / "other", phase="discriminator")
    changed = config.copy_and_resolve_references()
    changed.width = 1 / 8
    with pytest.raises(UserError, match=r"another config: config\.width was 0\.0625, is 0\.125"):
        export_bundle.export(changed, photos, again, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_finished_run_comes_back_with_all_its_parts(photos, config, tmp_path, finished):
    assert restore.restore(finished, tmp_path) == 3 * STEPS
    arrays, _ = newest(finished)
    assert_same(checkpoint(tmp_path)[0], arrays | {"step": np.array(3 * STEPS)})
    assert {name.split("/")[0] for name in arrays} == {
        "completion",
        "completion_optimizer",
        "discriminator",
        "discriminator_optimizer",
    }
    assert (tmp_path / "joint.keras").is_file() and (tmp_path / "savedmodel").is_dir()
    assert loop.train(config, photos, tmp_path)  # nothing is left to do
    with pytest.raises(UserError, match="nothing left to train: step 60 of 60"):
        export_bundle.export(config, photos, tmp_path, tmp_path / "bundle")


def test_a_state_without_optimisers_is_taken_back_with_a_notice(bundle, tmp_path, finished, caplog):
    arrays, position = newest(finished)
    state_files.save(tmp_path / "state", arrays, position | {"step": 59}, "networks", 16)
    assert restore.restore(tmp_path / "state", tmp_path / "run") == 59
    assert "begins anew, since the state lacks it: completion_optimizer, discriminator_optimizer" in caplog.text
    stored, _ = checkpoint(tmp_path / "run")
    name = "completion/conv4/kernel"
    np.testing.assert_array_equal(stored[name], arrays[name].astype(np.float16).astype(np.float32))
    assert not stored["completion_optimizer/conv4_kernel_accumulated_grad"].any()

    # An array that is missing or of another shape is named.
    arrays["completion/conv4/kernel"] = np.zeros((3, 3, 1, 1), np.float32)
    state_files.save(tmp_path / "state", arrays, position)
    with pytest.raises(UserError, match=r"the state's completion/conv4/kernel: found \[3, 3, 1, 1\], expected"):
        restore.restore(tmp_path / "state", tmp_path / "other")
    with pytest.raises(UserError, match="holds no state that can be read"):
        (tmp_path / "empty" / "state").mkdir(parents=True)
        restore.restore(tmp_path / "empty", tmp_path / "other")
