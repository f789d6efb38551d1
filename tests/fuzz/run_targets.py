"""What a training run keeps: checkpoints, portable state and bundles, records for curves."""

import hashlib
import json
import random
import shutil
from types import SimpleNamespace

from mutators import spoil, spoil_json, spoil_zip


def _tiny_config():
    from glcic_tf.configs import default, tiny

    config = tiny.get_config()
    config.update(default.size(16))
    config.hole.min_px, config.hole.max_px = 4, 6
    config.batch_size = 2
    return config


def make_checkpoints(folder):
    import tensorflow as tf

    from glcic_tf.training import stages
    from glcic_tf.training.run import Run

    config = _tiny_config()
    resolved = stages.resolve(config)
    run = Run(config, resolved, tf.distribute.get_strategy(), folder / "run")
    run.begin([0.4, 0.5, 0.6], 3, "0" * 64)
    run.state.enter(resolved[0])
    for step in (1, 2):
        run.state.step.assign(step)
        run.saver.save(run.state, resolved[0])
    return SimpleNamespace(folder=folder / "run", config=config, stages=resolved, run=run)


def spoil_checkpoints(made, folder, rng):
    """Spoil a file of a run's folder, or the notes in its newest checkpoint."""
    output = folder / "run"
    shutil.copytree(made.folder, output)
    if rng.random() < 0.3:
        from glcic_tf.training.checkpoints import Checkpoints

        store = Checkpoints(output / "checkpoints")
        _, notes = store.latest()
        try:
            notes = json.loads(spoil_json(json.dumps(notes).encode(), rng))
        except (ValueError, RecursionError):
            notes = {}
        made.run.state.step.assign(3)
        store.save(made.run.state, notes)
    else:
        path = rng.choice(sorted(path for path in output.rglob("*") if path.is_file()))
        path.write_bytes((spoil_json if path.suffix == ".json" else spoil)(path.read_bytes(), rng))
    return made, output


def read_checkpoints(given):
    import tensorflow as tf

    from glcic_tf.training.run import Run

    made, output = given
    run = Run(made.config, made.stages, tf.distribute.get_strategy(), output)
    run.stages_to_do("all")
    if run.latest:
        run.state, run.saver.meta = made.run.state, dict(made.run.saver.meta)
        run._resume(SimpleNamespace(paths=[1, 2, 3]))


def make_portable(folder):
    from glcic_tf.apps.portable import bundle, state_files
    from glcic_tf.training import checkpoints, stages

    state = make_checkpoints(folder).run.state
    config = _tiny_config()
    parts = checkpoints.parts(state)
    arrays = {f"{part}/{k}": v.numpy() for part, held in parts.items() if part != "step" for k, v in held.items()}
    position = {"step": 3, "stage": 0, "phase": "completion", "completion_stage": 0, "config": stages.to_dict(config)}
    position |= {"mean_pixel": [0.4, 0.5, 0.6], "photos": 3, "fingerprint": "0" * 64, "network": None}
    (folder / "bundle").mkdir()
    state_files.save(folder / "bundle" / "state", arrays, position, bits=16)
    (folder / "bundle" / "programs").mkdir()
    entries = []
    for stage in stages.resolve(config):
        (folder / "bundle" / "programs" / f"{stage.name}.hlo").write_bytes(b"program")
        entries.append(
            {
                "stage": bundle.stage_fields(stage),
                "program": {"file": f"{stage.name}.hlo", "sha256": hashlib.sha256(b"program").hexdigest()},
                "arguments": ["image", "n"],
                "variables": [
                    {"name": "completion/bn/moving", "shape": [5], "dtype": "float32", "first": {"constant": 0}}
                ],
                "results": ["bad_step"],
                "replaces": [[1, 2]],
                "fresh": ["discriminator"],
            }
        )
    manifest = {"format": bundle.FORMAT, "made_with": {}, "config": stages.to_dict(config), "stages": entries}
    manifest |= {"mean_pixel": [0.4, 0.5, 0.6], "photos": 3, "fingerprint": "0" * 64, "validation": "held_out"}
    bundle.write_manifest(folder / "bundle", manifest | {"steps_per_call": 4, "state": position})
    return folder / "bundle"


def spoil_portable(made, folder, rng):
    output = folder / "bundle"
    shutil.copytree(made, output)
    path = rng.choice([output / "bundle.json", *sorted((output / "state").iterdir())])
    spoiler = {".json": spoil_json, ".npz": spoil_zip}[path.suffix]
    path.write_bytes(spoiler(path.read_bytes(), rng))
    if path.suffix == ".npz" and rng.random() < 0.8:
        position = json.loads((path.parent / "state.json").read_text())
        position["files"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
        (path.parent / "state.json").write_text(json.dumps(position))
    return output


def read_portable(output):
    from glcic_tf.apps.portable import restore, run_bundle, state_files
    from glcic_tf.apps.portable.bundle import Bundle

    opened = Bundle(output)
    for entry in opened.manifest["stages"]:
        opened.program(entry)
        for variable in entry["variables"]:
            run_bundle._first_value(variable)
    run_bundle._start(opened, state_files.Saved(output.with_name("none")), None)
    restore.restore(output / "state", output.with_name("run"))


def make_curves(folder):
    from glcic_tf.training import stages
    from glcic_tf.training.stats import StatsFile

    folder.mkdir(parents=True)
    config = _tiny_config()
    (folder / "config.json").write_text(json.dumps(stages.to_dict(config)))
    log = StatsFile(folder / "stats.jsonl")
    for step in range(10, 60, 10):
        stage = next(stage for stage in stages.resolve(config) if step <= stage.start + stage.steps)
        log.append(
            step, stage, {"completion_loss": 1 / step, "val_psnr_hole": 12.0, "images_per_second": 8.0, "d_real": 0.1}
        )
    return folder


def spoil_curves(made, folder, rng):
    output = folder / "run"
    shutil.copytree(made, output)
    if rng.random() < 0.5:
        path = output / "config.json"
        path.write_bytes(spoil_json(path.read_bytes(), rng))
    else:
        path = output / "stats.jsonl"
        lines = path.read_bytes().splitlines()
        for _ in range(rng.choice((1, 2, 5))):
            place = rng.randrange(len(lines))
            lines[place] = spoil_json(lines[place], rng) if rng.random() < 0.8 else spoil(lines[place], rng)
            lines[place] = lines[place] or b"{}"
            try:
                json.loads(lines[place])
            except (ValueError, RecursionError):
                lines[place:place] = [b'{"step": 1}']
        path.write_bytes(b"\n".join(lines))
    return output


def read_curves(output):
    from glcic_tf.apps import curves

    records = curves.join([curves.read(output), curves.read(output)])
    curves.plot(records, output.with_name("out.png"), random.Random(len(records)).choice(("step", "minutes")))
