"""Hostile requests to the two pages and the API, which run as they do for visitors: whole, spoilt ones, and garbage."""

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

from mutators import spoil, spoil_json

_ANSWER_S = 60  # by the clock, which others may slow; what the servers themselves take is measured beside it
ROOT = Path(__file__).parents[2]
_PATHS = (
    "/",
    "/config",
    "/api/state",
    "/api/join",
    "/api/answer",
    "/picture/0123456789abcdef.png",
    "/gradio_api/upload",
)
_PATHS += (
    "/gradio_api/queue/join",
    "/gradio_api/queue/data?session_hash=a",
    "/gradio_api/cancel",
)
_PATHS += (
    "/gradio_api/file=/etc/passwd",
    "/gradio_api/reset",
    "/assets/x",
    "/static/../../etc/passwd",
)
_API_PATHS = ("/api/v1/complete",) * 6 + ("/api/v1/models", "/api/v1/none", "/health", "/docs", "/openapi.json")
_FIELDS = {
    "scale": ("auto", "0.5", "nan", "1e999", "-1"),
    "postprocess": ("none", "telea", "?"),
    "invert_mask": ("true", "7"),
    "resize_mask": ("true", "\x00"),
    "mask_dilate": ("3", "1024", "-1", "9" * 5000),
    "uncrop": ("1,2,3,4", "1,2", "nan,0,0,0", "1000000000,0,0,0"),
    "format": ("png", "jpg", "avif", "exe"),
    "jpeg_quality": ("90", "0", "1e3"),
    "model": ("scenes", "../../etc/passwd", "x" * 500),
    "unknown": ("1",),
}
_METHODS = ("GET", "POST", "POST", "POST", "HEAD", "PUT", "OPTIONS", "TRACE")
_FILE = {"path": "/tmp/x", "meta": {"_type": "gradio.FileData"}}
_BODIES = (
    {"fn_index": 0, "data": [_FILE, None], "session_hash": "a", "event_data": None, "trigger_id": 3},
    {"fn_index": 8, "data": [None, None, "scenes", 4, "none"], "session_hash": "a"},
    {"id": "0123456789abcdef", "natural": True, "ms": 500},
    {"name": "Ann"},
    {"session_hash": "a", "fn_index": 1, "event_id": "b"},
)


class Servers:
    """`glcic app`, `study serve` and `serve` in processes of their own; their logs are in files in `folder`."""

    def __init__(self, folder, study):
        self.processes, self.ports, self.logs = [], [], []
        for name, command in (
            ("app", ["app", "--port=0"]),
            ("study", ["study", "serve", f"--study={study}", "--port=0"]),
            ("serve", ["serve", "--port=0", "--max_megapixels=0.1"]),
        ):
            self.logs.append(folder / f"{name}.log")
            with self.logs[-1].open("a") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "glcic_tf", *command],
                    cwd=ROOT,
                    env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                )
            self.processes.append(process)
            self.ports.append(int(re.search(r":(\d+)/", process.stdout.readline())[1]))

    def close(self):
        """End them; they must do so in good order."""
        for process in self.processes:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
            assert process.returncode == 0


def _form(rng):
    """A form for the API as bytes: a photo and a mask, a few fields, and any of it may be wrong."""
    from PIL import Image

    parts = []
    for name in rng.choice((("image", "mask"),) * 4 + (("image",), ("mask",), ("image", "image", "mask"), ())):
        file = io.BytesIO()
        picture = Image.new("RGB", rng.choice(((40, 32),) * 8 + ((1, 1), (1000, 900))), "white")
        picture.paste("black", (0, 0, 30, 24))
        picture.save(file, rng.choice(("PNG", "PNG", "JPEG", "GIF", "TIFF")))
        data = spoil(file.getvalue(), rng) if rng.random() < 0.3 else file.getvalue()
        parts.append(f'name="{name}"; filename="{name}.png"\r\n\r\n'.encode() + data)
    for name in rng.sample(sorted(_FIELDS), rng.choice((0, 0, 1, 1, 2))):
        parts.append(f'name="{name}"\r\n\r\n{rng.choice(_FIELDS[name])}'.encode())
    return b"".join(b"--b\r\nContent-Disposition: form-data; " + part + b"\r\n" for part in parts) + b"--b--\r\n"


def spoil_request(servers, folder, rng):
    """Bytes to send, to which server, and whether they are a whole request, which has to be answered."""
    number = rng.randrange(3)
    port = servers.ports[number]
    body = b""
    if rng.random() < 0.7:
        body = spoil_json(json.dumps(rng.choice(_BODIES)).encode(), rng)[:100_000]
    kind = "application/json"
    if rng.random() < 0.2:
        kind = "multipart/form-data; boundary=b"
        body = (
            b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n' + body + b"\r\n--b--\r\n"
        )
        body = spoil(body, rng) if rng.random() < 0.7 else body
    api = number == 2 or number == 0 and rng.random() < 0.2  # the page has the API beside it
    if api and rng.random() < 0.8:
        kind, body = "multipart/form-data; boundary=b", _form(rng)
        body = spoil(body, rng) if rng.random() < 0.1 else body
    length = len(body) if rng.random() < 0.95 else rng.choice((-1, 5, 10**9, "x"))
    head = [
        f"{rng.choice(_METHODS)} {rng.choice(_API_PATHS if api else _PATHS)} HTTP/1.1",
        f"Host: {rng.choice((f'127.0.0.1:{port}',) * 9 + ('evil.example',))}",
        f"Content-Type: {kind}",
        f"Content-Length: {length}",
        *rng.sample(
            [
                f"Origin: http://127.0.0.1:{port}",
                "Origin: null",
                "Cookie: study=forged; other",
                "Transfer-Encoding: chunked",
                "Range: bytes=9-1",
                "Expect: 100-continue",
                "Upgrade: websocket",
                "X-Forwarded-Host: \x00",
                "Accept-Encoding: gzip, \xff",
                "Authorization: Basic \xe9",
            ],
            rng.choice((0, 0, 0, 1, 2)),
        ),
        "Connection: close",
    ]
    request = "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body
    whole = length == len(body) and "Transfer-Encoding: chunked" not in head
    if rng.random() < 0.2:
        request, whole = spoil(request, rng), False
    (folder / "request").write_bytes(request)
    return servers, number, request, whole


def send_request(given):
    """Send it and look at the answer, and at what stands in the log."""
    servers, number, request, whole = given
    with socket.create_connection(("127.0.0.1", servers.ports[number]), timeout=_ANSWER_S) as connection:
        answer, waits = b"", False
        try:
            connection.sendall(request)
            connection.settimeout(_ANSWER_S if whole else 1.0)  # it may wait for more
            while b"\r\n\r\n" not in answer and (chunk := connection.recv(2**16)):
                answer += chunk
        except TimeoutError:
            waits = True
        except ConnectionError:
            pass
    assert not answer or answer.startswith(b"HTTP/1.1 ") and not answer.startswith(b"HTTP/1.1 500"), answer[:300]
    assert servers.processes[number].poll() is None, "the server has ended"
    log = servers.logs[number].read_text(errors="replace")
    servers.logs[number].write_text("")
    assert "Traceback" not in log, log[-2000:]
    assert not (whole and waits), f"no answer within {_ANSWER_S} s"
