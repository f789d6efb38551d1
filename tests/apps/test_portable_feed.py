"""The photos and batches of a run: the ones that train.py would take, from a folder or a tar."""

import contextlib
import shutil
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from portable_helpers import MIRROR, PER_CALL, STEPS, assert_same, fails, newest, train

from glcic_tf.apps.portable import feed
from glcic_tf.data import examples, sources
from glcic_tf.training import stages

pytest_plugins = ["portable_helpers"]


@pytest.mark.parametrize(
    "form",
    ["missing", "empty", "no tar", "tar cut", "tar.gz cut", "tar.gz broken", "tar.xz broken", "tar above", "few"],
)
def test_photos_that_cannot_be_had_are_one_line(form, bundle, photos, tmp_path, capsys):
    data, message = tmp_path / "data", "cannot be unpacked"
    if form == "missing":
        message = "data: expected a folder of photos, found nothing"
    elif form in ("empty", "few"):
        data.mkdir()
        message = "holds no photo" if form == "empty" else "3 photos to train on, fewer than one batch of 4"
        for path in sorted(photos.iterdir())[: 3 if form == "few" else 0]:
            shutil.copy(path, data)
    elif form == "no tar":
        data.write_text("no tar")
    elif form in ("tar cut", "tar.gz cut"):
        with tarfile.open(data, "w:gz" if form == "tar.gz cut" else "w") as archive:
            archive.add(photos, "photos")
        data.write_bytes(data.read_bytes()[:10_000])
    elif form in ("tar.gz broken", "tar.xz broken"):
        with tarfile.open(data, f"w:{form[4:6]}") as archive:
            archive.add(photos, "photos")
        content = bytearray(data.read_bytes())
        content[5000:5100] = bytes(100)
        data.write_bytes(content)
    elif form == "tar above":
        with tarfile.open(data, "w") as archive:
            archive.add(photos / "00.png", "../../above.png")
    fails(capsys, message, bundle, data, tmp_path / "out")
    assert not (tmp_path / "out" / "state").exists() and not (tmp_path.parent / "above.png").exists()


def test_a_tar_equals_its_folder(bundle, photos, tmp_path, capsys):
    with tarfile.open(tmp_path / "photos.tar.gz", "w:gz") as archive:
        archive.add(photos, "some/folder")
    assert train(bundle, photos, tmp_path / "folder", "--steps=3") == 0
    assert train(bundle, tmp_path / "photos.tar.gz", tmp_path / "tar", "--steps=3") == 0
    assert_same(newest(tmp_path / "folder")[0], newest(tmp_path / "tar")[0])
    assert "warning" not in capsys.readouterr().err
    with feed.folder(tmp_path / "photos.tar.gz") as unpacked:
        assert len(list(Path(unpacked).rglob("*.png"))) == 12
    assert not Path(unpacked).exists()


def test_other_photos_are_told(bundle, photos, tmp_path, capsys):
    (tmp_path / "more").mkdir()
    for path in photos.iterdir():
        shutil.copy(path, tmp_path / "more" / f"x{path.name}")
    assert train(bundle, tmp_path / "more", tmp_path / "out", "--steps=1") == 0
    assert "warning: these 12 photos are not the 12 that the bundle was made with" in capsys.readouterr().err


def test_photos_are_held_out_as_train_py_does(bundle, config, tmp_path):
    rng = np.random.default_rng(0)
    for i in range(30):
        assert cv2.imwrite(str(tmp_path / f"{i:02}.png"), rng.integers(0, 256, (20, 20, 3), dtype=np.uint8))
    config = config.copy_and_resolve_references()
    config.data.validation_photos = 2
    expected, held_out = sources.find(config, tmp_path, None, 4)
    manifest = {"config": stages.to_dict(config), "validation": "held_out", "photos": 28, "fingerprint": ""}
    said = []
    assert feed.find(manifest, tmp_path, 4, 0.0, said.append).paths == expected.paths
    assert len(expected.paths) == 28 and len(held_out.paths) == 2 and len(said) == 1
    said.clear()
    manifest |= {"validation": "folder", "fingerprint": sources.fingerprint(sorted(tmp_path.iterdir()))}
    assert len(feed.find(manifest, tmp_path, 4, 0.0, said.append).paths) == 30 and not said


@pytest.mark.parametrize(("begin", "end"), [(0, 5), (1, 5), (2, 4), (4, 5)])
def test_calls_have_the_batches_of_their_steps(begin, end, config, photos):
    stage = stages.resolve(config)[1]
    begin, end = stage.start + begin, stage.start + end
    read = examples.Photos(sorted(photos.iterdir()))
    with ThreadPoolExecutor(3) as pool:
        made = list(feed.calls(read, stage, config.seed, MIRROR, begin, end, PER_CALL, pool))
    assert [n for n, _ in made] == [min(PER_CALL, end - step) for step in range(begin, end, PER_CALL)]
    for step, (n, arrays) in zip(range(begin, end, PER_CALL), made, strict=True):
        assert len(arrays) == 4
        for i in range(n):
            batch = examples.batch(read, stage, config.seed, step + i, MIRROR)
            for name, array in zip(("image", "mask", "patch", "real_patch"), arrays, strict=True):
                assert array.shape == (PER_CALL, *batch[name].shape) and array.dtype == batch[name].dtype
                np.testing.assert_array_equal(np.asarray(array)[i], batch[name], err_msg=name)


def test_closing_the_calls_early_leaves_no_thread(config, photos):
    stage = stages.resolve(config)[0]
    before = threading.active_count()
    with ThreadPoolExecutor(2) as pool:
        made = feed.calls(examples.Photos(sorted(photos.iterdir())), stage, 0, False, 0, STEPS, 1, pool)
        with contextlib.closing(made):
            next(made)
            assert threading.active_count() > before
    assert threading.active_count() == before


def test_an_error_while_batches_are_made_arrives_and_leaves_no_thread(bundle, photos, tmp_path, capsys):
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos" / "05.png").write_text("no photo")
    before = threading.active_count()
    fails(capsys, "1 of 12 photos cannot be decoded, more than 1%", bundle, tmp_path / "photos", tmp_path / "out")
    assert threading.active_count() == before


def test_cached_photos_are_those_of_the_files_and_stay_within_their_room(photos, monkeypatch):
    read = examples.Photos(sorted(photos.iterdir()))
    one = read.read(0).nbytes
    decoded = []
    original = examples.Photos.read
    monkeypatch.setattr(examples.Photos, "read", lambda self, i, *more: decoded.append(i) or original(self, i, *more))
    cached = feed._CachedPhotos(read, 3.5 * one)
    for _ in range(3):
        for i in range(4):
            np.testing.assert_array_equal(cached.read(i), original(read, i))
    assert sorted(decoded) == [0, 1, 2, 3, 3, 3]
    assert cached._room >= 0
