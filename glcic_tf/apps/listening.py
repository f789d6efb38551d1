"""A socket to serve a page on, the page's address, and serving until a signal ends it."""

import contextlib
import ipaddress
import os
import signal
import socket
import sys
import threading

from absl import flags

from glcic_tf.common import cli
from glcic_tf.common.errors import UserError


def define_flags(port, others):
    """Define the flags of a server: --host, --port, --allowed_hosts, --root_path, --token.

    Args:
        port: default.
        others: what other machines may do, "use the page".
    """
    flags.DEFINE_string("host", "127.0.0.1", f"Address to listen on; 0.0.0.0: let other machines {others}.")
    flags.DEFINE_integer("port", port, "Port to listen on; 0: any that is free.", 0, 65535)
    flags.DEFINE_list("allowed_hosts", [], "More host names that it is reached by, as that of a proxy; *: any.")
    flags.DEFINE_string("root_path", "", "Path that a proxy shows it under, as /glcic.")
    text = "Let nobody in without this token, sent as ?token=... once or as a Bearer token; random: make one."
    flags.DEFINE_string("token", None, text)


def warn_of_others(host, listener, token):
    """Say so if other machines can use what is served, and nobody is asked for a token."""
    if token is None and not is_loopback(listener):
        cli.say(
            f"--host={host}: everybody who reaches this machine on the network can use what is served; see --token."
        )


def listen(host, port):
    """Return a socket that listens on an address, to be closed by the caller.

    Args:
        host: name or address; the first that it stands for is taken.
        port: 0 takes a free one.

    Raises:
        UserError: the address cannot be listened on.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # Linux: of connections that ended
            listener.bind(address)
            listener.listen(128)
        except BaseException:
            listener.close()
            raise
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--host={host}, --port={port}: cannot be listened on ({reason}); choose others.") from error
    return listener


def url(host, listener):
    """Return the address of the page that is served on `listener`, as the user asked for it."""
    return f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}/"


def is_loopback(listener):
    """Whether only this machine can reach what is served on `listener`."""
    return ipaddress.ip_address(listener.getsockname()[0].split("%")[0]).is_loopback


def serve(server, listener):
    """Run a uvicorn.Server on `listener`, in the main thread, until SIGINT (Ctrl-C) or SIGTERM; then return.

    These two also end a process that was started with them ignored, as `nohup command &` and services do.
    """
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with contextlib.suppress(KeyboardInterrupt):  # the server stops in good order, and passes the signal on
            server.run(sockets=[listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave_completions():
    """End the process, once all else is in order, if completions still run; the interpreter would wait for them."""
    own = threading.current_thread()
    if any(thread is not own and not thread.daemon for thread in threading.enumerate()):
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(0)
