"""The bundle: what is read of it, and what is said of it when it is broken or does not fit a state."""

import dataclasses
import hashlib
import json
import shutil

import numpy as np
from portable_helpers import KERNEL, PER_CALL, assert_same, fails, newest, train

from glcic_tf.apps.portable import bundle as bundle_module
from glcic_tf.apps.portable import pjrt, run_bundle, state_files
from glcic_tf.apps.portable.bundle import Bundle
from glcic_tf.training import stages

pytest_plugins = ["portable_helpers"]


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
    assert opened.stages == stages.resolve(config)
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
    fails(capsys, f"{folder}/state: is not a saved state (state.json: No such file", folder, photos, tmp_path / "o")


def test_a_program_has_the_parameters_of_its_arguments(bundle):
    program = pjrt.Program((bundle / "programs" / "joint.hlo").read_bytes(), "joint")
    assert program.parameters[:2] == [(np.uint8, (PER_CALL, 4, 16, 16, 3)), (np.uint8, (PER_CALL, 4, 16, 16, 1))]
    assert program.parameters[5:] == [(np.float32, (3, 1)), (np.int64, ()), (np.float32, KERNEL), (np.float32, KERNEL)]
    assert program.flops > 0 and program.memory_bytes > 0
    assert run_bundle._first_value(
        {"shape": [2], "dtype": "float32", "first": {"values": [1, 2]}, "name": "x"}
    ).tolist() == [
        1,
        2,
    ]
