"""Folders that are given again, what a run says it did, and where it computes."""

import json

import numpy as np
import pytest
import tensorflow as tf

from glcic_tf.common.errors import UsageError, UserError
from glcic_tf.completion import device_choice
from glcic_tf.completion.folder import infer
from glcic_tf.imaging import images
from glcic_tf.networks import model_file
from glcic_tf.networks.completion import completion_network

pytestmark = pytest.mark.slow

HEIGHT, WIDTH = 31, 42


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "narrow.keras"
    model_file.save(completion_network(1 / 16), path, {"hole_min_px": 4, "hole_max_px": 6})
    return path


@pytest.fixture
def photos(tmp_path):
    """Four photos in a folder, one of them broken, and a mask with a hole of 12 x 20 px."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos" / "sub").mkdir(parents=True)
    for name in ("a.png", "b.png", "sub/c.png"):
        images.write_image(tmp_path / "photos" / name, rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))
    (tmp_path / "photos" / "broken.png").write_text("hello")
    hole = np.zeros((HEIGHT, WIDTH), np.uint8)
    hole[8:20, 10:30] = 255
    images.write_image(tmp_path / "mask.png", hole)
    return tmp_path / "photos"


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_that_was_stopped_goes_on(model, photos, tmp_path, capsys):
    call, report = (photos, tmp_path / "mask.png", tmp_path / "done", model), tmp_path / "new" / "out.jsonl"
    assert infer(*call, report=report) == 1
    assert capsys.readouterr().out.startswith("3 of 4 photos done in ")
    first = lines(report)
    assert {line["file"]: line["status"] for line in first} == {
        str(photos / "a.png"): "done",
        str(photos / "b.png"): "done",
        str(photos / "broken.png"): "failed",
        str(photos / "sub" / "c.png"): "done",
    }
    done = next(line for line in first if line["file"].endswith("c.png"))
    assert done["output"] == str(tmp_path / "done" / "sub" / "c.png") and done["seconds"] > 0
    assert (done["width_px"], done["height_px"], done["holes"], done["hole_px"]) == (WIDTH, HEIGHT, 1, 12)
    assert done["scale"] == 0.5 and done["postprocess"] == ["texture"] and "12 px thick" in done["notes"][0]
    broken = next(line for line in first if line["status"] == "failed")
    assert "broken.png: is not an image" in broken["error"]

    kept = (tmp_path / "done" / "a.png").read_bytes()
    (tmp_path / "done" / "b.png").unlink()
    assert infer(*call, report=report, skip_existing=True) == 1
    shown = capsys.readouterr()
    assert shown.out.startswith("1 of 4 photos done in ") and shown.out.endswith(" s, 2 skipped, 1 failed\n")
    assert "exists already" not in shown.err
    again = lines(report)
    assert again[:4] == first
    assert sorted((line["file"], line["status"]) for line in again[4:]) == [
        (str(photos / "a.png"), "skipped"),
        (str(photos / "b.png"), "done"),
        (str(photos / "broken.png"), "failed"),
        (str(photos / "sub" / "c.png"), "skipped"),
    ]
    assert (tmp_path / "done" / "a.png").read_bytes() == kept

    (photos / "broken.png").unlink()
    assert infer(*call[:3], tmp_path / "no model is needed.keras", skip_existing=True) == 0
    assert capsys.readouterr().out.endswith(" s, 3 skipped\n")


def test_one_photo_says_what_was_done(model, photos, tmp_path, capsys):
    call = (photos / "a.png", tmp_path / "mask.png", tmp_path / "out.png", model)
    assert infer(*call, postprocess="none", report=tmp_path / "out.jsonl") == 0
    shown = capsys.readouterr()
    expected = (
        f"{tmp_path / 'out.png'}: 42 x 31 px, 0.0 MB; hole 12 px thick at 0.50 of the resolution, no post-process"
    )
    assert shown.out.startswith(f"{expected}; ") and shown.out.endswith(" s\n") and shown.out.count("\n") == 1
    assert shown.err.count("\n") == 1 and "12 px thick, but the network was trained on holes of 4 to 6 px" in shown.err
    assert infer(*call, skip_existing=True) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out.png'}: exists already, skipped\n"
    with pytest.raises(UserError, match="exists already; add --overwrite to replace it, --skip_existing to leave it"):
        infer(*call)
    with pytest.raises(UserError, match="broken.png"):
        infer(photos / "broken.png", *call[1:2], tmp_path / "new.png", model, report=tmp_path / "out.jsonl")
    assert [line["status"] for line in lines(tmp_path / "out.jsonl")] == ["done", "failed"]


def test_flags_that_cannot_be(model, photos, tmp_path):
    call = (photos, tmp_path / "mask.png", tmp_path / "done", model)
    with pytest.raises(UsageError, match="--overwrite and --skip_existing"):
        infer(*call, overwrite=True, skip_existing=True)
    with pytest.raises(UserError, match="--report=.*: cannot be written"):
        infer(*call, report=photos)
    assert not (tmp_path / "done").exists()


@pytest.mark.parametrize(
    ("name", "gpus", "expected"),
    [
        (None, 2, None),
        ("cpu", 0, []),
        ("cpu", 2, []),
        ("gpu", 2, ["GPU:0"]),
        ("gpu:1", 2, ["GPU:1"]),
        ("gpu", 0, "--device=gpu: TensorFlow sees no GPU on this machine; use another --device"),
        ("gpu:1", 1, "--device=gpu:1: TensorFlow sees 1 GPU on this machine"),
        ("gpu:2", 2, "--device=gpu:2: TensorFlow sees 2 GPUs on this machine"),
    ],
)
def test_devices(monkeypatch, name, gpus, expected):
    seen = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [f"{kind}:{n}" for n in range(gpus)])
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda devices, kind: seen.append((devices, kind)))
    if isinstance(expected, str):
        with pytest.raises(UserError, match=expected):
            device_choice.choose(name)
    else:
        device_choice.choose(name)
    assert seen == ([(expected, "GPU")] if isinstance(expected, list) else [])


def test_devices_that_cannot_be(monkeypatch):
    def too_late(*_):
        raise RuntimeError("Visible devices cannot be modified after being initialized")

    monkeypatch.setattr(tf.config, "set_visible_devices", too_late)
    with pytest.raises(UserError, match="--device=cpu: comes too late in this process"):
        device_choice.choose("cpu")
    with pytest.raises(UsageError, match="--device=gpu: with --cluster"):
        device_choice.choose("gpu", "local")
    device_choice.choose("cpu", None, "onnxruntime")  # which has nothing else
    for engine in ("onnxruntime", "auto"):
        with pytest.raises(UsageError, match=f"--device=gpu: --engine={engine} computes on the CPU"):
            device_choice.choose("gpu", None, engine)
    for wrong in ("tpu", "gpu:-1", "gpu:x", "cpu:1", ""):
        assert device_choice._parsed(wrong) is None


class WorkersThatAreLost:
    """A cluster whose workers write the output of each job, and are lost before they tell."""

    def workers(self, make, arguments, jobs):
        work = make(*arguments)
        for job in jobs:
            try:
                work(job)
                yield job, work(job, again=True), None
            except UserError as error:
                yield job, None, str(error)


def test_a_job_done_again_replaces_its_own_output_and_no_other(photos, model, tmp_path):
    output = tmp_path / "done"
    (output / "sub").mkdir(parents=True)
    (output / "sub" / "c.png").write_bytes(b"mine")
    report = tmp_path / "report.jsonl"
    assert infer(photos, tmp_path / "mask.png", output, model, report=report, cluster=WorkersThatAreLost()) == 2
    assert {line["output"].rpartition("/")[2] for line in lines(report) if line["status"] == "done"} == {
        "a.png",
        "b.png",
    }
    assert (output / "sub" / "c.png").read_bytes() == b"mine"
