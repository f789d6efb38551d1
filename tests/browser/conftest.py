"""A real Chromium, in which nothing may reach any other host. Run by `make test-browser`, not by `make test`."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

HERE = Path(__file__).parent
TESTS = HERE.parent
ROOT = TESTS.parent
sys.path[:0] = [str(TESTS / "apps"), str(TESTS / "evaluation")]  # for the helpers of the other tests

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
_DESKTOP = {"viewport": {"width": 1024, "height": 640}}
_PHONE = {"viewport": {"width": 375, "height": 780}, "device_scale_factor": 2, "has_touch": True, "is_mobile": True}
_WAIT_MS = 60_000  # the canvas is drawn by the processor here, and that may be busy


def pytest_ignore_collect(collection_path, config):
    """Leave these tests alone unless this folder or a file in it is named."""
    named = (Path(config.invocation_params.dir, arg.split("::")[0]).resolve() for arg in config.args)
    return None if any(path.is_relative_to(HERE) for path in named) else True


def pytest_terminal_summary(terminalreporter):
    """Say why nothing was done, once."""
    if _missing() and terminalreporter.stats.get("skipped"):
        terminalreporter.write_line(f"The tests in a browser are left out: {_missing()}.")


def _missing():
    try:
        import playwright  # noqa: F401
    except ImportError:
        return "playwright is not installed: run make test-browser"
    return None if CHROMIUM else "there is no chromium: apt install chromium, or name one in CHROMIUM"


@pytest.fixture(scope="session")
def chromium():
    """A running browser."""
    if _missing():
        pytest.skip(_missing())
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium):
    """Function (address, phone=False) -> page. At the end: no request went elsewhere, nothing failed in the page."""
    contexts, wrong = [], []

    def open_page(address, phone=False):
        context = chromium.new_context(**(_PHONE if phone else _DESKTOP))
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(_WAIT_MS)
        host = urlsplit(address).netloc

        def look(request):
            url = urlsplit(request.url)
            if url.scheme not in ("blob", "data") and url.netloc != host:
                wrong.append(f"request: {request.url}")

        page.on("request", look)
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture(scope="session")
def serve():
    """Function (command) -> address that it prints; what it starts is ended by Ctrl-C, and must take that well."""
    if _missing():
        pytest.skip(_missing())
    processes = []

    def serve(*command):
        process = subprocess.Popen(
            [sys.executable, *map(str, command)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        line = process.stdout.readline()
        assert " is at http://127.0.0.1:" in line, line + process.stderr.read()
        return line.split(" is at ")[1].split()[0]

    yield serve
    for process in processes:
        process.send_signal(signal.SIGINT)
    try:
        for process in processes:  # as Ctrl-C: cleanly, though a browser may still be connected
            _, errors = process.communicate(timeout=60)
            assert process.returncode == 0 and "Traceback" not in errors, errors
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.communicate()
