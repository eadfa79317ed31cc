from __future__ import annotations

import os
from datetime import UTC
from pathlib import Path

import pytest

from tracker.settings import SECRET_FILES, Settings, SettingsError, packaged_geoip, secret_files


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("TRACKER_PORT", "x", "whole number from 1 to 65533"),
        ("TRACKER_DATA_DIR", "~no-such-user/x", "home directory"),
        ("TRACKER_GEOIP_DB", "/a.mmdb,~no-such-user/x", "home directory"),
        ("TRACKER_REDIS_URL", "http://h", "does not start with redis://"),
        ("TRACKER_REDIS_URL", "redis://h:bad", "its port is not a number"),
        ("TRACKER_REDIS_URL", "redis://h:99999", "its port is not a number"),
        ("TRACKER_REDIS_URL", "redis://[::1", "Invalid IPv6"),
        ("TRACKER_REDIS_URL", "redis://a:1,b:2", "begin it with redis+sentinel:// or redis+cluster://"),
        ("TRACKER_REDIS_URL", "redis+cluster://a:1,b:x", "its port is not a number"),
        ("TRACKER_REDIS_URL", "redis+cluster://a:1,", "a node has no address"),
        ("TRACKER_REDIS_URL", "redis+cluster://a:1/1", "all its keys are in database 0"),
        ("TRACKER_REDIS_URL", "redis+sentinel://a:1,b:2", "it does not end with /NAME"),
        ("TRACKER_REDIS_URL", "redis+sentinel://a:1/x/0", "it does not end with /NAME"),
        ("TRACKER_POSTGRES_DSN", "postgresql://u:secret/s@h/x", "its port is not a number"),
        ("TRACKER_POSTGRES_DSN", "postgresql://a:1,b:bad/x", "its port is not a number"),
        ("TRACKER_TIME_ZONE", "America", "'America' is not a time zone"),
        ("TRACKER_TIME_ZONE", "Mars", "Mars"),
        ("TRACKER_TIME_ZONE", "x" * 300, "is not a time zone"),
        ("TRACKER_TIME_ZONE", "../UTC", "ZoneInfo keys"),
        ("TRACKER_CURRENCY", "BTC", "'BTC' must be a currency of ISO 4217, like EUR"),
        ("TRACKER_TRUSTED_PROXIES", "10.0.0.0/33", "10.0.0.0/33"),
        ("TRACKER_COOKIE_NAME", "a b", "'a b' is not a cookie name"),
        ("TRACKER_COOKIE_NAME", "a;b", "is not a cookie name"),
        ("TRACKER_COOKIE_NAME", "a=b", "is not a cookie name"),
        ("TRACKER_COOKIE_NAME", "ä", "is not a cookie name"),
        ("TRACKER_COOKIE_NAME", "x" * 101, "is not a cookie name"),
        ("TRACKER_COOKIE_DAYS", "0", "whole number from 1 to 400"),
        ("TRACKER_COOKIE_DAYS", "401", "whole number from 1 to 400"),
        ("TRACKER_KEEP_DAYS", "34", "whole number from 35 to 36500"),
        ("TRACKER_KEEP_DAYS", "-1", "whole number from 35 to 36500"),
        ("TRACKER_PARTITIONS", "0", "whole number from 1 to 64"),
        ("TRACKER_PARTITIONS", "65", "whole number from 1 to 64"),
        ("TRACKER_PARTITIONS", "two", "whole number from 1 to 64"),
        ("TRACKER_PURE", "01", "'01' is neither 0 nor 1"),
        ("TRACKER_PURE", "yes", "'yes' is neither 0 nor 1"),
        ("TRACKER_API_RATE", "many", "'many' is not a rate such as 600/minute"),
        ("TRACKER_DASHBOARD_URL", "tracker.example", "does not start with https:// or http://"),
        ("TRACKER_DASHBOARD_URL", "https://", "not only a scheme and a host"),
        ("TRACKER_DASHBOARD_URL", "https://tracker.example/dashboard", "not only a scheme and a host"),
        ("TRACKER_DASHBOARD_URL", "https://tracker.example?x", "not only a scheme and a host"),
        ("TRACKER_DASHBOARD_URL", "https://u:secret@tracker.example", "not only a scheme and a host"),
        ("TRACKER_DASHBOARD_URL", "https://tracker.example:x", "its port is not a number"),
        ("TRACKER_TOTP_ROLES", "admin,boss", "'boss' is not a role. Roles: admin, manager,"),
        ("TRACKER_COLOUR", "red", "unknown setting"),
    ],
)
def test_unreadable_setting_is_named(name: str, value: str, complaint: str) -> None:
    with pytest.raises(SettingsError, match=name) as refusal:
        Settings.from_env({name: value})
    assert complaint in str(refusal.value)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("environ", "taken"),
    [
        ({"TRACKER_API_PORT": "8002"}, "8002 is TRACKER_API_PORT"),
        ({"TRACKER_PORT": "9000", "TRACKER_METRICS_PORT": "9001"}, "9001 is TRACKER_API_PORT"),
        ({"TRACKER_METRICS_PORT": "8000"}, "8000 is TRACKER_PORT"),
    ],
)
def test_metrics_port_that_is_taken_is_named(environ: dict[str, str], taken: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        Settings.from_env(environ)
    advice = "Set TRACKER_METRICS_PORT to another port"
    assert str(refusal.value) == f"TRACKER_METRICS_PORT: {taken}, too. {advice}"


def test_two_copies_need_a_server_with_a_replica() -> None:
    with pytest.raises(SettingsError, match=r"TRACKER_COPIES: the embedded .* Set TRACKER_REDIS_URL"):
        Settings.from_env({"TRACKER_COPIES": "2"})
    assert Settings.from_env({"TRACKER_COPIES": "2", "TRACKER_REDIS_URL": "redis://10.0.0.5"}).copies == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TRACKER_REDIS_URL", "redis://:pa,ss:word@h:6379/0"),
        ("TRACKER_REDIS_URL", "rediss+cluster://u:pa,ss@a:7000,[::1]:7001?ssl_ca_certs=ca.pem"),
        ("TRACKER_REDIS_URL", "redis+sentinel://:p@a,b:26380/mymaster?sentinel_password=q"),
        ("TRACKER_REDIS_URL", "unix:///run/valkey.sock"),
        ("TRACKER_POSTGRES_DSN", "postgresql://u:p@[::1]:5432/x"),
        ("TRACKER_POSTGRES_DSN", "postgresql://u:p@a:5432,b:5433/x?target_session_attrs=primary"),
        ("TRACKER_TIME_ZONE", "America/New_York"),
        ("TRACKER_CURRENCY", "EUR"),
        ("TRACKER_APPEND_TIMEOUT_MS", 275),
        ("TRACKER_BATCH_AGE_MS", 0),
        ("TRACKER_COOKIE_NAME", "__Host-tv"),
        ("TRACKER_DASHBOARD_URL", "https://tracker.example:8443"),
        ("TRACKER_COOKIE_DAYS", 400),
        ("TRACKER_API_PORT", 9001),
        ("TRACKER_METRICS_PORT", 9100),
        ("TRACKER_METRICS_HOST", "::1"),
        ("TRACKER_PARTITIONS", 64),
    ],
)
def test_variable_reads_back_as_it_was_set(name: str, value: object) -> None:
    assert dict(Settings.from_env({name: str(value)}).variables())[name] == value


@pytest.mark.parametrize(
    ("environ", "begins"),
    [
        ({}, "http://127.0.0.1:8001"),
        ({"TRACKER_HOST": "0.0.0.0", "TRACKER_API_PORT": "9001"}, "http://127.0.0.1:9001"),
        ({"TRACKER_HOST": "::"}, "http://[::1]:8001"),
        ({"TRACKER_DASHBOARD_URL": "https://tracker.example/"}, "https://tracker.example"),
    ],
)
def test_links_for_people_begin_where_the_pages_are(environ: dict[str, str], begins: str) -> None:
    assert Settings.from_env(environ).dashboard == begins


def test_roles_with_a_second_factor_are_a_list() -> None:
    assert Settings.from_env({"TRACKER_TOTP_ROLES": " Admin, finance ,"}).totp_roles == ("admin", "finance")


def test_variables_show_the_units_that_an_operator_sets() -> None:
    shown = dict(Settings.from_env({"TRACKER_PORT": "9000"}).variables())
    assert shown["TRACKER_APPEND_TIMEOUT_MS"] == 250
    ports = [shown[f"TRACKER_{name}"] for name in ("PORT", "API_PORT", "METRICS_PORT")]
    assert ports == [9000, 9001, 9002]
    assert shown["TRACKER_GEOIP_DB"] == packaged_geoip()
    assert shown["TRACKER_DATA_DIR"] == Path("var")
    assert shown["TRACKER_TIME_ZONE"] == str(UTC)


@pytest.mark.parametrize("variable", SECRET_FILES)
def test_secret_is_read_from_its_file(tmp_path: Path, variable: str) -> None:
    secrets = {
        "TRACKER_REDIS_URL_FILE": "redis://:pa%2Fss@h:6379/0",
        "TRACKER_MAXMIND_LICENSE_KEY_FILE": "abcdefgh_1234",
    }
    secret = secrets.get(variable, "postgresql://u:p@h/x")
    path = tmp_path / "secret"
    path.write_text(f"{secret}\n")
    environ = {variable: f" {path} ", "TRACKER_PORT": "9000"}
    assert dict(Settings.from_env(environ).variables())[variable.removesuffix("_FILE")] == secret
    assert secret_files(environ) == {variable: path}
    assert Settings.from_env({variable: " "}).postgres_dsn is None


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "No such file or directory"),
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b"postgresql://u:secret@h/x\nmore", "it has more than one line"),
        (b"postgresql://u:secret\x00@h/x", "it has more than one line, or control characters"),
        (b"secret\xff", "it is not text"),
        (b"secret" * 2000, "it is longer than 8192 bytes"),
    ],
)
def test_unreadable_file_of_a_secret_is_named(tmp_path: Path, content: bytes | None, complaint: str) -> None:
    path = tmp_path / "dsn"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError) as refusal:
        Settings.from_env({"TRACKER_POSTGRES_DSN_FILE": str(path)})
    assert str(refusal.value).startswith(f"TRACKER_POSTGRES_DSN_FILE: {path}: {complaint}")
    assert "secret" not in str(refusal.value)


def test_file_of_a_secret_is_a_regular_file_and_the_only_source(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, complaint in {
        tmp_path / "fifo": "it is not a regular file",
        tmp_path: "Is a directory",
    }.items():
        with pytest.raises(SettingsError, match=complaint):
            Settings.from_env({"TRACKER_REDIS_URL_FILE": str(path)})
    (tmp_path / "url").write_text("http://u:secret@h")
    with pytest.raises(SettingsError, match="TRACKER_REDIS_URL: it does not start with") as refusal:
        Settings.from_env({"TRACKER_REDIS_URL_FILE": str(tmp_path / "url")})
    assert "secret" not in str(refusal.value)
    with pytest.raises(SettingsError, match="TRACKER_REDIS_URL and TRACKER_REDIS_URL_FILE are both set"):
        Settings.from_env({"TRACKER_REDIS_URL": "redis://h", "TRACKER_REDIS_URL_FILE": "/x"})
