"""Every message between two processes of the server. Pure.

One union for each direction: what the supervisor tells a worker is a `ToWorker`, what a worker
says is a `FromWorker`, and so on. Both ends handle a union with ``match`` and `assert_never`, so
that a message which one end sends and the other does not handle is a type error.

A message with a ``ticket`` is answered: a worker that has taken it in sends `Acknowledged` with
the same number, or `NotTaken` when it could not. Descriptors travel beside a message, never in it;
``DESCRIPTORS`` of a class is how many it must bring. Private keys travel in sealed memfds only.

What never stands here: how a message is sent (`channel`), how it is spelt (`codec`), and what two
versions of the program say to each other (`handoff_messages`).
"""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, ClassVar, Literal

from acme_client.late_dataclass import dataclass
from acme_client.status import CertificateStatus, ClusterStatus
from acme_client.storage.etcd.figures import EngineFigures

from .codec import AS_IT_IS, Vocabulary
from .documents import Overview, WorkerStats
from .documents import Warned as WarnedDocument

ChallengeKind = Literal["http-01", "tls-alpn-01"]


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """A certificate in force, without its key. ``name`` identifies it; ``site`` is the first name
    of its site, and ``names`` are those in the certificate. ``not_after`` is Unix seconds,
    ``serial`` lower-case hex, ``family`` of the key (ecdsa, rsa, …). ``on_demand_for``: the site
    whose visitors asked for it. ``digest`` is of the chain, and tells whether another process has
    this very certificate already ("": not known)."""

    name: str
    site: str
    names: tuple[str, ...]
    not_after: float
    serial: str
    family: str
    on_demand_for: str | None = None
    digest: str = ""


@dataclass(frozen=True, slots=True)
class PackedCertificate:
    """A certificate, and where in the descriptor (`packs`) its chain and key lie."""

    facts: CertificateFacts
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class ChallengeFacts:
    """A challenge that workers answer (RFC 8555 §8.3, RFC 8737), without the key of tls-alpn-01."""

    kind: ChallengeKind
    host: str
    token: str
    key_authorization: str


@dataclass(frozen=True, slots=True)
class Truncated:
    """Made by the receiving `channel`: a message whose descriptors could not be taken."""

    ticket: int | None


# Supervisor to worker


@dataclass(frozen=True, slots=True)
class PutCertificates:
    """Serve these certificates from now on; the descriptor holds chains and keys. ``try_out``: have
    OpenSSL load each before it is acknowledged."""

    DESCRIPTORS: ClassVar = 1
    certificates: tuple[PackedCertificate, ...]
    ticket: int
    try_out: bool = True


@dataclass(frozen=True, slots=True)
class DropCertificate:
    site: str
    name: str
    ticket: int


@dataclass(frozen=True, slots=True)
class PutChallenge:
    """Answer this challenge; with tls-alpn-01 a descriptor holds the certificate and its key."""

    challenge: ChallengeFacts
    ticket: int


@dataclass(frozen=True, slots=True)
class DropChallenge:
    kind: ChallengeKind
    host: str
    token: str
    ticket: int


@dataclass(frozen=True, slots=True)
class OnDemandResult:
    """The answer to `WantCertificate`. ``seconds``: how long a refusal holds."""

    name: str
    ok: bool
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class AskStats:
    """Say how you are; ``thorough``: also what takes a while to count. ``counting``: somebody asks
    for figures, so begin to count where you do not yet."""

    thorough: bool = False
    counting: bool = False


@dataclass(frozen=True, slots=True)
class Probe:
    """Say which certificate ``host`` gets from you: by clients that support only ``family`` keys
    ("" means any)."""

    number: int
    host: str
    family: str


@dataclass(frozen=True, slots=True)
class OverviewAnswer:
    """The answer to `AskOverview`."""

    number: int
    overview: Annotated[Overview, AS_IT_IS]


@dataclass(frozen=True, slots=True)
class AdminAnswer:
    """The answer to `AskAdmin`: a document for the admin page."""

    number: int
    document: Annotated[dict[str, object], AS_IT_IS]


@dataclass(frozen=True, slots=True)
class DrainBackend:
    """Give the backend with this URL no new requests, or (``on`` False) its share again."""

    url: str
    on: bool
    ticket: int


@dataclass(frozen=True, slots=True)
class ReplaceAccessLog:
    """Write access lines to this descriptor from now on."""

    DESCRIPTORS: ClassVar = 1
    ticket: int


@dataclass(frozen=True, slots=True)
class AddGeneration:
    """Another generation accepts connections as well: the descriptor is the memory in which its
    workers count them."""

    DESCRIPTORS: ClassVar = 1
    workers: int
    buckets: int
    ticket: int


@dataclass(frozen=True, slots=True)
class Drain:
    """Accept nothing new, finish what there is, then end."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The same with a bound, and idle connections end at once."""


ToWorker = (
    PutCertificates
    | DropCertificate
    | PutChallenge
    | DropChallenge
    | OnDemandResult
    | AskStats
    | Probe
    | OverviewAnswer
    | AdminAnswer
    | DrainBackend
    | ReplaceAccessLog
    | AddGeneration
    | Drain
    | Stop
    | Truncated
)


# Worker to supervisor


@dataclass(frozen=True, slots=True)
class Ready:
    """This process serves: of a worker, and of a successor to its predecessor."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    ticket: int


@dataclass(frozen=True, slots=True)
class NotTaken:
    """What came with this ticket could not be taken in, for want of descriptors or memory: say it
    again."""

    ticket: int


@dataclass(frozen=True, slots=True)
class CannotServe:
    """Of the certificates that came with this ticket these cannot be served, and why, by name; the
    ones before them still are. The others are in force."""

    ticket: int
    why: dict[str, str]


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The answer to `Probe`: the serial number in hex, None where the handshake failed."""

    number: int
    serial: str | None


@dataclass(frozen=True, slots=True)
class WantCertificate:
    """A client waits for a certificate for this name, which is not configured."""

    name: str


@dataclass(frozen=True, slots=True)
class CertificateUsed:
    """A client came for this name, whose certificate was obtained on demand."""

    name: str


@dataclass(frozen=True, slots=True)
class AskOverview:
    number: int


@dataclass(frozen=True, slots=True)
class AskAdmin:
    """The admin page asks: ``what`` is a word of `supervisor.control.admin_questions`."""

    number: int
    what: str
    value: dict[str, object]


@dataclass(frozen=True, slots=True)
class Warned:
    """A warning, or worse, has been written into the log."""

    warned: WarnedDocument


@dataclass(frozen=True, slots=True)
class Stats:
    """The answer to `AskStats`."""

    stats: WorkerStats


FromWorker = (
    Ready
    | Acknowledged
    | NotTaken
    | CannotServe
    | ProbeResult
    | WantCertificate
    | CertificateUsed
    | AskOverview
    | AskAdmin
    | Warned
    | Stats
)


# Supervisor to certifier


@dataclass(frozen=True, slots=True)
class Done:
    """Every worker has acknowledged what the certifier sent with this ticket, or has ended.
    ``refusals``: why a worker cannot serve a certificate, by its name; then the one before it is in
    force."""

    ticket: int
    refusals: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CertifierCommand:
    """An `acme_client.link.Command`; one with a ticket is answered by `CertifierAnswer`."""

    verb: str
    value: object = None
    ticket: int | None = None


ToCertifier = Done | NotTaken | CertifierCommand


# Certifier to supervisor


@dataclass(frozen=True, slots=True)
class Alive:
    """The certifier's main loop runs."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """All certificates that were found on the disk have been published."""


@dataclass(frozen=True, slots=True)
class Idle:
    """The certifier has nothing to do until it is asked something, and may be ended."""


@dataclass(frozen=True, slots=True)
class CertifierAnswer:
    ticket: int
    value: dict[str, object]


@dataclass(frozen=True, slots=True)
class Publish:
    """Have these certificates served by every worker, then send `Done`; the descriptor holds chains
    and keys. ``try_out``: they are new, and OpenSSL is to load each before that."""

    DESCRIPTORS: ClassVar = 1
    certificates: tuple[PackedCertificate, ...]
    ticket: int
    try_out: bool = True


@dataclass(frozen=True, slots=True)
class Present:
    """Have this challenge answered by every worker, then send `Done`."""

    challenge: ChallengeFacts
    ticket: int


@dataclass(frozen=True, slots=True)
class Retract:
    """The challenge is over."""

    kind: ChallengeKind
    host: str
    token: str


@dataclass(frozen=True, slots=True)
class Report:
    """How a certificate stands; None: it is no longer wanted."""

    name: str
    status: CertificateStatus | None


@dataclass(frozen=True, slots=True)
class ReportCluster:
    """How this machine stands in its cluster."""

    status: ClusterStatus


@dataclass(frozen=True, slots=True)
class ReportEngine:
    """What this certifier has counted of the cluster's engine so far."""

    figures: EngineFigures


FromCertifier = (
    Alive
    | Loaded
    | Idle
    | CertifierAnswer
    | Publish
    | Present
    | Retract
    | Report
    | ReportCluster
    | ReportEngine
    | Warned
    | Truncated
)


# Messenger to supervisor


@dataclass(frozen=True, slots=True)
class Delivered:
    """``error`` None: the alert was taken; else why not."""

    error: str | None


# Docker to supervisor


@dataclass(frozen=True, slots=True)
class ContainersSeen:
    """``containers``: all that have labels of ours, as `config.sources.known_containers` spells
    them; None: as before. ``error``: why the engine cannot be asked."""

    containers: tuple[object, ...] | None
    error: str | None


FromDocker = Alive | ContainersSeen

# Exporter to supervisor


@dataclass(frozen=True, slots=True)
class Exported:
    """The exporter's loop runs. How many spans a collector has taken, and how many it has not."""

    exported: int
    failed: int


TO_WORKER: Vocabulary[ToWorker] = Vocabulary(ToWorker)
FROM_WORKER: Vocabulary[FromWorker] = Vocabulary(FromWorker)
TO_CERTIFIER: Vocabulary[ToCertifier] = Vocabulary(ToCertifier)
FROM_CERTIFIER: Vocabulary[FromCertifier] = Vocabulary(FromCertifier)
FROM_MESSENGER: Vocabulary[Delivered] = Vocabulary(Delivered)
FROM_DOCKER: Vocabulary[FromDocker] = Vocabulary(FromDocker)
TO_EXPORTER: Vocabulary[Stop] = Vocabulary(Stop)
FROM_EXPORTER: Vocabulary[Exported] = Vocabulary(Exported)
