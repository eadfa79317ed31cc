"""Real proxies in front of a tracker, with the configurations of deploy/.

Changed are only ports, certificates and paths outside of a test's directory.
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import NamedTuple

from tests.e2e.running import PATIENCE, Up, free_port, wait_until

API_HOST = "api.network.example"
VISITOR = "127.0.0.2"
"""The address of visitors. It differs from the proxy's, which is trusted."""

_DEPLOY = Path(__file__).parents[2] / "deploy"
_ANY_CERTIFICATE = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_ANY_CERTIFICATE.check_hostname = False
_ANY_CERTIFICATE.verify_mode = ssl.CERT_NONE


class Proxy(NamedTuple):
    """A running proxy."""

    name: str
    http_port: int
    https_port: int

    def connect(self, host: str, *, tls: bool = False) -> socket.socket:
        """A visitor's connection.

        Raises:
            ssl.SSLError: the proxy has no certificate for the host.
        """
        port = self.https_port if tls else self.http_port
        plain = socket.create_connection(("127.0.0.1", port), PATIENCE, source_address=(VISITOR, 0))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            return _ANY_CERTIFICATE.wrap_socket(plain, server_hostname=host) if tls else plain
        except BaseException:
            plain.close()
            raise

    def get(self, host: str, path: str, *, tls: bool = False, **headers: str) -> tuple[HTTPResponse, bytes]:
        """The answer to a visitor on a connection of its own."""
        connection = HTTPConnection(host)
        connection.sock = self.connect(host, tls=tls)
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()


class _Setup(NamedTuple):
    """How a program is started: its arguments, and the changes to its file."""

    program: str
    file: str
    options: tuple[str, ...]
    changes: Mapping[str, str]


def _nginx(at: Path, http: int, https: int, file: str = "nginx.conf") -> _Setup:
    kinds = ("client_body", "proxy", "fastcgi", "scgi", "uwsgi")
    temporary = "".join(f" {kind}_temp_path {at / kind};" for kind in kinds)
    user = f" user {getpass.getuser()};" if os.geteuid() == 0 else ""
    options = ("-e", "stderr", "-p", str(at), "-g", f"daemon off; pid {at / 'pid'};{user}", "-c")
    changes = {
        "http {\n": f"http {{{temporary}\n",
        "listen 80 ": f"listen 127.0.0.1:{http} ",
        "listen 443 ": f"listen 127.0.0.1:{https} ",
        "/etc/nginx/tls/fullchain.pem": f"{at}/tls.pem",
        "/etc/nginx/tls/privkey.pem": f"{at}/tls.pem",
    }
    return _Setup("nginx", file, options, changes)


def _haproxy(at: Path, http: int, https: int) -> _Setup:
    changes = {
        "bind :80\n": f"bind 127.0.0.1:{http}\n",
        "bind :443 ": f"bind 127.0.0.1:{https} ",
        "/etc/haproxy/tls/": f"{at}/tls.pem",
    }
    return _Setup("haproxy", "haproxy.cfg", ("-db", "-f"), changes)


def _caddy(_: Path, http: int, https: int) -> _Setup:
    # A local authority signs its certificates, so that it asks no server on the network.
    local = "admin off\n\tlocal_certs\n\tskip_install_trust\n\tdefault_bind 127.0.0.1"
    changes = {
        "http_port 80\n": f"{local}\n\thttp_port {http}\n",
        "https_port 443\n": f"https_port {https}\n",
    }
    return _Setup("caddy", "Caddyfile", ("run", "--adapter", "caddyfile", "--config"), changes)


PROXIES: Mapping[str, Callable[[Path, int, int], _Setup]] = {
    "nginx": _nginx,
    "haproxy": _haproxy,
    "caddy": _caddy,
}
REHEARSAL = "nginx-rehearsal"
_SETUPS = {**PROXIES, REHEARSAL: partial(_nginx, file="nginx-rehearsal.conf")}


def program_of(name: str) -> str | None:
    """The path of a program. Debian keeps nginx and haproxy in sbin."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@contextmanager
def proxy_of(name: str, tracker: Up, at: Path, *, today: int = 0) -> Iterator[Proxy]:
    """A proxy in front of a tracker, with its files in the directory `at`.

    `today` is the port of the tracker that answers visitors in a rehearsal.
    """
    proxy = Proxy(name, http := free_port(), http + 1)
    program, file, options, changes = _SETUPS[name](at, proxy.http_port, proxy.https_port)
    text = (_DEPLOY / file).read_text()
    for here, there in changes.items():
        assert here in text, f"{file} has no {here!r} any more"
        text = text.replace(here, there)
    ports = {"8000": tracker.port, "8001": tracker.api_port, "8002": tracker.metrics_port, "9000": today}
    (at / file).write_text(
        re.sub(r"(?<=127\.0\.0\.1:)(?:800[012]|9000)\b", lambda port: str(ports[port[0]]), text)
    )
    _make_certificate(at / "tls.pem")
    log = at / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program_of(program) or program, *options, at / file],
            env=os.environ | {"HOME": str(at), "XDG_DATA_HOME": str(at), "XDG_CONFIG_HOME": str(at)},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        wait_until(lambda: process.poll() is not None or _listens(proxy))
        assert process.poll() is None, log.read_text()
        yield proxy
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _make_certificate(path: Path) -> None:
    key = ["-newkey", "rsa:2048", "-nodes", "-keyout", "-"]
    certificate = ["openssl", "req", "-x509", "-days", "2", "-subj", "/CN=tracker.test", "-out", "-", *key]
    made = subprocess.run(certificate, capture_output=True, timeout=PATIENCE, check=True)
    path.write_bytes(made.stdout)


def _listens(proxy: Proxy) -> bool:
    with suppress(ConnectionError):
        for port in (proxy.http_port, proxy.https_port):
            socket.create_connection(("127.0.0.1", port), PATIENCE).close()
        return True
    return False
