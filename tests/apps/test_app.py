"""app.py without a browser: what visitors press, and hostile ones."""

import contextlib
import http.client
import json
import struct
import threading
import urllib.error
import urllib.request
import zlib
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from page_helpers import hole, pixels, write

from glcic_tf.apps import listening, quota, web_guard, web_server
from glcic_tf.apps.api import api_server
from glcic_tf.apps.page import page_server
from glcic_tf.apps.page.temporary_files import Folder
from glcic_tf.apps.served_models import Models
from glcic_tf.common.errors import UserError

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


class Visitor:
    """Presses buttons as the page in a browser does."""

    def __init__(self, address, name):
        self._address, self._name = address, name
        functions = json.loads(send(address, "/config")[1])["dependencies"]
        self._indices = {function["api_name"]: function["id"] for function in functions}

    def upload(self, path):
        """The file as the page names it."""
        body = b'--b\r\nContent-Disposition: form-data; name="files"; filename="%s"\r\n\r\n' % path.name.encode()
        body += path.read_bytes() + b"\r\n--b--\r\n"
        kind = {"Content-Type": "multipart/form-data; boundary=b"}
        status, told = send(self._address, "/gradio_api/upload", body, **kind)
        assert status == 200, told
        return self.file(json.loads(told)[0])

    @staticmethod
    def file(path):
        return {"path": path, "meta": {"_type": "gradio.FileData"}}

    def join(self, button, *data):
        """Status of what is asked for."""
        sent = {"fn_index": self._indices[button], "data": data, "session_hash": self._name}
        return send(self._address, "/gradio_api/queue/join", sent)[0]

    def answer(self):
        """The message of the error that what was asked for ends with; None if it succeeds."""
        with urllib.request.urlopen(f"{self._address}/gradio_api/queue/data?session_hash={self._name}") as events:
            for line in events:
                event = json.loads(line.removeprefix(b"data:")) if line.startswith(b"data:") else {}
                if event.get("msg") == "process_completed":
                    return None if event["success"] else event["output"]["error"]
        raise AssertionError("no answer")

    def press(self, button, *data):
        assert self.join(button, *data) == 200
        return self.answer()


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


def test_no_function_of_the_page_is_told_to_programs(address):
    status, config = send(address, "/config")
    assert status == 200 and {d["api_visibility"] for d in json.loads(config)["dependencies"]} == {"private"}


def test_mistakes_are_told_and_name_no_folder_of_the_server(address, tmp_path):
    visitor = Visitor(address, "mistaken")
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "bomb.png").write_bytes(bomb())

    def told(name):
        return visitor.press("open", visitor.upload(tmp_path / name), None)

    assert told("text.png").startswith("text.png: is not an image that can be read")
    assert told("bomb.png").startswith("bomb.png: has 20000 x 10000 px, 200 megapixels; at most 1 are read")
    write(tmp_path / "photo.png", pixels())
    assert told("photo.png") is None


@pytest.mark.parametrize(
    "path", ["/etc/passwd", str(ROOT / "README.md"), "../../../etc/passwd", "http://192.0.2.1/a.png"]
)
def test_no_file_but_an_uploaded_one_can_be_named(address, path):
    told = Visitor(address, "curious").press("open", Visitor.file(path), None)
    assert "is nothing that this page expects" in told or "is no uploaded file" in told
    assert "tempor" not in told
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
        ("/gradio_api/run/complete_painted", {"data": []}, 404),
        ("/gradio_api/component_server", {"data": []}, 404),
        ("/gradio_api/queue/join", {"fn_index": 999, "data": [], "session_hash": "a"}, 400),
        ("/gradio_api/queue/join", {"fn_index": -1, "data": [], "session_hash": "a"}, 400),
        ("/gradio_api/queue/join", {"fn_index": True, "data": [], "session_hash": "a"}, 400),
        ("/gradio_api/queue/join", {"fn_index": 0, "data": [], "session_hash": ["a"]}, 400),
        ("/gradio_api/queue/join", {"fn_index": 0, "data": {}, "session_hash": "a"}, 400),
        ("/gradio_api/queue/join", b"[" * 100_000, 400),
        ("/gradio_api/queue/join", b"\xff", 400),
        ("/gradio_api/call/complete_painted", {"data": []}, 404),
        ("/gradio_api/info", None, 404),
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


def test_one_completion_too_many_is_refused_and_photos_can_be_opened_meanwhile(address, models, tmp_path):
    asked = None, None, "narrow", 4, "none"
    visitors = [Visitor(address, f"visitor{i}") for i in range(8)]
    with models.using("narrow"):  # nobody gets on
        assert visitors[0].join("complete_painted", *asked) == 200
        statuses = [visitor.join("complete_painted", *asked) for visitor in visitors[1:]]
        taken = statuses.count(200)  # the first waits too until the queue has looked at it
        assert taken in (3, 4) and statuses == [200] * taken + [503] * (7 - taken)
        last = Visitor(address, "last")
        assert last.press("open", last.upload(write(tmp_path / "photo.png", pixels())), None) is None
    for visitor in visitors[: 1 + taken]:
        assert "photo is no longer open" in visitor.answer()


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
