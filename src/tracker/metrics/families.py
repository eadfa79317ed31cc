"""Every metric of a tracker: its name, kind, labels and meaning. docs/reference/metrics.md is made of it.

Names and labels follow Prometheus' rules (https://prometheus.io/docs/practices/naming/).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["counter", "gauge", "histogram"]

_LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_DELAYS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)
_SIZES = (1.0, 10.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 10_000.0)


class Family(NamedTuple):
    """One metric."""

    name: str  # as it is shown: counters end with _total
    kind: Kind
    labels: tuple[str, ...]
    meaning: str
    """For the docs, in Markdown, and without its marks for HELP."""
    needs: str = ""
    """What must happen before it has a sample. "": nothing."""
    buckets: tuple[float, ...] = ()
    """Upper bounds of a histogram."""


_EDGE = ("edge",)
_API = ("api",)
_WORKER = ("worker",)
_PROCESS = ("process",)

PROCESSES = (
    Family(
        "tracker_process_up",
        "gauge",
        _PROCESS,
        "processes that run. 0 for one that does not answer within 5 s",
    ),
    Family(
        "tracker_build_info",
        "gauge",
        (*_PROCESS, "version", "python", "form"),
        "always 1. The release, Python's version, and the form that runs: `compiled` or `pure`",
    ),
    Family(
        "process_cpu_seconds_total",
        "counter",
        _PROCESS,
        "time that the process has used of a core, in seconds",
    ),
    Family("process_resident_memory_bytes", "gauge", _PROCESS, "memory that the process has in RAM"),
    Family("process_start_time_seconds", "gauge", _PROCESS, "Unix time of its start. A jump is a restart"),
    Family(
        "process_open_fds",
        "gauge",
        _PROCESS,
        "open files and connections. Absent for processes of other accounts",
    ),
    Family("process_max_fds", "gauge", _PROCESS, "the most that it may open"),
)

EDGES = (
    Family(
        "tracker_redirect_seconds",
        "histogram",
        (*_EDGE, "outcome"),
        "time from the start of a click's batch to its answer: `recorded` on stream or spool, or "
        "`not_recorded`",
        buckets=_LATENCIES,
    ),
    Family(
        "tracker_append_seconds",
        "histogram",
        _EDGE,
        "time of a call that puts clicks on the stream, with the server's fsync and the wait for a replica. "
        "Calls that fail count too",
        buckets=_LATENCIES,
    ),
    Family(
        "tracker_clicks_recorded_total",
        "counter",
        (*_EDGE, "status", "reason"),
        "clicks on the stream and answered, with the [reason's](tracking-links.md#reasons) number",
    ),
    Family(
        "tracker_clicks_spooled_total",
        "counter",
        _EDGE,
        "clicks put on local disk and answered while the stream or its replica was away",
    ),
    Family(
        "tracker_clicks_one_copy_total",
        "counter",
        _EDGE,
        "with [`TRACKER_COPIES=2`](../operations/two-copies.md): clicks that only one machine had. "
        "`TRACKER_ON_LOSS` decided their answer",
    ),
    Family(
        "tracker_visitors_unknown_total",
        "counter",
        _EDGE,
        "clicks whose visitors could not be remembered, with reason 41",
    ),
    Family(
        "tracker_clicks_not_recorded_total",
        "counter",
        (*_EDGE, "answer"),
        "clicks that could not be put on disk in time, by the visitor's answer",
        "clicks that are not recorded",
    ),
    Family(
        "tracker_speculative_requests_total", "counter", _EDGE, "prefetches and previews. They are not clicks"
    ),
    Family(
        "tracker_head_requests_total",
        "counter",
        _EDGE,
        "HEAD requests, answered like a GET. They are not clicks",
    ),
    Family(
        "tracker_lenient_links_total",
        "counter",
        _EDGE,
        "clicks found only by the [lenient reading](tracking-links.md#lenient-reading) of their link",
    ),
    Family("tracker_orphans_total", "counter", _EDGE, "hits that name no known offer or affiliate"),
    Family(
        "tracker_unknown_url_ids_total",
        "counter",
        _EDGE,
        "clicks whose `url_id` is not an active URL of their offer",
    ),
    Family(
        "tracker_bots_total",
        "counter",
        _EDGE,
        "clicks of bots. They are recorded, flagged, and redirected like people's",
    ),
    Family(
        "tracker_unsendable_locations_total",
        "counter",
        _EDGE,
        "clicks whose filled Location could not be sent. Look at their URL",
        "such a click",
    ),
    Family(
        "tracker_parameters_left_out_total",
        "counter",
        _EDGE,
        "[parameters that an offer passes on](targeting-and-urls.md#pass-through), and that found no room",
        "such a parameter",
    ),
    Family(
        "tracker_postbacks_total",
        "counter",
        (*_EDGE, "status"),
        "postbacks and pixels, by HTTP status. Those with 200 are on the stream",
    ),
    Family(
        "tracker_bad_requests_total",
        "counter",
        (*_EDGE, "status"),
        "requests refused before their content was read, by HTTP status",
    ),
    Family(
        "tracker_catalogue_problems",
        "gauge",
        _EDGE,
        "objects of the catalogue with errors. They are left out in whole or in part",
    ),
    Family("tracker_stream_up", "gauge", _EDGE, "1 if clicks go to the stream, 0 if they go to the spool"),
    Family(
        "tracker_spool_bytes",
        "gauge",
        _EDGE,
        "bytes on local disk that wait for the stream, of all edges of this data directory",
    ),
    Family(
        "tracker_clock_skew_seconds",
        "gauge",
        _EDGE,
        "how far the stream server's clock is ahead of this machine's. Over 1 is an alarm",
    ),
)

WORKERS = (
    Family(
        "tracker_batch_seconds",
        "histogram",
        _WORKER,
        "time of a transaction that stores clicks",
        "a stored click",
        _LATENCIES,
    ),
    Family(
        "tracker_batch_clicks", "histogram", _WORKER, "clicks of such a transaction", "a stored click", _SIZES
    ),
    Family(
        "tracker_click_delay_seconds",
        "histogram",
        _WORKER,
        "time from the oldest click of a batch to its row",
        "a stored click",
        _DELAYS,
    ),
    Family(
        "tracker_postback_delay_seconds",
        "histogram",
        (*_WORKER, "direction"),
        "from a postback's arrival to its result (`in`), and from the first attempt to an answer (`out`)",
        "a postback",
        _DELAYS,
    ),
)

APIS = (
    Family("tracker_api_answers_total", "counter", (*_API, "status"), "answers of the API, by HTTP status"),
    Family(
        "tracker_api_limited_total",
        "counter",
        (*_API, "by"),
        "answers 429, by `token` (its rate) or `address` (its wrong tokens)",
    ),
    Family(
        "tracker_api_wrong_tokens_total",
        "counter",
        _API,
        "tokens presented that are unknown, revoked or expired",
    ),
    Family(
        "tracker_api_reads_total",
        "counter",
        (*_API, "from"),
        "lists, reports and exports, by the server that was chosen: `primary`, or a "
        "[standby](../operations/standby.md)",
    ),
    Family(
        "tracker_standby_behind_bytes",
        "gauge",
        _API,
        "write-ahead log that the standby has not replayed",
        "a standby that answers",
    ),
)

ENGINES = (
    Family(
        "tracker_engine_up",
        "gauge",
        ("engine",),
        "1 if the API reaches the engine within 2 s: `stream`, `postgres`",
    ),
    Family(
        "tracker_stream_clicks",
        "gauge",
        ("partition",),
        "recorded clicks that wait for a worker",
        "clicks that wait",
    ),
    Family(
        "tracker_complete_until_seconds",
        "gauge",
        (),
        "how far [Complete-Until](read-api.md) is behind now",
        "a heartbeat of an edge",
    ),
    Family(
        "tracker_dead_letters",
        "gauge",
        (),
        "[dead letters](../operations/spool-and-dead-letters.md#dead-letters)",
    ),
    Family(
        "tracker_ledger_unbalanced",
        "gauge",
        (),
        "minutes of the last hour that do not balance. `tracker ledger` names them",
    ),
    Family("tracker_unique_bytes", "gauge", (), "memory of the stream server for remembered visitors"),
    Family(
        "tracker_unique_allowed_bytes",
        "gauge",
        (),
        "the most it may be. Beyond it new visitors are not unique",
    ),
    Family(
        "tracker_waiting_postbacks",
        "gauge",
        ("place",),
        "postbacks that wait: on the `stream`, `parked` for their clicks, `waiting` for dead letters, or "
        "`unreadable` by this version",
    ),
    Family(
        "tracker_affiliate_postbacks",
        "gauge",
        ("state",),
        "postbacks to affiliates that are `waiting` or `overdue`, or `failed` within a day",
    ),
    Family(
        "tracker_webhooks",
        "gauge",
        ("state",),
        "requests to [webhooks](webhooks.md) that are `waiting` or `overdue`, or `failed` within a day",
    ),
    Family(
        "tracker_alerts",
        "gauge",
        ("kind",),
        "what needs attention, by [kind](webhooks.md#alerts), as a worker noted it within half a minute",
    ),
    Family(
        "tracker_count_delta_seconds",
        "gauge",
        (),
        "age of the oldest [delta](../architecture.md#counts-of-clicks) of clicks or conversions. "
        "A worker adds them up once a second",
    ),
    Family(
        "tracker_sub_id_seconds",
        "gauge",
        (),
        "time since a worker last had all [pieces of sub ids](../architecture.md#counts-of-clicks) of "
        "the last two days. It looks every minute",
    ),
    Family(
        "tracker_partitions_ahead", "gauge", (), "coming days that have a partition of the table of clicks"
    ),
    Family(
        "tracker_kept_since_seconds",
        "gauge",
        (),
        "Unix time from which on clicks are [kept one by one](../operations/retention.md). 0: all are",
    ),
    Family("tracker_retention_dropped", "gauge", (), "days of clicks that were dropped"),
    Family(
        "tracker_retention_held",
        "gauge",
        (),
        "1 if an old day of clicks cannot be dropped. `tracker doctor` says why",
    ),
)

MACHINE = (
    Family("tracker_disk_free_bytes", "gauge", (), "free space under `TRACKER_DATA_DIR`"),
    Family("tracker_disk_bytes", "gauge", (), "size of that disk"),
    Family(
        "tracker_backup_age_seconds",
        "gauge",
        (),
        "age of the last verified [backup](../operations/backup.md#backups-by-a-timer)",
        "a verified backup",
    ),
    Family(
        "tracker_geo_age_seconds",
        "gauge",
        ("file",),
        "age of the data of each [geo database](../guides/geoip.md)",
        "a geo database",
    ),
)

SECTIONS = {
    "Processes": PROCESSES,
    "Edges": EDGES,
    "Workers": WORKERS,
    "APIs": APIS,
    "Engines": ENGINES,
    "Machine": MACHINE,
}
FAMILIES = {family.name: family for families in SECTIONS.values() for family in families}
