"""A server that is told to end does so while a completion still runs."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from page_helpers import pixels, write

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("command", "number", "line"),
    [("serve", signal.SIGINT, "The API has ended.\n"), ("app", signal.SIGTERM, "The page has ended.\n")],
)
def test_it_ends_though_a_completion_has_not_ended(model, tmp_path, command, number, line):
    hole = np.zeros((2400, 3200), bool)
    hole[300:2100, 300:2900] = True
    files = {
        "image": write(tmp_path / "photo.png", pixels(shape=hole.shape)),
        "mask": write(tmp_path / "hole.png", hole),
    }
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "glcic_tf", command, f"--model={model}", "--port=0"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    answers = []

    def ask(address):
        sent = {name: path.read_bytes() for name, path in files.items()}
        try:
            answers.append(httpx.post(f"{address}/api/v1/complete", files=sent, timeout=600).status_code)
        except httpx.TransportError:
            answers.append("cut off")

    try:
        address = process.stdout.readline().split(" is at ")[1].split()[0].removesuffix("docs").rstrip("/")
        asking = threading.Thread(target=ask, args=(address,))
        asking.start()
        while not list(temporary.glob("*/mask")):  # until the completion has its files
            assert process.poll() is None and asking.is_alive()
            time.sleep(0.05)
        process.send_signal(number)
        told, errors = process.communicate(timeout=120)
        asking.join()
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, told, answers) == (0, line, ["cut off"])
    assert "Traceback" not in errors, errors
    assert list(temporary.glob("*/mask"))  # else the completion would have ended, and deleted it
