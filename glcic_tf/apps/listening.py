"""A socket to serve a page on, and the page's address."""

import ipaddress
import socket

from glcic_tf.common.errors import UserError


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
