"""app.py without a browser: the endpoint for programs, and hostile visitors."""

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
from page_helpers import hole, pixels, write

from glcic_tf.apps import listening, quota, web_guard, web_server
from glcic_tf.apps.api import api_server
from glcic_tf.apps.page import page_server
from glcic_tf.apps.page.temporary_files import Folder
from glcic_tf.apps.served_models import Models
from glcic_tf.common.errors import UserError
from glcic_tf.imaging import images

# Gradio asks pandas for an option that newer ones no longer need.
pytestmark = [
    pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting' is deprecated"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
]

ROOT = Path(__file__).parents[2]


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
