"""The HTTP API on a real server: answers, errors in its words, bounds, and beside the page."""

import contextlib
import http.client
import io
import json
import tempfile
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor, as_completed
from urllib.parse import urlsplit
from uuid import uuid4

import numpy as np
import pytest

from glcic_tf.apps import listening, web_guard, web_server
from glcic_tf.apps.api import api_server, request_completion
from glcic_tf.apps.quota import Limits
from glcic_tf.apps.served_models import Models
from glcic_tf.imaging import image_formats, images
from glcic_tf.networks import model_file
from glcic_tf.networks.completion import completion_network

HEIGHT, WIDTH = 31, 42


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("narrow", "other")):
        import keras

        keras.utils.set_random_seed(seed)
        model_file.save(completion_network(1 / 16), folder / f"{name}.keras")
    return Models([folder / "narrow.keras", folder / "other.keras"])


@contextlib.contextmanager
def served(application, token=None):
    with listening.listen("127.0.0.1", 0) as listener:
        access = web_guard.access("127.0.0.1", listener, token=token)
        server = web_server.server(web_guard.Guard(application, access))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listening.url("127.0.0.1", listener).rstrip("/")
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def address(models):
    with served(api_server.app(models, Limits(max_upload_mb=1, max_megapixels=0.01))) as url:
        yield url


@pytest.fixture(scope="module")
def photo():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


@pytest.fixture(scope="module")
def hole():
    hole = np.zeros((HEIGHT, WIDTH), bool)
    hole[8:20, 10:30] = True
    return hole


def encoded(image, tmp_path, suffix=".png"):
    path = tmp_path / f"{uuid4().hex}{suffix}"
    images.write_image(path, image)
    return path.read_bytes()


def decoded(content, tmp_path, suffix=".png"):
    path = tmp_path / f"{uuid4().hex}{suffix}"
    path.write_bytes(content)
    return images.read_image(path)


def form(files, **fields):
    """A multipart body and its type."""
    boundary = uuid4().hex
    body = io.BytesIO()
    for name, value in fields.items():
        body.write(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode())
    for name, content in files.items():
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="../../{name}"\r\n\r\n'
        body.write(head.encode() + content + b"\r\n")
    body.write(f"--{boundary}--\r\n".encode())
    return body.getvalue(), f"multipart/form-data; boundary={boundary}"


def post(address, files, headers=None, **fields):
    """Send a completion: (status, headers, body)."""
    body, kind = form(files, **fields)
    request = urllib.request.Request(f"{address}/api/v1/complete", body, {"Content-Type": kind, **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def get(url):
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read()


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({}, {}),
        ({"postprocess": "none", "scale": "1"}, {"postprocess": "none", "scale": 1.0}),
        ({"postprocess": "poisson", "mask_dilate": "3"}, {"postprocess": "poisson", "mask_dilate": 3}),
        ({"invert_mask": "true"}, {"invert_mask": True}),
    ],
)
def test_the_answer_is_what_the_completer_gives(address, models, photo, hole, tmp_path, fields, options):
    mask = np.where(hole, 255, 0).astype(np.uint8)
    files = {"image": encoded(photo, tmp_path), "mask": encoded(mask, tmp_path)}
    status, headers, body = post(address, files, **fields)
    assert status == 200 and headers["Content-Type"] == "image/png", body
    with models.using("narrow") as completer:
        expected = completer.complete(photo, mask, **options)
    assert np.array_equal(decoded(body, tmp_path), expected.image)
    assert json.loads(headers["X-Completion"]) == expected.told()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_the_answer_is_the_file_that_complete_file_writes(address, models, photo, hole, tmp_path, suffix):
    image, mask, output = tmp_path / f"photo{suffix}", tmp_path / "mask.png", tmp_path / f"completed{suffix}"
    images.write_image(image, photo)
    images.write_image(mask, np.where(hole, 255, 0).astype(np.uint8))
    status, _, body = post(address, {"image": image.read_bytes(), "mask": mask.read_bytes()}, jpeg_quality=80)
    with models.using("narrow") as completer:
        completer.complete_file(image, mask, output, jpeg_quality=80)
    assert status == 200 and body == output.read_bytes()


def test_transparency_is_the_hole_where_there_is_no_mask(address, models, photo, hole, tmp_path):
    image = np.dstack([photo, np.where(hole, 0, 255).astype(np.uint8)])
    status, _, body = post(address, {"image": encoded(image, tmp_path)})
    with models.using("narrow") as completer:
        assert status == 200 and np.array_equal(decoded(body, tmp_path), completer(image, "alpha"))


def test_the_canvas_is_extended_without_a_mask(address, models, photo, tmp_path):
    status, headers, body = post(address, {"image": encoded(photo, tmp_path)}, uncrop="5,0,9,3")
    with models.using("narrow") as completer:
        expected = completer.complete(photo, "alpha", uncrop=(5, 0, 9, 3))
    assert status == 200 and np.array_equal(decoded(body, tmp_path), expected.image), body
    assert json.loads(headers["X-Completion"]) == expected.told()


def test_files_of_a_request_are_deleted_and_so_are_those_of_a_server_that_was_killed(
    models, tmp_path, monkeypatch, photo
):
    folder, seen = tmp_path / "temporary", []
    left = folder / "glcic-app-left"
    left.mkdir(parents=True)
    (left / ".lock").touch()  # which nobody holds any longer
    monkeypatch.setattr(tempfile, "tempdir", str(folder))

    class Watched:
        @contextlib.contextmanager
        def using(self, name):
            with models.using(name) as completer:
                yield completer
                seen.extend(path.name for path in folder.glob("*/[!.]*"))

    image = io.BytesIO(encoded(photo, tmp_path))
    request_completion.complete(Watched(), "narrow", image, None, {"uncrop": (3, 0, 0, 0)})
    assert sorted(seen) == ["completed.png", "image"]
    with pytest.raises(request_completion.Refused):
        request_completion.complete(Watched(), "narrow", io.BytesIO(b"none"), None, {})
    assert not list(folder.glob("glcic-*"))


def test_models_and_formats_can_be_chosen(address, models, photo, hole, tmp_path):
    files = {"image": encoded(photo, tmp_path), "mask": encoded(np.where(hole, 255, 0).astype(np.uint8), tmp_path)}
    assert json.loads(get(f"{address}/api/v1/models")) == {"models": ["narrow", "other"]}
    answers = {name: post(address, files, model=name, postprocess="none")[2] for name in ("narrow", "other")}
    assert answers["narrow"] != answers["other"]
    for suffix, kind in request_completion.MEDIA_TYPES.items():
        status, headers, body = post(address, files, format=suffix[1:])
        assert (status, headers["Content-Type"]) == (200, kind)
        assert decoded(body, tmp_path, suffix).shape == photo.shape


def test_all_formats_that_are_written_have_a_type():
    written = [found.suffixes[0] for found in image_formats.FORMATS if found.written]
    assert sorted(written) == sorted(request_completion.MEDIA_TYPES)


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"model": "third"}, 422, "model: found 'third'; expected one of narrow, other."),
        ({"mask_dilation": "3"}, 422, "'mask_dilation': there is no such field; see /docs."),
        ({"request": "3"}, 422, "'request': there is no such field"),
        ({"postprocess": "magic"}, 422, "postprocess: input should be"),
        ({"scale": "0"}, 422, "scale: expected 'auto' or a number in (0, 1], found 0.0."),
        ({"scale": "big"}, 422, "scale: expected 'auto' or a number in (0, 1], found 'big'."),
        ({"scale": "nan"}, 422, "scale: expected 'auto'"),
        ({"mask_dilate": "-1"}, 422, "mask_dilate: input should be greater than or equal to 0."),
        ({"jpeg_quality": "101"}, 422, "jpeg_quality: input should be less than or equal to 100."),
        (
            {"uncrop": "5,0,x"},
            422,
            "uncrop: expected px to add at left,top,right,bottom, from 0 up and not all 0; found",
        ),
        ({"uncrop": "0,0,0,0"}, 422, "uncrop: expected px to add"),
        ({"uncrop": "9999999999,0,0,0"}, 422, "image: would have 10000000041 x 31 px with uncrop; at most"),
        ({"format": "exe"}, 422, "format: input should be"),
        ({"image": b"none"}, 422, "image: is not an image that can be read"),
        ({"image": None}, 422, "image: field required."),
        ({"mask": b"none"}, 422, "mask: is not an image that can be read"),
        ({"mask": None}, 422, "image: has no transparency to take the hole from"),
        ({"mask": "black"}, 422, "mask: "),
        ({"mask": "large"}, 422, "mask: has "),
        ({"image": "large"}, 422, "image: has "),
        ({"image": bytes(1_000_001)}, 413, "image: has 1.0 MB; at most 1 are taken."),
    ],
)
def test_errors_are_one_line_about_a_field(address, photo, hole, tmp_path, change, status, message):
    made = {
        "black": np.zeros((HEIGHT, WIDTH), np.uint8),
        "large": np.zeros((150, 150), np.uint8),
    }
    files = {"image": encoded(photo, tmp_path), "mask": encoded(np.where(hole, 255, 0).astype(np.uint8), tmp_path)}
    fields = {}
    for name, value in change.items():
        if name in files:
            files[name] = encoded(made[value], tmp_path) if isinstance(value, str) else value
        else:
            fields[name] = value
    found, headers, body = post(address, {name: sent for name, sent in files.items() if sent is not None}, **fields)
    told = json.loads(body)
    assert found == status and list(told) == ["error"] and told["error"].startswith(message), told
    assert "/tmp" not in told["error"] and "\n" not in told["error"] and headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"none", 400, "POST /api/v1/complete: invalid multipart data; see /docs."),
        (
            b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nnarrow\r\n--b--\r\n',
            422,
            "image: field required.",
        ),
        (
            b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\na\r\n' * 2 + b"--b--\r\n",
            422,
            "image: is given more than once.",
        ),
    ],
)
def test_forms_that_are_not_as_they_should_be(address, body, status, message):
    headers = {"Content-Type": "multipart/form-data; boundary=b", "Content-Length": str(len(body))}
    assert raw(address, "POST", "/api/v1/complete", headers, body) == (status, {"error": message})


def raw(address, method, path, headers, body=b""):
    """Send a request as it is: (status, JSON)."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
    with contextlib.closing(connection):
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "message"),
    [
        ("GET", "/", {}, 404, "GET /: not found; see /docs."),
        ("GET", "/api/v1/complete", {}, 405, "GET /api/v1/complete: method not allowed; see /docs."),
        ("POST", "/api/v1/complete", {}, 411, "Content-Length: is missing; expected the number of bytes."),
        ("POST", "/api/v1/complete", {"Content-Length": "2100000"}, 413, "Content-Length: is 2100000; at most"),
        ("POST", "/api/v1/complete", {"Content-Length": "0"}, 422, "image: field required."),
        ("GET", "/health", {"Host": "evil.example"}, 421, "This server does not go by that name"),
        ("GET", "/health", {"Origin": "http://evil.example"}, 403, "Another site may not use this page."),
    ],
)
def test_other_requests(address, method, path, headers, status, message):
    found, told = raw(address, method, path, headers)
    assert found == status and told["error"].startswith(message), told


def test_the_documents_need_no_other_host(address):
    assert json.loads(get(f"{address}/health")) == {"status": "ok"}
    schema = json.loads(get(f"{address}/openapi.json"))
    assert {"/api/v1/complete", "/api/v1/models", "/health"} == set(schema["paths"])
    page = get(f"{address}/docs").decode()
    assert "http" not in page.replace(address, "") and "src=" not in page
    body = schema["components"]["schemas"]["Body_complete_api_v1_complete_post"]
    for field in body["properties"]:
        assert f"<code>{field}</code>" in page


def test_a_token_is_asked_for(models):
    with served(api_server.app(models, Limits()), token="0123456789") as url:
        status, told = raw(url, "GET", "/api/v1/models", {})
        assert status == 401 and told["error"].startswith("A token is missing or wrong")
        request = urllib.request.Request(f"{url}/api/v1/models", headers={"Authorization": "Bearer 0123456789"})
        assert b"narrow" in get(request)


def test_one_too_many_is_told_to_come_again(models, photo, hole, tmp_path):
    files = {"image": encoded(photo, tmp_path), "mask": encoded(np.where(hole, 255, 0).astype(np.uint8), tmp_path)}
    with served(api_server.app(models, Limits(max_queue=1))) as url, ThreadPoolExecutor(3) as pool:
        with models.using("narrow"):  # nobody gets on: one is at work, one waits, one is refused
            asked = [pool.submit(post, url, files) for _ in range(3)]
            first = next(as_completed(asked, timeout=60)).result()
        answers = sorted(found.result()[0] for found in asked)
    assert first[0] == 503 and json.loads(first[2]) == {"error": "Too many requests wait; try again later."}
    assert answers == [200, 200, 503]


def test_one_client_may_not_fill_the_disk(models):
    limits = Limits(max_upload_mb=1, max_stored_mb=1)  # room for one request of the largest size
    with served(api_server.app(models, limits)) as url:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        with contextlib.closing(connection):
            connection.putrequest("POST", "/api/v1/complete")
            connection.putheader("Content-Type", "multipart/form-data; boundary=b")
            connection.putheader("Content-Length", "2000000")
            connection.endheaders(b"--b\r\n")
            status = 422
            while status == 422:  # until the first is seen to be under way
                status, told = raw(url, "POST", "/api/v1/complete", {"Content-Length": "100000"}, bytes(100_000))
        assert status == 429 and told == {"error": "You have sent too much at once; wait for the answers."}


@pytest.mark.parametrize(
    ("path", "chosen"),
    [("/", "page"), ("/docs", "api"), ("/health", "api"), ("/api/v1/complete", "api"), ("/api/v2/x", "page")],
)
@pytest.mark.parametrize("root_path", ["", "/glcic"])
def test_beside_a_page_it_has_its_own_paths(path, chosen, root_path):
    import asyncio

    seen = []

    def named(name):
        async def application(scope, receive, send):
            seen.append(name)

        return application

    scope = {"type": "http", "path": root_path + path, "root_path": root_path}
    asyncio.run(api_server.Beside(named("page"), named("api"))(scope, None, None))
    assert seen == [chosen]
