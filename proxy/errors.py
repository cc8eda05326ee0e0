"""What can go wrong with a request: one table of kinds, each with its blame.

Blame decides: a client's fault is answered 4xx and logged quietly, a backend's is answered 502 or
504 and logged as a warning, ours is answered 500 or 503 and logged as an error. Exceptions of
libraries (`ssl`, `socket`, `h11`) are translated into a `Fault` where they arise and never travel
further, so that no traceback of theirs can reach a log line or a client.
"""

from __future__ import annotations

import enum

from acme_client.late_dataclass import dataclass


class Blame(enum.Enum):
    CLIENT = "client"
    BACKEND = "backend"
    OURS = "ours"


@dataclass(frozen=True, slots=True)
class Kind:
    """``status`` is the answer where one can still be sent; ``closes``: the connection's framing
    can no longer be trusted, so it ends after the answer. ``retry_after``: seconds until another
    try makes sense, for Retry-After (RFC 9110 §10.2.3); 0 where nobody can say."""

    status: int
    blame: Blame
    text: str  # one sentence for the body of the answer
    closes: bool = False
    retry_after: int = 0


_CLIENT, _BACKEND, _OURS = Blame.CLIENT, Blame.BACKEND, Blame.OURS

FAULTS: dict[str, Kind] = {
    # RFC 9112 §2.2, §3, §5, §6, §11: refused, never repaired and never forwarded
    "malformed_request": Kind(400, _CLIENT, "The request is not well-formed HTTP/1.1.", True),
    "bad_host": Kind(400, _CLIENT, "The request needs exactly one valid Host.", True),
    "bad_framing": Kind(400, _CLIENT, "The length of the request's body is ambiguous.", True),
    "bad_chunk": Kind(400, _CLIENT, "The request's chunked body is not well-formed.", True),
    "tiny_chunks": Kind(400, _CLIENT, "The request's body comes in needlessly small chunks.", True),
    "unsupported_coding": Kind(400, _CLIENT, "This transfer coding is not supported.", True),
    "protocol_not_implemented": Kind(501, _CLIENT, "This protocol is not spoken here."),
    "coding_not_implemented": Kind(501, _CLIENT, "This transfer coding is not implemented.", True),
    "unsupported_version": Kind(505, _CLIENT, "Only HTTP/1.0 and HTTP/1.1 are spoken here.", True),
    "plain_on_tls": Kind(400, _CLIENT, "This port speaks HTTPS; the request was plain HTTP.", True),
    "header_timeout": Kind(408, _CLIENT, "The request's head did not arrive in time.", True),
    "body_timeout": Kind(408, _CLIENT, "The request's body did not arrive in time.", True),
    "target_too_long": Kind(414, _CLIENT, "The request's target is too long.", True),
    "head_too_large": Kind(431, _CLIENT, "The request's head is too large.", True),
    "length_required": Kind(411, _CLIENT, "The request's body needs a Content-Length.", True),
    "body_too_large": Kind(413, _CLIENT, "The request's body is too large.", True),
    "misdirected": Kind(421, _CLIENT, "This connection's certificate does not cover that host."),
    "unknown_host": Kind(404, _CLIENT, "No site of that name is served here."),
    "not_found": Kind(404, _CLIENT, "There is nothing here."),
    # Answered like not_found, so that nobody outside learns what there is; told in the log.
    "unreadable": Kind(404, _OURS, "There is nothing here."),
    "no_index": Kind(404, _OURS, "There is nothing here."),
    "bad_path": Kind(400, _CLIENT, "The request's path is not valid."),
    "unauthorized": Kind(401, _CLIENT, "A name and a password are needed."),
    "forbidden": Kind(403, _CLIENT, "Access from this address is not allowed."),
    "method_not_allowed": Kind(405, _CLIENT, "This resource does not take that method."),
    "expectation_failed": Kind(417, _CLIENT, "Only Expect: 100-continue is understood."),
    "rate_limited": Kind(429, _CLIENT, "Too many requests."),
    "client_gone": Kind(499, _CLIENT, "The client left before the answer was complete.", True),
    "client_stalled": Kind(408, _CLIENT, "The client stopped reading the answer.", True),
    "backend_refused": Kind(502, _BACKEND, "The backend could not be reached."),
    "backend_timeout": Kind(504, _BACKEND, "The backend did not answer in time."),
    "backend_broke_off": Kind(502, _BACKEND, "The backend closed the connection early."),
    "backend_protocol": Kind(502, _BACKEND, "The backend's answer is not well-formed HTTP."),
    "backend_tls": Kind(502, _BACKEND, "The backend's certificate could not be verified."),
    # A login service that cannot be asked lets nobody in.
    "auth_refused": Kind(502, _BACKEND, "The login service could not be asked."),
    "auth_timeout": Kind(504, _BACKEND, "The login service did not answer in time."),
    "loop": Kind(508, _OURS, "This request has already passed through here."),
    # Connections become free, and idle ones are ended, within a second.
    "no_capacity": Kind(
        503, _OURS, "There is no capacity for this request at the moment.", retry_after=1
    ),
    "too_many_tunnels": Kind(
        503, _OURS, "There are too many open tunnels at the moment.", retry_after=5
    ),
    # The order usually takes seconds, a retry a minute.
    "no_certificate": Kind(
        503, _OURS, "The certificate for this name is still being obtained.", retry_after=30
    ),
    "file_shrank": Kind(500, _OURS, "The file became shorter while it was being sent.", True),
    "filter_failed": Kind(500, _OURS, "Something went wrong here."),
    "internal": Kind(500, _OURS, "Something went wrong here."),
}


class Fault(Exception):
    """A request's end, with its reason.

    ``kind`` is a key of `FAULTS`; ``detail`` says what exactly, for the log only, never for the
    client; ``fields`` go into the answer (Allow, Retry-After; without any, the kind's own
    Retry-After); ``backend``: the one that was asked.
    """

    def __init__(
        self, kind: str, detail: str = "", fields: list[tuple[bytes, bytes]] | None = None
    ) -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind
        self.detail = detail
        self.what = FAULTS[kind]
        if fields is None and self.what.retry_after:
            fields = [(b"retry-after", b"%d" % self.what.retry_after)]
        self.fields = fields or []
        self.backend: str | None = None

    # What is answered instead of one sentence: a `protocol.message.Response`, fields and all.
    page: object = None
