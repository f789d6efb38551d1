"""What stands before a page that this machine serves: who may use it, under which names, and what a bug tells.

A page of any site can make a visitor's browser send requests to 127.0.0.1, and can give its own name the address of
this machine (DNS rebinding). So the name that a request is for, and the page that it comes from, have to be ours.
"""

import asyncio
import contextlib
import dataclasses
import hmac
import ipaddress
import secrets
import socket
from hashlib import sha256
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

from h11 import LocalProtocolError
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse

from glcic_tf.common import cli
from glcic_tf.common.errors import UserError

COOKIE = "glcic_token"
RANDOM_TOKEN = "random"
MIN_TOKEN = 8  # characters
_ANY_HOST = "*"


@dataclasses.dataclass(frozen=True)
class Access:
    """Who may use a server, and under which names it is reached.

    Attributes:
        address: that it listens on.
        names: host names that it goes by.
        allowed_hosts: names of a proxy before it; "*" is any.
        root_path: the path that a proxy shows it under, "" or "/glcic".
        token: that a visitor has to have; None: nobody needs one.
    """

    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    names: frozenset
    allowed_hosts: frozenset = frozenset()
    root_path: str = ""
    token: str | None = None

    def is_ours(self, host):
        """Whether the Host of a request, "name" or "name:port", is this server."""
        name = _name(host)
        if name is None:
            return False
        if _ANY_HOST in self.allowed_hosts or name in self.allowed_hosts or name in self.names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        # No site can have a number for its name.
        return (
            self.address.is_unspecified or address == self.address or address.is_loopback and self.address.is_loopback
        )

    def is_own_page(self, origin, hosts):
        """Whether the Origin of a request to `hosts` is a page of this server."""
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https"):
            return False
        return parts.netloc.lower() in hosts or _name(parts.netloc) in self.allowed_hosts

    def url(self, url):
        """Return the address to tell the visitor, of the one that the server listens on."""
        return url if self.token is None else f"{url}?{urlencode({'token': self.token})}"


def access(host, listener, allowed_hosts=(), root_path="", token=None):
    """Return the Access of a server.

    Args:
        host: name or address that the user gave.
        listener: socket that it listens on.
        allowed_hosts: more names that it is reached by, without port.
        root_path: that a proxy shows it under, "" for none.
        token: None, a text, or RANDOM_TOKEN to make one.

    Raises:
        UserError: one of them is none.
    """
    address = ipaddress.ip_address(listener.getsockname()[0].split("%")[0])
    names = {host.lower()}
    if address.is_loopback or address.is_unspecified:
        names.add("localhost")
    if not address.is_loopback:
        own = socket.gethostname().lower()
        names |= {own, own.partition(".")[0], f"{own.partition('.')[0]}.local"}
    for name in allowed_hosts:
        if name != _ANY_HOST and _name(name) != name.lower():
            raise UserError(
                f"--allowed_hosts={name}: expected names without port or path, as photos.example.org, or *."
            )
    root_path = root_path.rstrip("/")
    if root_path and (
        not root_path.startswith("/") or "//" in root_path or not root_path.isascii() or "?" in root_path
    ):
        raise UserError(f"--root_path={root_path}: expected a path that starts with /, as /glcic.")
    if token == RANDOM_TOKEN:
        token = secrets.token_urlsafe(18)
    if token is not None and len(token) < MIN_TOKEN:
        raise UserError(f"--token: has {len(token)} characters; expected at least {MIN_TOKEN}, or {RANDOM_TOKEN}.")
    return Access(address, frozenset(names), frozenset(n.lower() for n in allowed_hosts), root_path, token or None)


class Guard:
    """ASGI: lets requests through that `access` allows; one line in the log for each that the application fails at."""

    def __init__(self, application, access):
        self._application, self._access = application, access

    async def __call__(self, scope, receive, send):
        """Answer a request, or pass it on."""
        if scope["type"] == "lifespan":
            await self._application(scope, receive, send)
        elif scope["type"] == "http":
            with contextlib.suppress(ClientDisconnect):
                await self._answer(scope, receive, _until_closed(send))

    async def _answer(self, scope, receive, send):
        started = False

        async def send_own(message):
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = message.get("headers", [])
                # No page of another site reads what is answered, whatever the application thinks.
                message = {
                    **message,
                    "headers": [h for h in headers if not h[0].lower().startswith(b"access-control-")],
                }
            await send(message)

        scope = self._below_root(scope)
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        try:
            await self._application(scope, receive, send_own)
        except ClientDisconnect:
            raise
        except asyncio.CancelledError:  # the server ends while this goes on
            if started:
                with contextlib.suppress(Exception):
                    await send({"type": "http.response.body"})
        except Exception as error:
            cli.say(f"{scope['method']} {scope['path'][:80]!r} failed: {where(error)}")
            if not started:
                await _refused(500, "Something went wrong here.")(scope, receive, send)

    def _below_root(self, scope):
        """A proxy may keep its path, or cut it off: ASGI wants it in both."""
        root = self._access.root_path
        if not root:
            return scope
        path = scope["path"]
        if path == root or path.startswith(root + "/"):
            path = path[len(root) :] or "/"
        return {**scope, "root_path": root, "path": root + path, "raw_path": (root + path).encode()}

    def _refusal(self, scope):
        """Return a response to answer with instead of the application, or None."""
        headers = [(name.lower(), value.decode("latin-1")) for name, value in scope["headers"]]
        hosts = [value for name, value in headers if name == b"host"]
        if len(hosts) != 1:
            return _refused(400, "Expected one Host header.")
        hosts += [v.strip() for name, value in headers if name == b"x-forwarded-host" for v in value.split(",")]
        if not all(self._access.is_ours(host) for host in hosts):
            return _refused(421, "This server does not go by that name; its flag --allowed_hosts can add it.")
        origins = [value for name, value in headers if name == b"origin"]
        if not all(self._access.is_own_page(origin, [host.lower() for host in hosts]) for origin in origins):
            return _refused(403, "Another site may not use this page.")
        if scope["method"] not in ("GET", "HEAD") and dict(headers).get(b"sec-fetch-site") == "cross-site":
            return _refused(403, "Another site may not use this page.")
        if scope["method"] == "OPTIONS":
            return _refused(405, "There is nothing to ask for.")
        return None if self._access.token is None else self._asked_for_token(scope, dict(headers))

    def _asked_for_token(self, scope, headers):
        token = self._access.token
        proof = sha256(token.encode()).hexdigest()
        bearer = headers.get(b"authorization", "").removeprefix("Bearer ")
        cookies = dict(c.strip().partition("=")[::2] for c in headers.get(b"cookie", "").split(";"))
        if _same(bearer, token) or _same(cookies.get(COOKIE, ""), proof):
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"))
        if any(_same(value, token) for name, value in query if name == "token"):
            rest = urlencode([(name, value) for name, value in query if name != "token"])
            # Not an address that a visitor chose: "//elsewhere" would be another server.
            response = RedirectResponse("/" + scope["path"].lstrip("/\\") + (f"?{rest}" if rest else ""), 303)
            path = self._access.root_path or "/"
            response.set_cookie(COOKIE, proof, httponly=True, samesite="lax", path=path)
            return response
        if "text/html" not in headers.get(b"accept", ""):  # a program
            response = _refused(401, "A token is missing or wrong; send it as Authorization: Bearer ...")
            response.headers["WWW-Authenticate"] = "Bearer"
            return response
        text = "This page needs a token: open the address that its owner gave you, with ?token=... at the end.\n"
        return PlainTextResponse(text, 401, {"WWW-Authenticate": "Bearer"})


def _until_closed(send):
    """`send` that takes a connection which uvicorn gave up, as after a body that is not HTTP, as one that ended."""

    async def send_or_tell(message):
        try:
            await send(message)
        except LocalProtocolError as error:
            raise ClientDisconnect from error

    return send_or_tell


def where(error):
    """Return an exception as one line, with the place that raised it."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    place = f" ({Path(frame.tb_frame.f_code.co_filename).name}:{frame.tb_lineno})" if frame else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}{place}"


def _refused(status, reason):
    return JSONResponse({"detail": reason, "error": reason}, status)


def _same(one, other):
    return hmac.compare_digest(one.encode(), other.encode())


def _name(host):
    """The name in "name:port", lower case and without brackets; None if there is none."""
    try:
        parts = urlsplit(f"//{host}")
        parts.port  # noqa: B018 - raises if it is no number
    except ValueError:
        return None
    if parts.netloc != host or parts.username is not None or not parts.hostname:
        return None
    return parts.hostname.rstrip(".")
