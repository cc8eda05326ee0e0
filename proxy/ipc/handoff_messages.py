"""The messages between a supervisor and its successor, at an upgrade. Pure.

The two may be different versions of the program, so their spelling is kept: fields are added and
never renamed, and each side leaves out what it does not know. The kinds have names of their own
here because those are older than the classes.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from acme_client.late_dataclass import dataclass

from .codec import Vocabulary
from .messages import Ready


@dataclass(frozen=True, slots=True)
class HandedListener:
    """A listening socket. ``endpoint``: family, host, port, optional; None: it was handed over by
    the service manager."""

    KIND: ClassVar = "listener"
    DESCRIPTORS: ClassVar = 1
    kind: Literal["http", "https", "admin"]
    address: str
    endpoint: tuple[int | str | bool, ...] | None


@dataclass(frozen=True, slots=True)
class HandedCertificate:
    """A certificate from files that perhaps only root could read."""

    KIND: ClassVar = "certificate"
    DESCRIPTORS: ClassVar = 1
    chain: str
    key: str


@dataclass(frozen=True, slots=True)
class HandedFiles:
    """A certificate's files, and where in the descriptor (`packs`) their contents lie."""

    chain: str
    key: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class HandedCertificates:
    """The same for many, in one descriptor. Versions before 0.2 do not know this message."""

    KIND: ClassVar = "certificates"
    DESCRIPTORS: ClassVar = 1
    files: tuple[HandedFiles, ...]


@dataclass(frozen=True, slots=True)
class HandedManager:
    """The connection to the service manager."""

    KIND: ClassVar = "manager"
    DESCRIPTORS: ClassVar = 1


@dataclass(frozen=True, slots=True)
class HandedForegroundParent:
    """The channel to the process that was started first and waits for our end."""

    KIND: ClassVar = "keeper"
    DESCRIPTORS: ClassVar = 1


@dataclass(frozen=True, slots=True)
class HandedLock:
    """The lock on the state directory (`system.state_lock`)."""

    KIND: ClassVar = "lock"
    DESCRIPTORS: ClassVar = 1


@dataclass(frozen=True, slots=True)
class HandedDoor:
    """The end of the process that opens Docker's socket at ``path`` (`containers.door`)."""

    KIND: ClassVar = "door"
    DESCRIPTORS: ClassVar = 1
    path: str


@dataclass(frozen=True, slots=True)
class HandedHistory:
    """What the admin page's charts have (`metrics.handed_history`), in the descriptor."""

    KIND: ClassVar = "history"
    DESCRIPTORS: ClassVar = 1


@dataclass(frozen=True, slots=True)
class HandedFacts:
    """The last message of a handoff. ``started_as``: the uid of the first supervisor; ``sandbox``:
    what the supervisor is confined to, in words."""

    KIND: ClassVar = "estate"
    generation: int
    started_as: int
    sandbox: str


@dataclass(frozen=True, slots=True)
class Successor:
    """From here on the process with this pid serves."""

    pid: int | None


ToSuccessor = (
    HandedListener
    | HandedCertificate
    | HandedCertificates
    | HandedManager
    | HandedForegroundParent
    | HandedLock
    | HandedDoor
    | HandedHistory
    | HandedFacts
)
FromSuccessor = Ready | Successor

TO_SUCCESSOR: Vocabulary[ToSuccessor] = Vocabulary(ToSuccessor, same_program=False)
FROM_SUCCESSOR: Vocabulary[FromSuccessor] = Vocabulary(FromSuccessor, same_program=False)
