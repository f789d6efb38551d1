"""The HTTP server below the pages: uvicorn, with clients that are slow or many cut off."""

import asyncio

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_S = 15  # a request's headers have to arrive within so long
STALL_S = 30  # a body that comes at less than MIN_BYTES in so long, or an answer that is not read for so long, is cut
MIN_BYTES = 2000
MAX_CONNECTIONS = 512
_CHECK_S = 2.5
_GRACE_S = 1  # for requests that are under way when the server is to end
_END_S = 0.5  # for those that were cut off then


def server(application, lifespan="off"):
    """Return the uvicorn.Server of an ASGI application: `run(sockets=[listener])` serves it."""
    config = uvicorn.Config(
        application,
        http=_Protocol,
        log_level="warning",
        ws="none",
        lifespan=lifespan,
        server_header=False,
    )
    return _Server(config)


def max_connections():
    """Return how many connections may be open: half of the files that this process may open, at most."""
    try:
        import resource  # where there is one
    except ImportError:
        return MAX_CONNECTIONS
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else max(8, min(MAX_CONNECTIONS, soft // 2))


class _Server(uvicorn.Server):
    """Ends without completions that still run: nothing interrupts their threads, and `asyncio.run` would wait."""

    def run(self, sockets=None):
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(self.serve(sockets))
        finally:
            running = asyncio.all_tasks(loop)
            for task in running - self.server_state.tasks:  # a request whose connection is cut ends of itself
                task.cancel()
            if running:
                _, running = loop.run_until_complete(asyncio.wait(running, timeout=_END_S))
            if not running:  # else threads go on, and call the loop in the end
                loop.run_until_complete(loop.shutdown_asyncgens())
                loop.close()

    async def shutdown(self, sockets=None):
        patience = asyncio.get_running_loop().call_later(_GRACE_S, self._cut_off)
        await super().shutdown(sockets)
        patience.cancel()
        if self.force_exit:  # uvicorn leaves this out then
            await self.lifespan.shutdown()

    def _cut_off(self):
        for connection in list(self.server_state.connections):
            connection.cut()
        self.force_exit = True


class _Protocol(H11Protocol):
    """One connection. uvicorn has no bound for a request that never ends, and accepts until no file can be opened."""

    _waiting_since = None  # loop time: from then on a request was to come
    _timer, _stalled_s, _received, _unsent = None, 0.0, 0, 0

    def connection_made(self, transport):
        super().connection_made(transport)
        self._waiting_since = self.loop.time()
        self._timer = self.loop.call_later(_CHECK_S, self._check)
        if len(self.connections) > max_connections():
            # Whoever has sent no whole request goes first, the one that has waited longest: others are being served.
            waiting = [other for other in self.connections if getattr(other, "_waiting_since", None) is not None]
            min(waiting, key=lambda other: other._waiting_since).cut()

    def connection_lost(self, exc):
        self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data):
        self._received += len(data)
        super().data_received(data)
        if self._state() != "IDLE":
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = self.loop.time()

    def send_400_response(self, msg):
        try:
            super().send_400_response(msg)
        except h11.LocalProtocolError:  # the answer has begun, or it may not say anything: that to HEAD
            self.transport.close()

    def cut(self):
        """End the connection, whatever is under way."""
        self.connections.discard(self)  # connection_lost comes later
        self._waiting_since = None
        self.transport.abort()

    def _state(self):
        return str(self.conn.their_state)

    def _check(self):
        now = self.loop.time()
        if self._waiting_since is not None and now - self._waiting_since > REQUEST_S:
            self.cut()
            return
        unsent = self.transport.get_write_buffer_size()
        sending = self.flow.write_paused or self.transport.is_closing()
        receiving = self._state() == "SEND_BODY" and not self.flow.read_paused
        unread = sending and unsent and unsent == self._unsent
        self._stalled_s = self._stalled_s + _CHECK_S if unread or receiving and self._received < MIN_BYTES else 0.0
        if self._stalled_s == 0:
            self._received = 0
        self._unsent = unsent
        if self._stalled_s > STALL_S:
            self.cut()
        else:
            self._timer = self.loop.call_later(_CHECK_S, self._check)
