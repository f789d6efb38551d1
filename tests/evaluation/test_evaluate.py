"""evaluate: one command over methods and photos of all kinds; the report, the same for any number of processes."""

import contextlib
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest

from glcic_tf.common.errors import UserError
from glcic_tf.evaluation import baselines, evaluate, fid, protocols, report
from glcic_tf.evaluation.measurements import Measurements
from glcic_tf.export import savedmodel
from glcic_tf.imaging import images
from glcic_tf.networks import model_file
from glcic_tf.networks.completion import completion_network

SCRIPT = Path(__file__).parents[2] / "evaluate.py"
PROTOCOL = protocols.Protocol("rectangle", 48, 12, 20)
METHODS = ("telea", "mean_colour")
MEASURE = evaluate.measure


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Five usable photos, one of them grey, one too small, one broken."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i, (height, width) in enumerate([(48, 60), (70, 48), (96, 96), (50, 52), (30, 90)]):
        small = rng.integers(0, 256, (5, 6, 3), np.uint8)
        images.write_image(folder / f"{i}.png", cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC))
    (folder / "sub").mkdir()
    images.write_image(folder / "sub" / "grey.png", rng.integers(0, 256, (60, 64), np.uint8))
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff hello")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "narrow.keras"
    model_file.save(completion_network(1 / 16), path)
    return path


def read_csv(folder):
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(photos, model, tmp_path_factory):
    output = tmp_path_factory.mktemp("reports") / "report"
    means = evaluate.evaluate(photos, output, PROTOCOL, [model], METHODS, ("none", "poisson"), workers=2)
    return output, means


def test_report_has_what_it_promises(finished):
    output, means = finished
    assert {path.name for path in output.iterdir()} == report.MEMBERS
    assert list(means) == ["narrow", "narrow+poisson", "telea", "mean_colour"]
    rows = read_csv(output)
    metrics = ["perceptual", "l1", "psnr_hole", "seam", "sharpness", "psnr", "ssim", "seconds"]
    assert list(rows[0]) == ["image", "method", *metrics]
    assert set(means["telea"]) == {*metrics, "kid", "grid2", "grid4", "grid8"}
    assert [row["image"] for row in rows[::4]] == ["0.png", "1.png", "2.png", "3.png", "sub/grey.png"]
    content = json.loads((output / "metrics.json").read_text())
    assert content["notes"][:3] == [
        "5 photos measured.",
        "1 photo skipped: smaller than 48 px.",
        "1 photo skipped: the photo or its mask cannot be used.",
    ]
    for method in means:
        own = [float(row["l1"]) for row in rows if row["method"] == method]
        figure = content["methods"][method]["l1"]
        assert figure["n"] == 5 and abs(figure["mean"] - np.mean(own)) < 1e-4
        assert figure["low"] <= figure["mean"] <= figure["high"]
        assert 0 < means[method]["perceptual"].mean < 20 and means[method]["kid"].n == 5
        assert means[method]["grid4"].n == 0  # no hole of at most 20 px holds a tile
    assert "Grid: not measured, as no hole has room for a square of 48 px." in content["notes"]
    for name in ("box_plots.png", "psnr_by_area.png"):
        assert min(images.read_image(output / name).shape[:2]) > 100


def test_page_shows_every_photo_and_method(finished):
    page = (finished[0] / "index.html").read_text(encoding="utf-8")
    assert len(re.findall(r'class="card\b', page)) == 5 and "sub/grey.png" in page and "narrow+poisson" in page


def test_any_number_of_processes_gives_the_same(photos, model, finished, tmp_path):
    evaluate.evaluate(photos, tmp_path / "again", PROTOCOL, [model], METHODS, ("none", "poisson"), workers=1)

    def without_times(folder):
        return [{k: v for k, v in row.items() if k != "seconds"} for row in read_csv(folder)]

    assert without_times(tmp_path / "again") == without_times(finished[0])
    for name in ("box_plots.png", "psnr_by_area.png"):
        assert (tmp_path / "again" / name).read_bytes() == (finished[0] / name).read_bytes()


def test_saved_models_are_methods_too(photos, model, tmp_path):
    savedmodel.savedmodel(model_file.load(model), tmp_path / "exported")
    means = evaluate.evaluate(photos, tmp_path / "r", PROTOCOL, [model, tmp_path / "exported"], (), workers=1)
    assert list(means) == ["narrow", "exported"]
    assert abs(means["narrow"]["l1"].mean - means["exported"]["l1"].mean) < 0.2


def test_perfect_and_failing_methods(photos, monkeypatch):
    """A perfect completion is capped and said so; a failure is named and does not stop the rest."""
    job = protocols.make_jobs([photos / "2.png"], PROTOCOL, photos)[0][0]
    original, hole = protocols.sample(job)

    def fail(image, hole):
        raise RuntimeError("bad failed: no memory\nmore")

    measured = evaluate.measure(job, {"perfect": lambda image, hole: original, "bad": fail}, False)
    found, failed = measured.found, measured.failed
    assert list(found) == ["perfect"]
    assert found["perfect"]["l1"] == 0 and found["perfect"]["ssim"] == 1 and found["perfect"]["psnr_hole"] == 99
    assert failed == [(photos / "2.png", "bad failed: no memory")]
    measurements = Measurements()
    measurements.add(job.name, measured)
    assert measurements.areas == {job.name: hole.mean()}
    measurements.add_failure("other.png", "bad failed: no memory")
    assert measurements.problems() == [f"{photos / '2.png'}: bad failed: no memory (and on 1 more photo)."]
    assert measurements.notes(48) == [
        "1 photo measured.",
        "2 completions failed.",
        "Perfect: 1 completion, whose PSNR counts as 99 dB.",
        "Grid: not measured, as no hole has room for a square of 48 px.",
    ]


@contextlib.contextmanager
def in_this_process(workers):
    """A pool that sees what a test patches."""
    with ThreadPoolExecutor(workers) as pool:
        pool.schedule = lambda function, args=(): pool.submit(function, *args)
        yield pool


def test_a_method_that_fails_everywhere_keeps_its_row(photos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "patchmatch", None)  # as if it was not installed
    monkeypatch.setattr(evaluate, "process_pool", in_this_process)
    means = evaluate.evaluate(photos, tmp_path / "r", PROTOCOL, [], ("patch_match", "telea"), workers=1)
    assert means["patch_match"]["l1"].n == 0 and means["telea"]["l1"].n == 5
    assert "needs the package" in (tmp_path / "r" / "index.html").read_text(encoding="utf-8")
    with pytest.raises(UserError, match=r"1 are smaller than 48 px, 1 cannot be used, 5 completions failed"):
        evaluate.evaluate(photos, tmp_path / "s", PROTOCOL, [], ("patch_match",), workers=1)


def test_names_that_need_care(photos, tmp_path, capsys):
    """A photo's name that is no text, a figure of an earlier report, the photos as masks, a method named twice."""
    folder = tmp_path / "photos"
    shutil.copytree(photos / "sub", folder)
    (folder / "grey.png").rename(folder / os.fsdecode(b"gr\xffy.png"))
    evaluate.evaluate(folder, folder / "r1", PROTOCOL, [], ("telea", "telea"), workers=1)
    assert [row["image"] for row in read_csv(folder / "r1")] == [r"gr\xffy.png"]
    evaluate.evaluate(folder, folder / "r2", PROTOCOL, [], ("telea",), workers=1)
    assert capsys.readouterr().out.count("1 photo measured.") == 2
    with pytest.raises(UserError, match="is the folder of the photos"):
        evaluate.evaluate(folder, tmp_path / "r", protocols.Protocol("files", 48, masks=folder / "."), [], ("telea",))


def measure_or_die(job, methods, *args):
    if job.name == "1.png" and methods == ["telea"]:
        os.kill(os.getpid(), signal.SIGKILL)  # as the system does when memory runs out
    return MEASURE(job, methods, *args)


def test_a_process_that_dies_costs_one_completion(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(evaluate, "measure", measure_or_die)
    means = evaluate.evaluate(photos, tmp_path / "r", PROTOCOL, [], METHODS, workers=2)
    assert means["telea"]["l1"].n == 4 and means["mean_colour"]["l1"].n == 5
    captured = capsys.readouterr()
    assert f"{photos / '1.png'}: telea failed: its process ended with -9." in captured.err
    assert "1 completion failed." in captured.out


def test_scale_reaches_the_models(photos, model, tmp_path, capsys):
    means = [evaluate.evaluate(photos, tmp_path / str(s), PROTOCOL, [model], (), scale=s, workers=1) for s in (1, 0.5)]
    assert means[0]["narrow"]["l1"] != means[1]["narrow"]["l1"]
    assert "Models complete with --scale=0.5" in capsys.readouterr().out


def test_fid_of_all_methods(photos, tmp_path, monkeypatch):
    """With a network of three features: the mean colours. FID is 0 only for what leaves them as they are."""
    image = keras.Input((299, 299, 3))
    network = keras.Model(image, keras.layers.GlobalAveragePooling2D()(image))
    monkeypatch.setattr(fid, "load_network", lambda weights: {"imagenet": network}[weights])
    means = evaluate.evaluate(
        photos, tmp_path / "r", PROTOCOL, [], ("telea", "mean_colour"), workers=1, fid_weights="imagenet"
    )
    assert 0 < means["telea"]["fid"].mean < means["mean_colour"]["fid"].mean and means["telea"]["fid"].n == 5
    assert "InceptionV3" in (tmp_path / "r" / "index.html").read_text(encoding="utf-8")


def test_no_method_sees_what_stood_in_the_hole(photos):
    job = protocols.make_jobs([photos / "2.png"], PROTOCOL, photos)[0][0]
    seen = []
    evaluate.measure(job, {"look": lambda image, hole: seen.append(image[hole]) or image}, False)
    assert (seen[0] == 0).all()


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"methods": ("telea", "magic")}, r"--methods=magic: expected some of telea, "),
        ({"methods": ()}, r"--models, --methods: both are empty"),
        ({"folder": ""}, r"--images: is empty"),
        ({"output": ""}, r"--output: is empty"),
        ({"models": ["none.keras"]}, r"--models=none\.keras: there is no such file"),
        ({"folder": "nowhere"}, r"--images=nowhere: expected a folder of photos, found nothing"),
        (
            {"protocol": protocols.Protocol("rectangle", 200, 12, 20)},
            r"none of 7 photos could be measured: 6 are smaller",
        ),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(photos, tmp_path, changed, match):
    call = {"folder": photos, "output": tmp_path / "report", "protocol": PROTOCOL, "models": [], "methods": ("telea",)}
    with pytest.raises(UserError, match=match) as error:
        evaluate.evaluate(**{**call, **changed}, workers=1)
    assert "\n" not in str(error.value) and list(tmp_path.iterdir()) == []


def test_existing_reports_and_others_things_are_not_deleted(photos, finished, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    for overwrite, match in ((False, "exists already; add --overwrite"), (True, "is not a report alone")):
        with pytest.raises(UserError, match=match):
            evaluate.evaluate(photos, tmp_path, PROTOCOL, [], ("telea",), overwrite=overwrite)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_from_the_command_line(photos, model, tmp_path, glcic, monkeypatch):
    masks = tmp_path / "masks"
    masks.mkdir()
    for i in range(2):  # fewer than photos
        mask = np.zeros((30, 30), np.uint8)
        mask[5 : 15 + 5 * i, 8:20] = 255
        images.write_image(masks / f"m{i}.png", mask)
    flags = [f"--images={photos}", f"--masks={masks}", "--holes=files", "--size=48", "--output=report", "--workers=1"]
    flags += [f"--models={model}", "--methods=telea"]
    command = [sys.executable, str(SCRIPT), *flags]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "masks were used up to 4 times" in done.stdout and re.search(r"^telea +\d", done.stdout, re.M)
    assert done.stderr.count("\n") == 1 and "broken.jpg" in done.stderr
    assert (tmp_path / "report" / "index.html").is_file()
    monkeypatch.chdir(tmp_path)
    code, _, err = glcic("evaluate", *flags)
    assert code == 1 and "exists already; add --overwrite" in err


def test_all_baselines_are_known_to_the_flags():
    assert set(baselines.METHODS) >= {"telea", "navier_stokes", "biharmonic", "shift_map", "patch_match"}
