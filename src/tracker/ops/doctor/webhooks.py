"""Webhooks: whether their secrets can be read, and requests that are stuck."""

from __future__ import annotations

from tracker import secret_key
from tracker.errors import CannotStartError
from tracker.ops.doctor.finding import Finding, cannot_read
from tracker.ops.doctor.servers import StreamResult, time_limit
from tracker.secret_key import OtherKeyError
from tracker.settings import Settings
from tracker.store import db
from tracker.store.webhooks import webhooks
from tracker.store.webhooks.sent import WEBHOOKS
from tracker.store.webhooks.webhooks import Sealed


async def check(settings: Settings, _: StreamResult) -> list[Finding]:
    """Whether the key file opens the secrets, and whether the network's own systems get their events."""
    assert settings.postgres_dsn
    try:
        async with time_limit():
            connection = await db.connect(settings.postgres_dsn)
            try:
                counts = await WEBHOOKS.counts(connection)
                sealed = await webhooks.secrets(connection)
            finally:
                await connection.close()
    except (*db.UNREACHABLE, db.REFUSED) as error:
        return [cannot_read("webhooks", error)]
    findings = [Finding("webhooks", "ok", f"requests waiting to be sent to webhooks: {counts.waiting}")]
    findings += _of_key(settings, sealed)
    if counts.overdue:
        text = f"requests to webhooks that are overdue: {counts.overdue}"
        findings.append(Finding("webhooks", "warn", text, "does a worker run?"))
    if counts.failed:
        text = f"requests to webhooks given up within a day: {counts.failed}"
        findings.append(Finding("webhooks", "warn", text, "see GET …/users/sent-webhooks?state=failed"))
    return findings


def _of_key(settings: Settings, sealed: list[Sealed]) -> list[Finding]:
    path = settings.key_file
    try:
        key = secret_key.read(path)
    except FileNotFoundError:
        if not sealed:
            return []
        advice = "put the file back. If it is lost, rotate the secrets of all webhooks"
        return [Finding("webhooks", "fail", f"the key file {path} is missing", advice)]
    except CannotStartError as error:
        return [Finding("webhooks", "fail", str(error))]
    findings = []
    for id_, secret in sealed:
        try:
            key.open(secret)
        except OtherKeyError:
            text = f"the secret of webhook {id_} was encrypted with another key than that in {path}"
            advice = f"put the right key file there, or rotate: POST …/users/webhooks/{id_}/rotate"
            findings.append(Finding("webhooks", "fail", text, advice))
    return findings
