"""The server of edges and of the API accepts many new connections in one turn of its loop."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from contextlib import ExitStack

from tracker.processes.serving import ACCEPTED_TOGETHER

CONNECTIONS = 64
SERVER = """
import asyncio, os, signal, sys
from tracker.edge.http.bounds import BoundedProtocol
from tracker.processes.serving import serve

turn, accepted = 0, {}

class Counting(BoundedProtocol):
    def connection_made(self, transport):
        super().connection_made(transport)
        accepted[turn] = accepted.get(turn, 0) + 1
        if sum(accepted.values()) == int(sys.argv[2]):
            print(max(accepted.values()))
            os.kill(os.getpid(), signal.SIGTERM)

def count_turns():
    global turn
    turn += 1
    asyncio.get_running_loop().call_soon(count_turns)

async def app(scope, receive, send):
    await receive()
    count_turns()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})

serve(app, "TRACKER_PORT", "127.0.0.1", 0, int(sys.argv[1]), Counting)
"""


def test_burst_of_connections_is_accepted_in_few_turns() -> None:
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=CONNECTIONS))
        argv = [sys.executable, "-c", SERVER, str(listening.fileno()), str(CONNECTIONS + 1)]
        server = stack.enter_context(
            subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, pass_fds=(listening.fileno(),))
        )
        stack.callback(server.kill)
        address = listening.getsockname()
        first = stack.enter_context(socket.create_connection(address, timeout=60))
        first.sendall(b"GARBAGE\r\n\r\n")
        assert first.recv(12) == b"HTTP/1.1 400"  # it has started
        server.send_signal(signal.SIGSTOP)
        for _ in range(CONNECTIONS):
            stack.enter_context(socket.create_connection(address, timeout=60))
        server.send_signal(signal.SIGCONT)
        assert server.communicate(timeout=60) == (f"{ACCEPTED_TOGETHER}\n", None)
