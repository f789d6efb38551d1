"""`glcic complete` on URLs: the same bytes as on folders of this machine."""

import json

import numpy as np
import pytest

from glcic_tf.common.errors import UsageError, UserError
from glcic_tf.completion.folder import infer
from glcic_tf.imaging import images
from glcic_tf.networks import model_file
from tests.common.web_server import serving
from tests.small_networks import completion_network

pytestmark = pytest.mark.slow

HEIGHT, WIDTH = 31, 42
NAMES = ("a.png", "ö #1.jpg", "sub dir/c.png")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "small.keras"
    model_file.save(completion_network(1 / 16), path, {"hole_min_px": 4, "hole_max_px": 6})
    return path


@pytest.fixture(scope="module")
def done(tmp_path_factory, model):
    """A folder with photos/, masks/, mask.png and, of these on this machine, done/."""
    folder, rng = tmp_path_factory.mktemp("done"), np.random.default_rng(0)
    for name in NAMES:
        for kind in ("photos", "masks"):
            (folder / kind / name).parent.mkdir(parents=True, exist_ok=True)
        images.write_image(folder / "photos" / name, rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))
        hole = np.zeros((HEIGHT, WIDTH), np.uint8)
        hole[8:14, 10:20] = 255
        images.write_image(folder / "masks" / f"{name}.png", hole)
    images.write_image(folder / "mask.png", hole)
    assert infer(folder / "photos", folder / "masks", folder / "done", model) == 0
    (folder / "photos" / "broken.png").write_text("hello")
    return folder


@pytest.fixture(params=["memory", "web"])
def source(request, done):
    """URL of what is in `done`."""
    if request.param == "memory":
        request.getfixturevalue("memory").put(str(done), "/in/", recursive=True)
        yield f"memory://in/{done.name}"
    else:
        with serving(done) as (url, _):
            yield url.replace("://", "://me:secret@")


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_folders_give_the_bytes_of_local_ones(source, memory, model, done, tmp_path, capsys):
    given, report = (f"{source}/photos", f"{source}/masks/"), tmp_path / "out.jsonl"
    assert infer(*given, "memory://out/x", model, report=report) == 1
    shown = capsys.readouterr()
    place = source.replace("me:secret@", "")
    assert shown.out.startswith("3 of 4 photos done in ") and "secret" not in shown.out + shown.err
    assert f"{place}/photos/broken.png: there is no mask of this name among the masks" in shown.err
    assert infer(*given, tmp_path / "here", model) == 1
    for name in NAMES:
        expected = (done / "done" / name).read_bytes()
        assert memory.cat(f"/out/x/{name}") == (tmp_path / "here" / name).read_bytes() == expected
    reported = lines(report)
    assert "secret" not in report.read_text() and len(reported) == 4
    assert sorted(line["output"] for line in reported if line["status"] == "done") == [
        f"memory://out/x/{name}" for name in sorted(NAMES)
    ]

    memory.rm("/out/x/a.png")
    assert infer(*given, "memory://out/x", model, skip_existing=True, report=report) == 1
    assert capsys.readouterr().out.endswith(" s, 2 skipped, 1 failed\n")
    assert sorted(line["status"] for line in lines(report)[4:]) == ["done", "failed", "skipped", "skipped"]
    assert memory.cat("/out/x/a.png") == (done / "done" / "a.png").read_bytes()


def test_one_photo(source, memory, model, done, capsys):
    call = f"{source}/photos/a.png", f"{source}/masks/a.png.png", "memory://out/one.png", model
    assert infer(*call) == 0
    assert capsys.readouterr().out.startswith(f"memory://out/one.png: {WIDTH} x {HEIGHT} px, 0.0 MB; hole ")
    assert memory.cat("/out/one.png") == (done / "done" / "a.png").read_bytes()
    with pytest.raises(UserError, match="memory://out/one.png: exists already; add --overwrite"):
        infer(*call)
    memory.pipe("/out/one.png", b"old")
    assert infer(*call, overwrite=True) == 0
    assert memory.cat("/out/one.png") == (done / "done" / "a.png").read_bytes()


def test_a_photo_that_fails_is_named_by_its_url(source, memory, model, capsys):
    assert infer(f"{source}/photos", f"{source}/mask.png", "memory://out", model) == 1
    shown = capsys.readouterr().err
    assert f"{source.replace('me:secret@', '')}/photos/broken.png: is not an image that can be read" in shown
    assert "secret" not in shown and "/tmp" not in shown


def test_photos_masks_and_outputs_in_one_folder(memory, model, done, capsys):
    memory.put(str(done / "photos" / "a.png"), "/all/a.png")
    memory.put(str(done / "mask.png"), "/all/a_mask.png")
    for _ in range(2):
        assert infer("memory://all", "memory://all/", "memory://all/done", model, overwrite=True) == 0
        assert capsys.readouterr().out.startswith("1 of 1 photos done")
    assert memory.cat("/all/done/a.png") == (done / "done" / "a.png").read_bytes()


@pytest.mark.parametrize(
    ("image", "mask", "output", "said"),
    [
        ("memory://none", "alpha", "memory://out", "--image=memory://none: there is no such file or folder"),
        ("memory://in", "memory://none", "memory://out", "--mask=memory://none: there is no such file or folder"),
        (
            "memory://in",
            "alpha",
            "memory://in/a.png",
            "--output=memory://in/a.png: is a file, but --image=memory://in is",
        ),
        ("memory://in/a.png", "memory://in", "memory://b.png", "--mask=memory://in: is a folder, but --image="),
        ("memory://in/a.png", "alpha", "memory://out", "memory://out: found no suffix; expected an image name"),
        ("memory://in", "alpha", "http://host/out", "http://host/out: web servers are read from alone"),
        ("memory://empty", "alpha", "memory://out", "--image=memory://empty: holds no photo"),
    ],
)
def test_what_cannot_be_done(image, mask, output, said, memory, model):
    memory.pipe({"/in/a.png": b"hello", "/empty/a.txt": b""})
    with pytest.raises(UserError, match=f"^{said}"):
        infer(image, mask, output, model)
    assert sorted(memory.store) == ["/empty/a.txt", "/in/a.png"]


def test_a_report_stays_here(memory, model):
    memory.pipe("/in/a.png", b"")
    with pytest.raises(UsageError, match="--report=memory://r.jsonl: is a URL; expected a path of this machine"):
        infer("memory://in", "alpha", "memory://out", model, report="memory://r.jsonl")
