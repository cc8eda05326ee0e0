"""The JSON objects that travel inside messages, on the control socket and to ``/status``.

They are TypedDicts and no classes, because they are handed on as they are: from a worker to the
supervisor, from there to whoever asks. interface.md describes what users see of them. Pure.
"""

from __future__ import annotations

from typing import Literal, TypedDict

from acme_client.status import CertificateStatus, ClusterStatus
from acme_client.storage.etcd.figures import EngineFigures

Health = Literal["yes", "no", "untried"]
WorkerState = Literal["starting", "serving", "draining"]


class Figures(TypedDict):
    """What a worker has counted since its start (`metrics.counters`); labels are joined in keys.
    ``bytes``: by host, in and out. ``exemplars``: by host and bucket, a trace, its seconds and when
    it ended."""

    requests: dict[str, int]
    handshakes: dict[str, int]
    upstreams: dict[str, int]
    limited: dict[str, int]
    http2: dict[str, int]
    exemplars: dict[str, list[str]]
    seconds: dict[str, list[int]]
    seconds_sum: dict[str, float]
    bytes: dict[str, list[int]]
    upstream_seconds: dict[str, list[int]]
    upstream_seconds_sum: dict[str, float]


class UpstreamStatus(TypedDict):
    """One backend. ``healthy`` "untried": no request and no check has been sent to it yet;
    ``draining``: the configuration gives it no new requests."""

    url: str
    healthy: Health
    draining: bool
    last_error: str | None
    in_flight: int
    failures: int


class WorkerStats(TypedDict):
    """How a worker is. ``listeners``: open connections by the listener's address; ``open_fds``:
    open descriptors, None where they were not counted; ``figures`` None: nobody asks for them."""

    figures: Figures | None
    connections: int
    listeners: dict[str, int]
    open_fds: int | None
    streams: int
    requests: int
    upstreams: list[UpstreamStatus]


class WorkerStatus(TypedDict):
    pid: int
    generation: int
    state: WorkerState
    connections: int
    streams: int
    requests: int


class ListenerStatus(TypedDict):
    address: str
    kind: Literal["http", "https", "admin"]


class ProviderStatus(TypedDict):
    """Who tells of sites beside the files. ``left_out``: what is wrong, a line each."""

    kind: Literal["docker"]
    url: str
    connected: bool
    last_error: str | None
    containers: list[str]
    left_out: list[str]


class SiteStatus(TypedDict):
    """``source``: where its names stand."""

    names: list[str]
    source: str


class Status(TypedDict):
    """The document of ``status --json``. Where no server runs, the state directory alone speaks:
    ``pid`` to ``generation`` are None and there are no workers, listeners and backends.
    ``config``: the file that it was started with, None where it was started by flags.
    ``unwanted``: certificates that are kept and that no site wants, by name. ``cluster``: None
    where there is none, and until the certifier has said how it stands."""

    version: str
    pid: int | None
    uid: int | None
    gid: int | None
    started_at: str | None
    generation: int | None
    config: str | None
    workers: list[WorkerStatus]
    listeners: list[ListenerStatus]
    certificates: list[CertificateStatus]
    unwanted: list[str]
    upstreams: list[UpstreamStatus]
    providers: list[ProviderStatus]
    cluster: ClusterStatus | None
    sites: list[SiteStatus]


class ProcessFigures(TypedDict):
    """What the kernel counts of a process (`metrics.process_stats`)."""

    process: str
    cpu_seconds: float
    start_time_seconds: float
    virtual_memory_bytes: int
    resident_memory_bytes: int
    max_fds: int
    open_fds: int | None


class Overview(TypedDict):
    """What the supervisor knows of all processes: for the admin listener. ``renewals``: name,
    outcome, number; ``connections``: open ones by listener; ``certifier_heard``: Unix seconds;
    ``spans`` of traces by outcome, empty where there are no traces; ``crashes``: of processes, by
    their role; ``attention``: things to look at, by level; ``undelivered``: alerts that wait, by
    channel; ``warnings``: lines of the log by level; ``engine``: what was counted of a
    cluster's."""

    status: Status
    figures: Figures
    reloads: dict[str, int]
    renewals: list[tuple[str, str, int]]
    connections: dict[str, int]
    processes: list[ProcessFigures]
    certifier_heard: float
    spans: dict[str, int]
    on_demand: dict[str, int]
    crashes: dict[str, int]
    attention: dict[str, int]
    undelivered: dict[str, int]
    warnings: dict[str, int]
    engine: EngineFigures


class Rates(TypedDict):
    """The last minute of a site or a backend: requests a second in all and by class, seconds,
    bytes a second. ``p50`` is the mean of five-second slots, ``p99`` that of the worst slot."""

    name: str
    rate: float
    classes: dict[str, float]
    p50: float
    p99: float
    bytes_in: float
    bytes_out: float


class HistoryDocument(TypedDict):
    """Rows of ``slot`` seconds, the last one ending ``at`` (Unix seconds); counts are by second."""

    kind: str
    name: str
    slot: float
    at: float
    columns: list[str]
    rows: list[list[float]]


class Attention(TypedDict):
    """Something that an operator should look at. ``page``: where the admin page tells more, as
    KIND/NAME, or ""."""

    level: Literal["wrong", "look"]
    about: str
    text: str
    step: str
    page: str


class Warned(TypedDict):
    """A line of the log, a warning or worse. ``at``: Unix seconds."""

    at: float
    level: str
    process: str
    text: str


class WarnedLine(Warned):
    """A line that came ``times`` times, the last time at ``at``."""

    times: int


class TopRow(TypedDict):
    """What a site or a backend has counted since the server counts. ``counts``: requests by class
    of status, or by outcome; ``seconds``: as in `Figures`; ``bytes``: in and out."""

    counts: dict[str, int]
    seconds: list[int]
    bytes: list[int]


class TopDocument(TypedDict):
    """The answer to ``top``. ``at``: Unix seconds. ``sites`` and ``backends`` are the busiest;
    ``all`` is the sum of all sites."""

    at: float
    version: str
    pid: int
    started_at: str
    generation: int
    workers: dict[str, int]
    connections: dict[str, int]
    all: TopRow
    sites: dict[str, TopRow]
    sites_known: int
    backends: dict[str, TopRow]
    upstreams: list[UpstreamStatus]
    handshakes: dict[str, int]
    processes: list[ProcessFigures]
    attention: list[Attention]
    attention_more: int
