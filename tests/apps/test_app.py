"""app.py without a browser: the endpoint for programs, hostile visitors, and what the buttons do to a photo."""

import contextlib
import http.client
import json
import struct
import threading
import urllib.error
import urllib.request
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from glcic_tf.apps import listening, quota, served_models, web_guard, web_server
from glcic_tf.apps.api import api_server
from glcic_tf.apps.page import page_server, previews
from glcic_tf.apps.page import painted_photo as photo_module
from glcic_tf.apps.page.buttons import Work
from glcic_tf.apps.page.open_photos import Photos
from glcic_tf.apps.page.painted_photo import Photo
from glcic_tf.apps.page.previews import read_painted
from glcic_tf.apps.page.temporary_files import Folder
from glcic_tf.apps.served_models import Models
from glcic_tf.common.errors import UserError
from glcic_tf.imaging import holes, images
from glcic_tf.networks import DEFAULT_MODEL as PACKAGED
from glcic_tf.networks import model_file
from glcic_tf.networks.completion import completion_network

# Gradio asks pandas for an option that newer ones no longer need.
pytestmark = [
    pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting' is deprecated"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
]

HEIGHT, WIDTH = 31, 42
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "narrow.keras"
    model_file.save(completion_network(1 / 16), path)
    return path


@pytest.fixture(scope="module")
def models(model):
    return Models([model])


@pytest.fixture(scope="module")
def completer(models):
    with models.using("narrow") as loaded:
        return loaded


@pytest.fixture(scope="module")
def address(models, tmp_path_factory):
    """A server that takes files of 1 MB and photos of 1 megapixel, and lets 4 requests wait."""
    with pytest.MonkeyPatch.context() as patch, listening.listen("127.0.0.1", 0) as listener:
        for name in ("GRADIO_TEMP_DIR", "GRADIO_EXAMPLES_CACHE"):
            patch.setenv(name, "")
        folder = Folder(tmp_path_factory.mktemp("temporary"), 1800, 1800)
        limits = quota.Limits(1, 1, 4)
        application = api_server.Beside(page_server.app(models, folder, limits), api_server.app(models, limits))
        guarded = web_guard.Guard(application, web_guard.access("127.0.0.1", listener))
        running = web_server.server(guarded, "on")
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
        thread.start()
        yield listening.url("127.0.0.1", listener).rstrip("/")
        running.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def client(address, tmp_path_factory):
    from gradio_client import Client

    found = Client(address, download_files=tmp_path_factory.mktemp("results"), verbose=False)
    yield found
    found.close()


def pixels(seed=0, channels=3, dtype=np.uint8, shape=(HEIGHT, WIDTH)):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (*shape, channels), dtype, endpoint=True)


def hole(shape=(HEIGHT, WIDTH)):
    inside = np.zeros(shape, bool)
    inside[8:20, 10:30] = True
    return inside


def write(path, array):
    images.write_image(path, np.where(array, 255, 0).astype(np.uint8) if array.dtype == bool else array)
    return path


def ask(client, image, mask, **options):
    from gradio_client import handle_file

    return client.predict(handle_file(image), handle_file(mask), api_name="/complete", **options)


def refused(client, *arguments, **options):
    """The message that a request is refused with."""
    from gradio_client.exceptions import AppError

    with pytest.raises(AppError) as error:
        ask(client, *arguments, **options)
    return str(error.value)


def send(address, path, body=None, **headers):
    """Status and body of what the server answers."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(address + path, data, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def bomb():
    """A PNG of a few kB that claims 20,000 x 10,000 px."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 10_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(2**20))) + chunk(b"IEND", b"")


def test_endpoint_gives_what_complete_file_writes(client, completer, tmp_path):
    image, mask = write(tmp_path / "a photo (1).png", pixels()), write(tmp_path / "mask.png", ~hole())
    result = Path(ask(client, image, mask, mask_dilate=2, postprocess="poisson", invert_mask=True))
    assert result.name == "a photo (1)_completed.png"
    completer.complete_file(image, mask, tmp_path / "out.png", mask_dilate=2, postprocess="poisson", invert_mask=True)
    assert result.read_bytes() == (tmp_path / "out.png").read_bytes()


def test_endpoint_tells_the_format_by_the_content_and_takes_the_hole_from_the_alpha(client, tmp_path):
    from gradio_client import handle_file

    cut_out = np.dstack([pixels(), np.where(hole(), 0, 255).astype(np.uint8)])
    image = write(tmp_path / "cut_out.webp", cut_out).rename(tmp_path / "cut_out.png")
    result = Path(client.predict(handle_file(image), None, api_name="/complete"))
    assert result.name == "cut_out_completed.webp"
    np.testing.assert_array_equal(images.read_image(result)[..., :3][~hole()], cut_out[..., :3][~hole()])


def test_only_the_endpoint_is_told(client, address):
    assert list(client.view_api(return_format="dict", print_info=False)["named_endpoints"]) == ["/complete"]
    status, config = send(address, "/config")
    functions = {d["api_name"]: d["api_visibility"] for d in json.loads(config)["dependencies"]}
    assert status == 200 and {n for n, seen in functions.items() if seen != "private"} == {"complete"}


def test_mistakes_are_told_and_name_no_folder_of_the_server(client, address, tmp_path):
    image, mask = write(tmp_path / "photo.png", pixels()), write(tmp_path / "mask.png", hole())
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "bomb.png").write_bytes(bomb())
    (tmp_path / "large.png").write_bytes(bytes(1_100_000))
    black, small = write(tmp_path / "black.png", ~(hole() | True)), write(tmp_path / "small.png", hole()[1:])
    assert refused(client, tmp_path / "text.png", mask).startswith("text.png: is not an image that can be read")
    assert refused(client, image, tmp_path / "text.png").startswith("text.png: is not an image")
    assert "20000 x 10000 px, 200 megapixels; at most 1 are read" in refused(client, tmp_path / "bomb.png", mask)
    assert "200 megapixels" in refused(client, image, tmp_path / "bomb.png")
    assert refused(client, image, black).startswith("black.png: leaves nothing to complete in photo.png")
    assert refused(client, image, small).startswith("small.png: has 42 x 30 px, but photo.png has 42 x 31 px")
    assert "'other' is not in the list of choices" in refused(client, image, mask, model="other").replace(
        "Value: other", "'other'"
    )
    with pytest.raises(Exception, match="413|size"):
        ask(client, tmp_path / "large.png", mask)
    assert ask(client, image, mask)


@pytest.mark.parametrize(
    "path", ["/etc/passwd", str(ROOT / "README.md"), "../../../etc/passwd", "http://192.0.2.1/a.png"]
)
def test_no_file_but_an_uploaded_one_can_be_named(client, address, tmp_path, path):
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    data = [file, file, "narrow", 0, "none", False, False]
    status, body = send(address, "/gradio_api/call/complete", {"data": data})
    assert status == 200
    status, events = send(address, f"/gradio_api/call/complete/{json.loads(body)['event_id']}")
    assert status == 200 and b"event: error" in events and b"complete\n" not in events
    assert b"is nothing that this page expects" in events or b"is no uploaded file" in events
    assert b"tempor" not in events
    status, body = send(address, f"/gradio_api/file={path}")
    assert status == 403 and b"There is no such file for you" in body


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/", None, 200),
        ("/?deep_link=../../etc", None, 200),
        ("/gradio_api/proxy=http://192.0.2.1/", None, 404),
        ("/gradio_api/file=%2e%2e/%2e%2e/etc/passwd", None, 403),
        ("/gradio_api/vibe-code", None, 404),
        ("/gradio_api/run-history/buckets", None, 404),
        ("/gradio_api/run/complete", {"data": []}, 404),
        ("/gradio_api/component_server", {"data": []}, 404),
        ("/gradio_api/queue/join", {"fn_index": 999, "data": [], "session_hash": "a"}, 400),
        ("/gradio_api/queue/join", {"fn_index": -1, "data": [], "session_hash": "a"}, 400),
        ("/gradio_api/queue/join", {"fn_index": True, "data": [], "session_hash": "a"}, 400),
        ("/gradio_api/queue/join", {"fn_index": 0, "data": [], "session_hash": ["a"]}, 400),
        ("/gradio_api/queue/join", {"fn_index": 0, "data": {}, "session_hash": "a"}, 400),
        ("/gradio_api/queue/join", b"[" * 100_000, 400),
        ("/gradio_api/call/complete", b"\xff", 400),
        ("/gradio_api/reset", [], 400),
        ("/redoc", None, 404),
        ("/api/v2/complete", {}, 404),
    ],
)
def test_what_is_let_through(address, path, body, status):
    assert send(address, path, body)[0] == status


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("queue/join", {"Content-Length": 300_000}, 413),
        ("upload", {"Content-Length": 2_000_000}, 413),
        ("upload", {"Transfer-Encoding": "chunked"}, 411),
        ("queue/join", {"Content-Length": 2, "Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_what_is_too_long_or_comes_from_another_site_is_refused_unread(address, path, headers, status):
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
    with contextlib.closing(connection):
        connection.putrequest("POST", f"/gradio_api/{path}")
        for name, value in headers.items():
            connection.putheader(name, str(value))
        connection.endheaders()
        assert connection.getresponse().status == status


def test_headers_keep_the_browser_from_other_hosts(address):
    with urllib.request.urlopen(address, timeout=60) as response:
        policy = response.headers["Content-Security-Policy"]
        page = response.read().decode()
    assert "default-src 'self'" in policy and "http" not in policy
    assert "fonts.googleapis" not in page and '"analytics_enabled":false' in page.replace(" ", "")


def test_twenty_requests_at_once(client, tmp_path):

    image, mask = write(tmp_path / "photo.png", pixels()), write(tmp_path / "mask.png", hole())

    def attempt(_):
        try:
            return Path(ask(client, image, mask)).name
        except Exception as error:  # whatever it is, it is looked at below
            return f"{type(error).__name__}: {error}"

    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(attempt, range(20)))
    done = found.count("photo_completed.png")
    assert done >= 5 and all("full" in text.lower() for text in found if text != "photo_completed.png"), found
    assert ask(client, image, mask)


def test_the_api_beside_the_page_gives_what_complete_file_writes(address, completer, tmp_path):
    import httpx

    image, mask = write(tmp_path / "photo.png", pixels()), write(tmp_path / "mask.png", hole())
    completer.complete_file(image, mask, tmp_path / "out.png", postprocess="poisson")
    sent = {"image": image.read_bytes(), "mask": mask.read_bytes()}
    answer = httpx.post(f"{address}/api/v1/complete", files=sent, data={"postprocess": "poisson"}, timeout=60)
    assert answer.status_code == 200 and answer.content == (tmp_path / "out.png").read_bytes(), answer.text
    assert json.loads(send(address, "/api/v1/models")[1]) == {"models": ["narrow"]}
    assert "/api/v1/complete" in json.loads(send(address, "/openapi.json")[1])["paths"]
    for path in ("/docs", "/health"):
        assert send(address, path)[0] == 200


def test_a_port_that_is_taken_is_one_line():
    with listening.listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"--host=127\.0\.0\.1, --port={port}: cannot be listened on \(.*in use"):
            page_server.serve(port=port)


def test_models_by_name(model, models, tmp_path):
    assert models.names == ["narrow"]
    with pytest.raises(UserError, match=r"model: found 'wide'; expected one of narrow\."), models.using("wide"):
        pass
    with pytest.raises(UserError, match=r"--model=.*none\.keras: there is no such file"):
        Models([tmp_path / "none.keras"])


@pytest.mark.parametrize(("channels", "dtype"), [(1, np.uint8), (3, np.uint8), (4, np.uint8), (3, np.uint16)])
def test_photo_is_completed_and_undone(completer, tmp_path, channels, dtype):
    original = pixels(0, channels, dtype)
    photo = Photo(write(tmp_path / "photo.png", original), 10**6)
    photo.write_preview(tmp_path / "preview.png")
    assert images.read_image(tmp_path / "preview.png").shape == (HEIGHT, WIDTH, min(channels, 3))
    painted = photo.hole(hole())
    np.testing.assert_array_equal(painted, hole())
    photo.complete(completer, painted, 2, "poisson")
    first, grown = photo.pixels.copy(), holes.dilate(hole(), 2)
    np.testing.assert_array_equal(first, completer(original, hole(), mask_dilate=2, postprocess="poisson"))
    assert photo.completions == 1 and not photo.hole(np.zeros((HEIGHT, WIDTH), bool)).any()
    photo.complete(completer, ~grown & (np.arange(WIDTH) < 5), 0, "none")
    photo.undo()
    np.testing.assert_array_equal(photo.pixels, first)
    photo.undo()
    np.testing.assert_array_equal(photo.pixels, original)
    photo.write_painted(tmp_path / "layer.png")  # the hole is painted again, as it was before it grew
    shown = read_painted([tmp_path / "layer.png"], (HEIGHT, WIDTH))
    np.testing.assert_array_equal(shown, hole())
    with pytest.raises(UserError, match="There are 9 layers; expected at most 4"):
        read_painted([tmp_path / "layer.png"] * 9, (HEIGHT, WIDTH))
    with pytest.raises(UserError, match="nothing to undo"):
        photo.undo()
    with pytest.raises(UserError, match="Nothing is painted yet"):
        photo.complete(completer, np.zeros((HEIGHT, WIDTH), bool), 0, "none")
    with pytest.raises(UserError, match="whole photo is painted over"):
        photo.complete(completer, hole(), 64, "none")


def test_a_hole_painted_on_a_preview_is_enlarged_and_one_from_a_file_stays_exact(tmp_path, monkeypatch):
    monkeypatch.setattr(previews, "PREVIEW_PX", 21)
    photo = Photo(write(tmp_path / "photo.png", pixels()), 10**6)
    assert photo.preview_shape == (16, 21)
    painted = np.zeros((16, 21), bool)
    painted[4:8, 5:11] = True
    enlarged = photo.hole(painted)
    assert enlarged.shape == (HEIGHT, WIDTH) and enlarged[9:15, 11:21].all()
    assert not enlarged[:7].any() and not enlarged[17:].any() and not enlarged[:, :9].any()
    fine = hole() & (np.arange(WIDTH) % 2 == 0)
    photo.set_hole(fine)
    photo.write_painted(tmp_path / "layer.png")
    shown = read_painted([tmp_path / "layer.png"], photo.preview_shape)
    np.testing.assert_array_equal(photo.hole(shown), fine)
    shown[14:16, 18:21] = True  # painted on, far from it
    more = photo.hole(shown)
    np.testing.assert_array_equal(more[:25, :33], fine[:25, :33])
    assert more[29:, 37:].all()


def test_history_is_bounded(completer, tmp_path):
    photo = Photo(write(tmp_path / "photo.png", pixels()), 10**6)
    large = np.zeros((HEIGHT, WIDTH), bool)
    large[:, :36] = True
    for _ in range(4):
        photo.complete(completer, large, 0, "none")
    assert photo.completions == 1


def test_results_of_a_completion(completer, tmp_path):
    photo = Photo(write(tmp_path / "photo.png", pixels()), 10**6)
    with pytest.raises(UserError, match="Complete something first"):
        photo.find_results(completer)
    photo.complete(completer, hole(), 2, "auto")
    first = photo.pixels.copy()
    photo.find_results(completer)
    assert photo.results == ["auto", "texture", "poisson", "none"]
    for name in ("none", "poisson", "texture"):
        photo.write_result(tmp_path / f"{name}.jpg", name)
        photo.choose(name)
        np.testing.assert_array_equal(photo.pixels, completer(pixels(), hole(), mask_dilate=2, postprocess=name))
    photo.choose("auto")
    np.testing.assert_array_equal(photo.pixels, first)
    with pytest.raises(UserError, match="no longer there"):
        photo.choose("other")
    photo.write_close_ups(tmp_path / "before.jpg", tmp_path / "after.jpg")
    shapes = [images.read_image(tmp_path / f"{name}.jpg").shape for name in ("before", "after", "none")]
    assert shapes == [(HEIGHT, WIDTH, 3)] * 3  # 24 px around the hole are all of it
    photo.undo()
    assert photo.results == []
    np.testing.assert_array_equal(photo.pixels, pixels())


def test_an_extended_canvas_is_completed_and_undone(completer, tmp_path):
    photo = Photo(write(tmp_path / "photo.png", pixels()), 10**6)
    painted = hole()
    photo.set_hole(painted)
    photo.extend(5, 0, 9, 3, 10**6)
    assert photo.pixels.shape == (34, 56, 3) and photo.extensions == 1 and photo.completions == 0
    extended = photo.hole(np.ones((34, 56), bool) & _extended(painted))
    np.testing.assert_array_equal(extended, _extended(painted))
    photo.write_extended(tmp_path / "before.png", tmp_path / "photo.png")
    np.testing.assert_array_equal(images.read_image(tmp_path / "before.png")[:31, 5:47], pixels())
    photo.complete(completer, _extended(np.zeros_like(painted)), 8, "none")  # what is added does not grow
    np.testing.assert_array_equal(photo.pixels[:31, 5:47], pixels())
    np.testing.assert_array_equal(
        photo.pixels, completer(pixels(), np.zeros_like(painted), uncrop=(5, 0, 9, 3), postprocess="none")
    )
    photo.undo()
    photo.undo()
    np.testing.assert_array_equal(photo.pixels, pixels())
    np.testing.assert_array_equal(photo.hole(painted), painted)
    assert photo.preview_shape == (HEIGHT, WIDTH) and photo.steps == 0
    for wrong in ((0, 0, 0, 0), (-1, 0, 0, 0), (None, 0, 0, 0), (1.5, 0, 0, 0)):
        with pytest.raises(UserError, match="Give the px to add on each side"):
            photo.extend(*wrong, 10**6)
    with pytest.raises(UserError, match="would have 142 x 31 px; at most"):
        photo.extend(100, 0, 0, 0, 2000)
    assert photo.pixels.shape == (HEIGHT, WIDTH, 3)


def test_before_keeps_the_size_of_a_canvas_whose_extension_is_forgotten(completer, models, tmp_path, monkeypatch):
    monkeypatch.setattr(photo_module, "_MAX_UNDO", 2)
    photos = Photos(10**9, 3600)
    work = Work(models, photos, Folder(tmp_path, 1800, 1800), 10**6)
    token = work.open(write(tmp_path / "photo.png", pixels()), None)[0]
    work.extend(token, 5, 0, 9, 3)
    with photos.using(token) as photo:
        for _ in range(2):
            photo.complete(completer, _extended(hole()), 0, "none")
    work.undo(token)
    with photos.using(token) as photo:
        assert images.read_image(photo.befores[-1]).shape == photo.pixels.shape == (34, 56, 3)


def _extended(inner):
    outer = np.ones((34, 56), bool)
    outer[:31, 5:47] = inner
    return outer


def test_snapping_can_be_undone(tmp_path):
    photographed = np.full((60, 80, 3), 60, np.uint8) + pixels(shape=(60, 80)) // 16
    photographed[20:40, 30:50] += np.array([150, 0, 0], np.uint8)
    photo = Photo(write(tmp_path / "photo.png", photographed), 10**6)
    with pytest.raises(UserError, match="Nothing is painted yet"):
        photo.snap(np.zeros((60, 80), bool))
    click = np.zeros((60, 80), bool)
    click[28:32, 38:42] = True
    photo.snap(click)
    wanted = np.zeros((60, 80), bool)
    wanted[20:40, 30:50] = True
    np.testing.assert_array_equal(photo.hole(wanted), wanted)
    photo.write_painted(tmp_path / "layer.png")
    np.testing.assert_array_equal(read_painted([tmp_path / "layer.png"], (60, 80)), wanted)
    photo.undo()
    np.testing.assert_array_equal(photo.hole(click), click)


def test_models_that_are_here_are_offered_and_nothing_is_downloaded(model, monkeypatch):
    monkeypatch.setattr(served_models.model_names, "here", lambda: {"faces": model, "scenes": PACKAGED})
    found = Models()
    assert found.names == ["scenes", "faces"]
    with found.using("faces") as completer:
        assert completer(pixels(), hole(), postprocess="none").shape == (HEIGHT, WIDTH, 3)


def test_random_hole(tmp_path):
    photo = Photo(write(tmp_path / "photo.png", pixels()), 10**6)
    photo.random_hole(np.random.default_rng(0))
    assert photo.write_painted(tmp_path / "layer.png")


def test_photos_are_kept_apart_and_forgotten(tmp_path):
    path = write(tmp_path / "photo.png", pixels())
    photos, photo = Photos(max_bytes=4000, idle_s=1000), Photo(path, 10**6)
    photos.check_room()
    token = photos.add(photo)
    with photos.using(token) as found:
        assert found is photo
    with pytest.raises(UserError, match="Too many photos"):  # it has 3906 bytes
        photos.add(Photo(path, 10**6))
        photos.check_room()
    for wrong in ("", None, token + "a"):
        with pytest.raises(UserError, match="no longer open"), photos.using(wrong):
            pass
    photos.drop(token)
    with pytest.raises(UserError, match="no longer open"), photos.using(token):
        pass
    photos = Photos(max_bytes=1, idle_s=0)
    photos.add(photo)
    photos.check_room()


def test_folder_owns_what_is_in_it_and_deletes_what_is_old(tmp_path, monkeypatch):
    folder = Folder(tmp_path / "f", uploads_s=1000, own_s=-1) if (tmp_path / "f").mkdir() is None else None
    own, kept = folder.new() / "a", folder.kept() / "b"
    uploaded = folder.path / "hash"
    uploaded.mkdir()
    for path in (own, kept, uploaded / "c", tmp_path / "secret"):
        path.touch()
    (folder.path / "link").symlink_to(tmp_path / "secret")
    assert folder.owns(own) and folder.owns(uploaded / "c")
    wrong = (tmp_path / "secret", folder.path / "link", folder.path / ".." / "secret", folder.path, "a\0", "f/own", "")
    assert not any(folder.owns(path) for path in wrong)
    folder._swept = -1e9
    folder.new()
    assert not own.exists() and kept.exists() and (uploaded / "c").exists()
