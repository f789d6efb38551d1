"""study.prepare: balance, the same set again, files that do not tell the truth, bad input."""

import json
import shutil
from collections import Counter

import cv2
import numpy as np
import pytest
from PIL import Image
from study_helpers import PROTOCOL, make_photos

from glcic_tf.apps.study import manifest
from glcic_tf.apps.study.picture_set import prepare
from glcic_tf.common.errors import UserError
from glcic_tf.evaluation import baselines, protocols
from glcic_tf.imaging import images
from glcic_tf.networks import model_file
from glcic_tf.networks.completion import completion_network

METHODS = ("telea", "mean_colour")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """24 usable photos, a copy of one of them, one too small, one broken."""
    folder = make_photos(tmp_path_factory.mktemp("photos"), 24)
    shutil.copy(folder / "03.png", folder / "copy.png")
    images.write_image(folder / "small.png", np.zeros((20, 50, 3), np.uint8))
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff hello")
    return folder


@pytest.fixture(scope="module")
def study(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / "study"
    return folder, prepare(photos, folder, PROTOCOL, (), METHODS, items=16, practice=3, seed=5)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_set_is_balanced_and_no_photo_is_shown_twice(study):
    _, made = study
    assert Counter(item.method for item in made.items) == {None: 8, "telea": 4, "mean_colour": 4}
    assert [item.kind == "real" for item in made.items] == [item.method is None for item in made.items]
    assert Counter(item.kind for item in made.practice) == {"real": 2, "completed": 1}
    shown = [item.photo for item in (*made.items, *made.practice)]
    assert len(set(shown)) == len(shown) == 19
    assert not {"small.png", "broken.jpg"} & set(shown)


def test_copies_of_a_photo_count_as_one(photos, tmp_path):
    made = prepare(photos, tmp_path / "all", PROTOCOL, (), ("telea",), practice=2)
    assert len(made.items) == 22  # of 24 different ones, without --items
    assert len({"03.png", "copy.png"} & {item.photo for item in (*made.items, *made.practice)}) == 1


def test_pictures_show_what_the_manifest_says(study, photos):
    folder, made = study
    assert manifest.read(folder) == made
    for item in (*made.items, *made.practice):
        job = protocols.Job(item.photo, photos / item.photo, PROTOCOL)
        original, hole = protocols.sample(job)
        expected = original
        if item.method:
            expected = baselines.METHODS[item.method](np.where(hole[..., None], 0, original).astype(np.uint8), hole)
        np.testing.assert_array_equal(images.read_photo(folder / "pictures" / f"{item.id}.png"), expected)


def test_same_seed_gives_the_same_bytes_and_another_another_set(study, photos, tmp_path):
    folder, made = study
    prepare(photos, tmp_path / "again", PROTOCOL, (), METHODS, items=16, practice=3, seed=5)
    assert contents(tmp_path / "again") == contents(folder)
    other = prepare(photos, tmp_path / "other", PROTOCOL, (), METHODS, items=16, practice=3, seed=6)
    assert {item.photo for item in other.items} != {item.photo for item in made.items}
    assert not {item.id for item in other.items} & {item.id for item in made.items}


def test_files_do_not_tell_the_truth(study):
    folder, made = study
    files = sorted((folder / "pictures").iterdir())
    assert [path.stem for path in files] == sorted(item.id for item in (*made.items, *made.practice))
    assert len({len(path.name) for path in files}) == 1
    assert len({(path.stat().st_size, path.stat().st_mtime_ns) for path in files}) == 1
    for path in files:
        with Image.open(path) as picture:
            assert (picture.mode, picture.info) == ("RGB", {})
        chunks = path.read_bytes()
        assert chunks.count(b"tEXt") == chunks.count(b"tIME") == chunks.count(b"eXIf") == 0
    # Neither the ids in order nor the manifest's order separate the kinds.
    kinds = {item.id: item.kind for item in made.items}
    for order in (list(kinds), sorted(kinds)):
        row = [kinds[id] for id in order]
        assert row not in (sorted(row), sorted(row, reverse=True))


def test_participants_have_orders_of_their_own(study):
    _, made = study
    orders = [[item.id for item in made.order(number)] for number in (1, 2, 1)]
    assert orders[0] == orders[2] != orders[1]
    assert orders[0][:3] == orders[1][:3] == [item.id for item in made.practice]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(made.all_items())


def test_models_complete_too(photos, tmp_path):
    model_file.save(completion_network(1 / 16), tmp_path / "real.keras")
    prepare(photos, tmp_path / "study", PROTOCOL, [tmp_path / "real.keras"], ("telea",), items=4, practice=0)
    made = manifest.read(tmp_path / "study")
    # The model's short name would stand for the real pictures in the report.
    assert made.methods == (str(tmp_path / "real.keras"), "telea")
    assert Counter(item.method for item in made.items) == {None: 2, made.methods[0]: 1, "telea": 1}


def test_a_photo_that_a_method_fails_on_is_replaced(photos, tmp_path, monkeypatch, capsys):
    failed = []

    def fails_once(image, hole):
        if not failed:
            failed.append(True)
            raise RuntimeError("fails_once failed on 32 x 32 px")
        return image

    monkeypatch.setitem(baselines.METHODS, "fails_once", fails_once)
    made = prepare(photos, tmp_path / "study", PROTOCOL, (), ("fails_once",), items=8, practice=0)
    assert Counter(item.kind for item in made.items) == {"real": 4, "completed": 4}
    assert "another photo was taken" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"items": 6}, r"--items=6: expected a multiple of 4.*take 4 or 8"),
        ({"items": 0}, r"--items=0: expected 2 to 2000"),
        ({"practice": -1}, r"--practice=-1"),
        ({"items": 40}, r"24 usable photos found .*2 copies|24 usable photos found .*1 copies"),
        ({"practice": 22}, r"24 usable photos found"),
        ({"methods": ("magic",)}, r"--methods=magic: expected some of telea"),
        ({"methods": ()}, r"--models, --methods: both are empty"),
        ({"models": ("nothing.keras",)}, r"--models=nothing.keras: there is no such file"),
        ({"folder": "/nothing"}, r"--images=/nothing: expected a folder of photos"),
        ({"output": ""}, r"--output: is empty"),
    ],
)
def test_bad_input_is_named_and_leaves_nothing(photos, tmp_path, changes, message):
    args = {"folder": photos, "output": tmp_path / "study", "models": (), "methods": METHODS, "items": None}
    with pytest.raises(UserError, match=message):
        prepare(**(args | {"protocol": PROTOCOL} | changes))
    assert list(tmp_path.iterdir()) == []


def test_only_a_study_without_answers_is_replaced(photos, tmp_path):
    args = (photos, tmp_path / "study", PROTOCOL, (), ("telea",))
    prepare(*args, items=2, practice=0)
    with pytest.raises(UserError, match="exists already; add --overwrite"):
        prepare(*args, items=4, practice=0)
    prepare(*args, items=4, practice=0, overwrite=True)
    assert len(manifest.read(tmp_path / "study").items) == 4
    (tmp_path / "study" / "answers.sqlite").write_bytes(b"")
    with pytest.raises(UserError, match="holds answers of participants"):
        prepare(*args, items=2, practice=0, overwrite=True)


def test_damaged_manifests_are_refused(study, tmp_path):
    folder = tmp_path / "study"
    with pytest.raises(UserError, match="holds no study.json; make a study with"):
        manifest.read(folder)
    shutil.copytree(study[0], folder)
    good = json.loads((folder / "study.json").read_text())
    path_as_id = [good["items"][0] | {"id": "../../../etc/pwd"}]
    bad = [
        b"",
        b"[]",
        b"\xff",
        *({**good, **c} for c in ({"format": 2}, {"items": []}, {"items": path_as_id}, {"x": 1})),
    ]
    bad += [{**good, "methods": []}, {**good, "practice": good["items"]}, {**good, "seed": "1"}]
    for content in bad:
        (folder / "study.json").write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        with pytest.raises(UserError, match=r"study\.json: is damaged or of another version"):
            manifest.read(folder)
    (folder / "study.json").write_text(json.dumps(good))
    next((folder / "pictures").iterdir()).unlink()
    with pytest.raises(UserError, match=r"\.png: is missing"):
        manifest.read(folder)


def test_uncompressed_files_have_one_size_whatever_they_show():
    flat, noise = np.zeros((33, 47, 3), np.uint8), np.random.default_rng(0).integers(0, 256, (33, 47, 3), np.uint8)
    sizes = {len(cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 0])[1]) for image in (flat, noise)}
    assert len(sizes) == 1
