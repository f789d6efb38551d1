"""A toy bundle, and what the tests of it share: its programs are JAX's own, and NumPy can compute their result.

A test module takes the fixtures with `pytest_plugins = ["portable_helpers"]`.
"""

import functools
import hashlib
import json
import shutil
import sys
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glcic_tf.__main__ import main
from glcic_tf.apps.portable import bundle as bundle_module
from glcic_tf.apps.portable import feed, pjrt, state_files
from glcic_tf.data import sources
from glcic_tf.training import stages

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


@pytest.fixture(scope="module")
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
def bundle(tmp_path_factory, config, photos, _compile_once):
    folder = tmp_path_factory.mktemp("bundle")
    (folder / "programs").mkdir()
    shapes = [[3, 1], [], list(KERNEL), list(KERNEL)]
    firsts = [{"draw": 3}, {"constant": 0}, {"draw": 1}, {"constant": 0}]
    fresh = [["completion_optimizer"], ["discriminator"], ["completion_optimizer"]]  # as if another one came
    entries = []
    for stage in stages.resolve(config):
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
            "config": stages.to_dict(config),
            "mean_pixel": [0.4, 0.5, 0.6],
            "photos": 12,
            "fingerprint": sources.fingerprint(sorted(photos.iterdir())),
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
    argv = ["glcic", "portable", "run", f"--bundle={bundle}", f"--data_dir={photos}", f"--output={output}", *flags]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", argv)
        main()
    return ended.value.code or 0


def fails(capsys, message, bundle, photos, output, *flags):
    """Run the command; it must fail with one line that has `message`."""
    capsys.readouterr()
    assert train(bundle, photos, output, *flags) == 1
    out, err = capsys.readouterr()
    said = [line for line in err.splitlines() if line.startswith("glcic portable run: ")]
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
