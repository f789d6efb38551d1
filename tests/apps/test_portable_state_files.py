"""Saved states: what they keep, how many stay, and what is said of one that is damaged."""

import hashlib
import io
import json
import os
import zipfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from portable_helpers import assert_same, fails, newest, train

from glcic_tf.apps.portable import state_files
from glcic_tf.common.errors import UserError

pytest_plugins = ["portable_helpers"]


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
    with pytest.raises(UserError, match="holds .* and is not a saved state alone"):
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
    "manifest": "state.json: is not JSON; the state is damaged: take an older one",
    "no manifest": "is not a saved state (state.json: No such file or directory); name the folder of one",
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
