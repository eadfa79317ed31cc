"""The cluster of the embedded PostgreSQL: created if missing, open to its own users only.

The kernel names the user of a connection, and each user has a role (`peer`). There are no passwords. The
services get the role `tracker`, which owns the database and nothing else. Root, or the user who runs the
tracker, gets the superuser role `tracker_admin`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pwd
import shutil
from contextlib import suppress
from pathlib import Path

from tracker.errors import CannotStartError
from tracker.processes.children import Account
from tracker.processes.engines import accounts
from tracker.processes.engines.launcher import Launcher

ROLE, ADMIN = "tracker", "tracker_admin"

_log = logging.getLogger(__name__)

_ACCESS = """\
# Of the tracker: users of this machine have the roles of pg_ident.conf. There is no other way in.
local all all peer map=tracker
"""
_ROLES = "# Of the tracker, written at each start: which user of this machine may have which role."

_CREATE = f"CREATE ROLE {ROLE} LOGIN;\n\nCREATE DATABASE {ROLE} OWNER {ROLE};\n\n"

# Earlier clusters were created with the role `tracker`, and the first role of a cluster always stays
# superuser. So it is renamed, which needs the session of another role, and a new `tracker` gets all of its
# objects. REASSIGN OWNED does not work for the first role. One transaction: it is done completely or not at
# all.
_CONVERT = f"""\
DO $$ DECLARE object record; BEGIN
    IF (SELECT rolname <> '{ROLE}' FROM pg_authid WHERE oid = 10) THEN RETURN; END IF;
    CREATE ROLE tracker_interim SUPERUSER;
    SET SESSION AUTHORIZATION tracker_interim;
    ALTER ROLE {ROLE} RENAME TO {ADMIN};
    SET SESSION AUTHORIZATION {ADMIN};
    DROP ROLE tracker_interim;
    CREATE ROLE {ROLE} LOGIN;
    ALTER DATABASE {ROLE} OWNER TO {ROLE};
    FOR object IN
        WITH space AS (SELECT oid FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema$)'),
        made (catalog, oid, owner, name) AS (
            SELECT tableoid, oid, nspowner, format('SCHEMA %I', nspname)
            FROM pg_namespace WHERE oid IN (TABLE space)
            UNION ALL
            SELECT pg_class.tableoid, pg_class.oid, relowner, format('%s %s', kind, pg_class.oid::regclass)
            FROM pg_class JOIN (VALUES
                ('r', 'TABLE'), ('p', 'TABLE'), ('f', 'FOREIGN TABLE'), ('v', 'VIEW'),
                ('m', 'MATERIALIZED VIEW'), ('S', 'SEQUENCE'), ('c', 'TYPE')
            ) AS kinds (letter, kind) ON letter = relkind
            WHERE relnamespace IN (TABLE space) AND NOT (relkind = 'S' AND EXISTS (
                SELECT FROM pg_depend
                WHERE classid = pg_class.tableoid AND objid = pg_class.oid AND deptype IN ('a', 'i')
            ))
            UNION ALL
            SELECT tableoid, oid, proowner, format('ROUTINE %s', oid::regprocedure)
            FROM pg_proc WHERE pronamespace IN (TABLE space)
            UNION ALL
            SELECT tableoid, oid, typowner, format('TYPE %s', oid::regtype)
            FROM pg_type WHERE typnamespace IN (TABLE space) AND typtype IN ('d', 'e', 'r')
            UNION ALL
            SELECT tableoid, oid, stxowner, format('STATISTICS %s.%I', stxnamespace::regnamespace, stxname)
            FROM pg_statistic_ext WHERE stxnamespace IN (TABLE space)
        )
        SELECT name FROM made WHERE owner = 10 AND NOT EXISTS (
            SELECT FROM pg_depend WHERE classid = catalog AND objid = made.oid AND deptype = 'e'
        )
    LOOP
        EXECUTE format('ALTER %s OWNER TO {ROLE}', object.name);
    END LOOP;
END $$;

"""  # noqa: S608 - only names of our own

# -j: a blank line ends a statement. One of them locks every table, including years of daily partitions.
_SINGLE = ("--single", "-j", "-c", "exit_on_error=on", "-c", "max_locks_per_transaction=512")


async def prepare(postgres: Path, cluster: Path, launcher: Launcher) -> None:
    """Prepare a cluster for its start. `postgres` is the server's program.

    Raises:
        CannotStartError: it cannot be created or used, or belongs to another version or user.
    """
    if not await asyncio.to_thread(cluster.exists):
        await _make(postgres, cluster, launcher)
    await _check_version(postgres, cluster)
    accounts.own(cluster, launcher.account)
    # No process of ours runs here any more, see Launcher. Its pid may belong to another program by now.
    (cluster / "postmaster.pid").unlink(missing_ok=True)
    if not _is_converted(cluster):
        _log.info(
            "the cluster's role %(role)s becomes an ordinary role, "
            "and only users of this machine can connect",
            {"event": "role_converted", "role": ROLE},
        )
        await _single(postgres, cluster, launcher, ROLE, _CONVERT)
    _write(cluster / "pg_ident.conf", _users(launcher.account), launcher.account)
    _write(cluster / "pg_hba.conf", _ACCESS, launcher.account)  # last: this marks the cluster as converted


async def _make(postgres: Path, cluster: Path, launcher: Launcher) -> None:
    """Create a cluster with its database beside its place, then move it there: it is complete or absent."""
    new = cluster.with_name("postgres.new")
    shutil.rmtree(new, ignore_errors=True)
    accounts.own(new, launcher.account)
    initdb = [str(postgres.with_name("initdb")), "-D", launcher.path_of(new), "-U", ADMIN, "--auth=peer"]
    await launcher.run([*initdb, "--encoding=UTF8", "--locale=C"], new)
    await _single(postgres, new, launcher, "postgres", _CREATE)
    _write(new / "pg_hba.conf", _ACCESS, launcher.account)
    new.rename(cluster)


async def _single(postgres: Path, cluster: Path, launcher: Launcher, database: str, statements: str) -> None:
    """Execute statements without a server, as the role that the cluster was created with."""
    argv = [str(postgres), *_SINGLE, "-D", launcher.path_of(cluster), database]
    await launcher.run(argv, cluster, statements)


async def _check_version(postgres: Path, cluster: Path) -> None:
    asking = await asyncio.create_subprocess_exec(postgres, "--version", stdout=asyncio.subprocess.PIPE)
    output, _ = await asking.communicate()
    ours = output.decode().split()[-1].partition(".")[0]
    try:
        theirs = (cluster / "PG_VERSION").read_text().strip()
    except OSError as error:
        raise CannotStartError(
            f"{cluster} is not a PostgreSQL cluster: {error.strerror}: PG_VERSION"
        ) from error
    if theirs != ours:
        raise CannotStartError(
            f"{cluster} is a cluster of PostgreSQL {theirs}, but the embedded server is {ours}: upgrade it "
            "with pg_upgrade, or set TRACKER_DATA_DIR elsewhere"
        )


def _is_converted(cluster: Path) -> bool:
    with suppress(OSError):
        return (cluster / "pg_hba.conf").read_text().startswith(_ACCESS.splitlines()[0])
    return False


def _users(account: Account | None) -> str:
    """pg_ident.conf. Root may use both roles, for manual work."""
    try:
        ours = accounts.SERVICES if account is not None else pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        raise CannotStartError(
            f"the user {os.geteuid()} has no name, and PostgreSQL needs one: add it to /etc/passwd"
        ) from None
    having = [("root", ROLE), ("root", ADMIN)]
    if ours != "root":
        having += [(ours, ROLE), *([(ours, ADMIN)] if account is None else [])]
    return "\n".join([_ROLES, *(f'tracker "{user}" {role}' for user, role in having), ""])


def _write(path: Path, text: str, account: Account | None) -> None:
    """Replace a file of the engines' user without following its symbolic links."""
    with suppress(OSError):
        if path.read_text() == text:
            return
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        if account is not None:
            os.fchown(file.fileno(), account.uid, account.gid)
    fresh.replace(path)
