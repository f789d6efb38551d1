"""A web server on loopback that lists folders as Python's does, and gives parts of files."""

import contextlib
import functools
import http.server
import re
import threading


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.requests.append((self.path, self.headers.get("Authorization")))
        part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if self.path in self.server.pages:
            return self.give(200, self.server.pages[self.path], "text/html")
        if part is None or not self.server.parts:
            return super().do_GET()
        begin, end = int(part[1]), int(part[2]) + 1
        with open(self.translate_path(self.path), "rb") as file:
            content = file.read()
        if begin >= len(content):
            return self.send_error(416)
        return self.give(206, content[begin:end], "application/octet-stream")

    def give(self, status, content, kind):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextlib.contextmanager
def serving(folder):
    """Yield (URL, server) of a folder.

    `server.requests` has (path, Authorization) of each, `server.pages` {path: bytes} of HTML to give in place of what
    is there; `server.parts = False`: whole files alone, as Python's server gives them.
    """
    handler = functools.partial(_Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.requests, server.pages, server.parts = [], {}, True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", server
        finally:
            server.shutdown()
            thread.join()
