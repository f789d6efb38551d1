"""What the tests of the study share: photos, a prepared study, a server, and a participant over HTTP."""

import contextlib
import http.client
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

from glcic_tf.evaluation import protocols
from glcic_tf.imaging import images

ROOT = Path(__file__).parents[2]
PROTOCOL = protocols.Protocol("rectangle", 32, 10, 14)


def make_photos(folder, count, size=(40, 36)):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    for i in range(count):
        small = rng.integers(0, 256, (5, 6, 3), np.uint8)
        images.write_image(folder / f"{i:02}.png", cv2.resize(small, size, interpolation=cv2.INTER_CUBIC))
    return folder


@contextlib.contextmanager
def serving(study, *flags):
    """A server process on a free port; it is killed at the end, as by a power cut."""
    command = [sys.executable, "-m", "glcic_tf", "study", "serve", f"--study={study}", "--port=0", *flags]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        assert line.startswith("The study is at http://127.0.0.1:"), line + process.stderr.read()
        yield int(line.split(":")[2].split("/")[0])
    finally:
        process.kill()
        process.communicate()


class Browser:
    """Speaks HTTP and keeps the cookie."""

    def __init__(self, port, cookie=None):
        self.port, self.cookie = port, cookie

    def send(self, path, body=None, content_type="application/json"):
        """Status, headers and body of the response."""
        headers = {"Cookie": self.cookie} if self.cookie else {}
        if body is not None:
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
            headers["Content-Type"] = content_type
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request("GET" if body is None else "POST", path, body, headers)
            response = connection.getresponse()
            data = response.read()
        if response.headers["Set-Cookie"]:
            self.cookie = response.headers["Set-Cookie"].split(";")[0]
        return response.status, response.headers, data

    def ask(self, path, body=None):
        status, _, data = self.send(path, body)
        assert status == 200, data
        return json.loads(data)

    def state(self):
        return self.ask("/api/state")

    def join(self, name):
        return self.ask("/api/join", {"name": name})

    def answer(self, id, natural, ms=500):
        return self.ask("/api/answer", {"id": id, "natural": natural, "ms": ms})
