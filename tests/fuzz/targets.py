"""What the campaigns read: a table of targets, each with sound files, a way to spoil them, and what reads them."""

import contextlib
import dataclasses
import hashlib
import io
import json
import random
import shutil
import sys
import typing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from mutators import spoil, spoil_json, spoil_zip
from requests_to_pages import Servers, send_request, spoil_request

sys.path[:0] = [str(Path(__file__).parents[1] / name) for name in ("convert", "imaging", "apps")]

MEGABYTE = 10**6
MAX_PIXELS = 4 * MEGABYTE


@dataclasses.dataclass(frozen=True)
class Target:
    """A kind of files.

    Attributes:
        name: in the table.
        make: function of a folder that need not exist -> whatever `spoil` takes.
        spoil: function of that, an empty folder and a random.Random -> what `read` takes.
        read: reads it; raises UserError for what it refuses.
        small: how many inputs `make test` does.
        max_bytes: memory that one input may take.
        close: function of what `make` returned, when the campaign ends.
        processes: function of what `make` returned -> those whose memory and time count, as /proc names them.
    """

    name: str
    make: typing.Callable
    spoil: typing.Callable
    read: typing.Callable
    small: int
    max_bytes: int = 400 * MEGABYTE
    close: typing.Callable = lambda made: None
    processes: typing.Callable = lambda made: ("self",)


def _one_file(spoiler):
    """Spoil one of several (name, bytes), and write it."""

    def spoil_one(made, folder, rng):
        name, data = rng.choice(made)
        path = folder / name
        path.write_bytes(spoiler(data, rng))
        return path

    return spoil_one


def _make_images(folder):
    from PIL import Image
    from test_image_files import HEIC

    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize((90, 70), Image.Resampling.BICUBIC)
    grey, alpha = smooth.convert("L"), smooth.copy()
    alpha.putalpha(grey)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    wide = Image.fromarray(rng.integers(0, 2**16, (40, 50), np.uint16))
    made = [
        ("a.jpg", smooth, {"exif": exif, "dpi": (300, 300), "comment": b"text"}),
        ("b.jpg", smooth, {"progressive": True, "icc_profile": _profile()}),
        ("c.jpg", grey, {"quality": 30}),
        ("d.jpg", smooth.convert("CMYK"), {}),
        (
            "e.jpg",
            smooth,
            {"subsampling": 0, "restart_marker_rows": 1, "xmp": b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"},
        ),
        ("f.png", smooth, {"exif": exif, "icc_profile": _profile(), "dpi": (72, 72)}),
        ("g.png", alpha, {}),
        ("h.png", wide, {}),
        ("i.png", smooth.quantize(16), {"transparency": 3}),
        ("j.png", smooth, {"save_all": True, "append_images": [smooth.rotate(9), smooth.rotate(90)]}),
        ("k.png", grey.convert("1"), {}),
        ("l.webp", smooth, {"exif": exif}),
        ("m.webp", alpha, {"lossless": True, "icc_profile": _profile()}),
        ("n.webp", smooth, {"save_all": True, "append_images": [smooth.rotate(9)]}),
        ("o.tif", smooth, {"compression": "tiff_lzw"}),
        ("p.tif", wide, {"save_all": True, "append_images": [wide]}),
        ("q.tif", smooth, {"compression": "jpeg"}),
        ("r.tif", smooth.convert("CMYK"), {"compression": "packbits"}),
        ("s.tif", grey.convert("1"), {"compression": "group4"}),
        ("t.gif", smooth.quantize(32), {"save_all": True, "append_images": [smooth.rotate(9).quantize(32)]}),
        ("u.bmp", smooth, {}),
        ("v.bmp", smooth.quantize(16), {}),
        ("w.mpo", smooth, {"save_all": True, "append_images": [smooth.rotate(9)]}),
        ("x.avif", smooth, {"quality": 60}),
        ("y.avif", smooth, {"save_all": True, "append_images": [smooth.rotate(9)]}),
    ]
    files = []
    for name, picture, options in made:
        file = io.BytesIO()
        kind = {"jpg": "JPEG", "tif": "TIFF"}.get(name[2:], name[2:].upper())
        picture.save(file, kind, **options)
        files.append((name, file.getvalue()))
    return [*files, ("z.heic", HEIC)]


def _profile():
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _read_image(path):
    """As completing and training do: with metadata, and written again."""
    from glcic_tf.common.errors import UserError
    from glcic_tf.imaging import images

    number = path.stat().st_size % 4
    if number == 0:
        images.read_photo(path, MAX_PIXELS, shorter_edge_px=16)
    elif number == 1:
        images.read_mask(path, MAX_PIXELS)
    else:
        opened = images.open_image(path, MAX_PIXELS)
        output = path.with_name(f"out{opened.suffix}")
        images.write_image(output, opened.pixels, metadata=opened.metadata)
        try:
            again = images.read_image(output, MAX_PIXELS)
        except UserError as error:
            raise AssertionError(f"what was written cannot be read: {error}") from error
        assert again.shape[:2] == opened.pixels.shape[:2]


def _make_model(folder):
    from glcic_tf.networks import model_file
    from glcic_tf.networks.completion import completion_network

    folder.mkdir(parents=True)
    model_file.save(completion_network(1 / 16), folder / "model.keras", {"hole_min_px": 4})
    return [("model.keras", (folder / "model.keras").read_bytes())]


def _read_model(path):
    from glcic_tf.networks import model_file

    model_file.read_metadata(path)
    model_file.load(path)


def _make_torch7(folder):
    import published_files
    import published_weights
    import torch7_writer as writer

    release = published_files.as_torch7(published_weights.torch7_release(0, 1 / 32))
    return [("small.t7", writer.dumps(writer.network()[0])), ("release.t7", writer.dumps(release))]


def _make_torch(folder):
    import published_files
    import published_weights
    import torch_writer as writer

    folder.mkdir(parents=True)
    mmagic = published_weights.mmagic_completion(0, 1 / 32)
    states = {
        "pytorch": writer.state_dict(published_files.tensors(published_weights.glcic_pytorch_completion(0, 1 / 32))),
        "mmagic": {"state_dict": published_files.tensors(mmagic)},
    }
    files = []
    for name, value in states.items():
        files.append((f"{name}.pth", writer.write_zip(folder / f"{name}.pth", value).read_bytes()))
        files.append((f"{name}_old.pth", writer.write_legacy(folder / f"{name}_old.pth", value).read_bytes()))
    return files


def _spoil_torch(made, folder, rng):
    name, data = rng.choice(made)
    path = folder / name
    path.write_bytes((spoil_zip if data[:2] == b"PK" else spoil)(data, rng))
    return path


def _read_weights(path):
    from glcic_tf.convert import conversion

    (settings := path.with_name("config.json")).write_text('{"mpv": [0.4, 0.5, 0.6]}')
    conversion.convert(path, path.with_name("out.keras"), settings=settings)


def _make_shards(folder):
    from PIL import Image

    from glcic_tf.data.prepare import prepare_folder

    (folder / "photos").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(6):
        small = Image.fromarray(rng.integers(0, 256, (3, 4, 3), np.uint8)).resize(
            (40 + i, 36), Image.Resampling.BICUBIC
        )
        small.save(folder / "photos" / f"{i}.jpg", quality=90)
    prepare_folder.prepare(folder / "photos", folder / "shards", shard_mb=0.003, processes=1)
    return folder


def _spoil_shards(made, folder, rng):
    """Spoil one of the files; half of the time, what the index says of it is made true again."""
    output = folder / "shards"
    shutil.copytree(made / "shards", output)
    paths = sorted(path for path in output.rglob("*") if path.is_file())
    path = rng.choice(
        [path for path in paths if path.name != "index.json"] if rng.random() < 0.7 else [output / "index.json"]
    )
    content = path.read_bytes()
    path.write_bytes((spoil_json if path.suffix == ".json" else spoil)(content, rng))
    index = output / "index.json"
    if path != index and path.parent == output and rng.random() < 0.7:
        told = json.loads(index.read_text())
        entry = next((e for e in [*told["shards"], told["table"]] if e.get("file", "index.bin") == path.name), {})
        entry |= {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        index.write_text(json.dumps(told))
    return made / "photos", output


def _read_shards(given):
    from glcic_tf.common.errors import UserError
    from glcic_tf.data import shards
    from glcic_tf.data.prepare import merge

    _, output = given
    with contextlib.suppress(UserError):
        merge.verify(output)
    opened, failure = shards.Shards(output), None
    for number in range(min(len(opened.table), 50)):
        opened.label(number)
        try:
            opened.photo(number)
        except UserError as error:
            failure = error
    list(opened.photos().file_names())
    if failure:
        raise failure


def _spoil_parts(made, folder, rng):
    output = folder / "shards"
    shutil.copytree(made / "shards", output)
    (output / "index.json").unlink()
    paths = sorted(path for path in output.rglob("*") if path.is_file())
    path = rng.choice(paths)
    path.write_bytes((spoil_json if path.suffix == ".json" else spoil)(path.read_bytes(), rng))
    return output


def _read_parts(output):
    from glcic_tf.data import shards
    from glcic_tf.data.prepare import merge

    merge.merge(output)
    shards.Shards(output)


def _tiny_config():
    from glcic_tf.configs import default, tiny

    config = tiny.get_config()
    config.update(default.size(16))
    config.hole.min_px, config.hole.max_px = 4, 6
    config.batch_size = 2
    return config


def _make_checkpoints(folder):
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


def _spoil_checkpoints(made, folder, rng):
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


def _read_checkpoints(given):
    import tensorflow as tf

    from glcic_tf.training.run import Run

    made, output = given
    run = Run(made.config, made.stages, tf.distribute.get_strategy(), output)
    run.stages_to_do("all")
    if run.latest:
        run.state, run.saver.meta = made.run.state, dict(made.run.saver.meta)
        run._resume(SimpleNamespace(paths=[1, 2, 3]))


def _make_portable(folder):
    from glcic_tf.apps.portable import bundle, state_files
    from glcic_tf.training import checkpoints, stages

    state = _make_checkpoints(folder).run.state
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


def _spoil_portable(made, folder, rng):
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


def _read_portable(output):
    from glcic_tf.apps.portable import restore, run_bundle, state_files
    from glcic_tf.apps.portable.bundle import Bundle

    opened = Bundle(output)
    for entry in opened.manifest["stages"]:
        opened.program(entry)
        for variable in entry["variables"]:
            run_bundle._first_value(variable)
    run_bundle._start(opened, state_files.Saved(output.with_name("none")), None)
    restore.restore(output / "state", output.with_name("run"))


def _make_study(folder):
    from study_helpers import PROTOCOL, make_photos

    from glcic_tf.apps.study import answers
    from glcic_tf.apps.study.picture_set import prepare

    study = prepare(make_photos(folder / "photos", 6), folder / "study", PROTOCOL, (), ("telea",), items=4, practice=1)
    store = answers.Answers(folder / "study", study)
    for name in ("Ann", "Ben"):
        number, _ = store.participant(store.join(name))
        for item in study.order(number)[: 3 + number]:
            store.add(number, item.id, number == 1, 500.0)
    store._db.execute("PRAGMA journal_mode = DELETE")
    store.close()
    return folder / "study"


def _spoil_study(made, folder, rng):
    output = folder / "study"
    shutil.copytree(made, output)
    path = output / ("study.json" if rng.random() < 0.4 else "answers.sqlite")
    path.write_bytes((spoil_json if path.suffix == ".json" else spoil)(path.read_bytes(), rng))
    return output


def _read_study(output):
    import asyncio

    from glcic_tf.apps.study import study_report, study_server

    study_report.report(output, output.with_name("report"))
    application = study_server.app(output)
    for token in (None, "unknown"):
        asyncio.run(_ask(application, "/api/state", token))
    asyncio.run(_ask(application, "/api/join", None, b'{"name": "Cy"}'))


async def _ask(application, path, cookie, body=None):
    """Ask an ASGI application without a network; a status from 500 on is told by a refusal of its own."""
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    headers += [(b"cookie", f"study={cookie}".encode())] if cookie else []
    scope = {"type": "http", "method": "POST" if body else "GET", "path": path, "root_path": "", "headers": headers}
    scope |= {"query_string": b"", "raw_path": path.encode(), "scheme": "http", "server": ("localhost", 80)}

    async def receive():
        return {"type": "http.request", "body": body or b"", "more_body": False}

    async def send(message):
        pass

    await application(scope, receive, send)


def _make_curves(folder):
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


def _spoil_curves(made, folder, rng):
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


def _read_curves(output):
    from glcic_tf.apps import curves

    records = curves.join([curves.read(output), curves.read(output)])
    curves.plot(records, output.with_name("out.png"), random.Random(len(records)).choice(("step", "minutes")))


def _make_servers(folder):
    return Servers(folder, _make_study(folder))


TARGETS = {
    target.name: target
    for target in (
        Target("images", _make_images, _one_file(spoil), _read_image, 250, 16 * MAX_PIXELS + 100 * MEGABYTE),
        Target("models", _make_model, _one_file(spoil_zip), _read_model, 8),
        Target("torch7", _make_torch7, _one_file(spoil), _read_weights, 40),
        Target("torch", _make_torch, _spoil_torch, _read_weights, 40),
        Target("shards", _make_shards, _spoil_shards, _read_shards, 40),
        Target("parts", _make_shards, _spoil_parts, _read_parts, 40),
        Target("checkpoints", _make_checkpoints, _spoil_checkpoints, _read_checkpoints, 15),
        Target("portable", _make_portable, _spoil_portable, _read_portable, 20),
        Target("study", _make_study, _spoil_study, _read_study, 20),
        Target("curves", _make_curves, _spoil_curves, _read_curves, 10),
        Target(
            *("requests", _make_servers, spoil_request, send_request, 150),
            close=Servers.close,
            processes=lambda servers: [process.pid for process in servers.processes],
        ),
    )
}
