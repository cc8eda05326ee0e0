"""Calls etcd over its JSON gateway (`/v3/…`, etcd's "API reference").

Written here and not taken from a library, because what a client must do in a cluster that has
faults is what the kept libraries leave out: go on to another member, log in again, resume a watch
(docs/decisions/cluster.md has the comparison). What is left is a handful of POSTs.

Any thread may call; each call has a connection to itself. A call waits at most `_ANSWERS_WITHIN`
for each member. Whether a call that got no answer was carried out is not known.
"""

from __future__ import annotations

import base64
import binascii
import errno
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any
from urllib.parse import urlsplit

from ...late_dataclass import dataclass
from ..store import Full, Unreachable
from . import remedies
from .figures import Figures
from .passage import Passage, steady_time

Body = Mapping[str, Any]
Answer = dict[str, Any]

_ANSWERS_WITHIN = 3.0
# A stream that says nothing for so long is begun anew, perhaps with another member.
_SILENT_AT_MOST = 30.0
_LONGEST_LINE = 64 << 20
_LONGEST_ANSWER = 256 << 20

# Codes of gRPC (`google.rpc.Code`).
_INVALID, _EXHAUSTED, _OUT_OF_RANGE, _UNAVAILABLE, _UNAUTHENTICATED = 3, 8, 11, 14, 16
_DENIED = 7
_NOT_FOUND = 5


# How a member ends a connection that it does not want to have.
_CUT_OFF = (ssl.SSLError, ConnectionResetError, BrokenPipeError, http.client.RemoteDisconnected)


# In the reasons of alerts that are about a client's certificate (RFC 8446 §6.2).
_ABOUT_CLIENTS = ("ALERT_BAD_CERT", "ALERT_CERT", "ALERT_UNKNOWN_CA", "CERTIFICATE_REQUIRED",
                  "ALERT_UNSUPPORTED_CERT", "ALERT_HANDSHAKE_FAILURE")  # fmt: skip


class Refused(OSError):
    """The engine has answered that it will not do this. ``code`` is gRPC's."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(errno.EACCES if code in (_DENIED, _UNAUTHENTICATED) else errno.EIO, text)
        self.code = code

    @property
    def compacted(self) -> bool:
        """Whether the history that was asked for is gone."""
        return self.code == _OUT_OF_RANGE

    @property
    def not_found(self) -> bool:
        return self.code == _NOT_FOUND


@dataclass(frozen=True, slots=True)
class Login:
    user: str
    password: str = field(repr=False)


class EtcdApi:
    """``endpoints`` are URLs of members; ``tls`` is for those with https, ``client_ends`` when its
    client certificate does, in Unix seconds."""

    def __init__(
        self,
        endpoints: Sequence[str],
        tls: ssl.SSLContext | None = None,
        login: Login | None = None,
        answers_within: float = _ANSWERS_WITHIN,
        client_ends: float | None = None,
    ) -> None:
        self.endpoints = tuple(endpoints)
        self._tls = tls
        self._login = login
        self._answers_within = answers_within
        self._client_ends = client_ends
        self._token = ""
        self._first = 0  # the member that answered last
        self._lock = threading.Lock()
        self._idle: dict[str, list[http.client.HTTPConnection]] = {}
        self._closed = False
        self._heard: set[str] = set()  # members whose last call or stream was answered
        self.answered_at = 0.0  # by `time.monotonic`; 0: never
        self.fault = ""  # why there was no answer last time; empty: there was one
        self.figures = Figures()
        self.passage = Passage()

    # Calls

    def call(self, path: str, body: Body) -> Answer:
        """Return the answer to one call. Raises `Unreachable`, `Full` or `Refused`."""
        token = self._token
        try:
            return self._anywhere(path, body)
        except Refused as refusal:
            self._log_in_for(refusal, token)
            return self._anywhere(path, body)

    def of_member(self, endpoint: str, path: str, body: Body) -> Answer:
        """Return the answer of this member. Raises as `call`."""
        token = self._token
        try:
            return self._at(endpoint, path, body)
        except Refused as refusal:
            self._log_in_for(refusal, token)
            return self._at(endpoint, path, body)

    def close(self) -> None:
        """Close the connections: those in use when their calls have been answered."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                connection.close()

    def stream(
        self, path: str, body: Body, opened: Callable[[socket.socket], object]
    ) -> Iterator[Answer]:
        """Yield what a call has to say until it ends: by `Unreachable`, `Refused` or the end of a
        silence. A member that loses its leader ends it, and so does whoever shuts down the socket
        that was ``opened``."""
        token, begun = self._token, False
        try:
            for answer in self._stream(path, body, opened):
                begun = True
                yield answer
        except Refused as refusal:
            if begun:
                raise
            self._log_in_for(refusal, token)
            yield from self._stream(path, body, opened)

    def _stream(
        self, path: str, body: Body, opened: Callable[[socket.socket], object]
    ) -> Iterator[Answer]:
        number = self._first
        endpoint = self.endpoints[number % len(self.endpoints)]
        connection = self._connection(endpoint, self._answers_within)
        begun = False
        try:
            response = self._send(connection, path, body)
            if response.status != http.client.OK:
                raise _error(response.read(_LONGEST_ANSWER), response.status)
            if connection.sock is not None:
                connection.sock.settimeout(_SILENT_AT_MOST)
                opened(connection.sock)
            while line := response.readline(_LONGEST_LINE):
                begun = True
                yield _result(line)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if isinstance(error, Refused | Unreachable | Full):
                raise
            if begun and isinstance(error, TimeoutError):
                return
            self._first = number + 1
            connected = isinstance(connection.sock, ssl.SSLSocket)
            raise self._unreachable(endpoint, error, connected) from None
        finally:
            connection.close()

    # Inside

    def _anywhere(self, path: str, body: Body) -> Answer:
        first, troubles = self._first, []
        for number in range(first, first + len(self.endpoints)):
            endpoint = self.endpoints[number % len(self.endpoints)]
            asked_at = steady_time()
            try:
                answer = self._at(endpoint, path, body)
            except Unreachable as trouble:
                troubles.append(str(trouble.strerror))
                continue
            except Refused as refusal:
                if refusal.code != _UNAVAILABLE:
                    self._answered(number)
                    raise
                troubles.append(f"{endpoint}: {refusal.strerror}")
                continue
            self._answered(number)
            self.passage.note(asked_at, _revision(answer))
            return answer
        self.fault = "; ".join(sorted(troubles))  # whichever was asked first
        raise Unreachable(errno.EHOSTUNREACH, self.fault)

    def _answered(self, number: int) -> None:
        self._first = number % len(self.endpoints)
        self.answered_at = time.monotonic()
        self.fault = ""

    def _at(self, endpoint: str, path: str, body: Body) -> Answer:
        begun = time.monotonic()
        try:
            return self._answer_of(endpoint, path, body)
        finally:
            self.figures.called(time.monotonic() - begun)

    def _answer_of(self, endpoint: str, path: str, body: Body) -> Answer:
        with self._lock:
            idle = self._idle.get(endpoint)
            kept = idle.pop() if idle else None
        reused = kept is not None
        connection = kept or self._connection(endpoint, self._answers_within)
        try:
            try:
                response = self._send(connection, path, body)
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                if not reused:
                    raise
                connection.close()  # it had been idle for too long
                response = self._send(connection, path, body)
            data = response.read(_LONGEST_ANSWER)
            status = response.status
            answer = _result(data) if status == http.client.OK else None
        except (OSError, http.client.HTTPException, ValueError) as error:
            connected = isinstance(connection.sock, ssl.SSLSocket)
            connection.close()
            if isinstance(error, Refused | Unreachable | Full):
                raise
            raise self._unreachable(endpoint, error, connected) from None
        with self._lock:
            self._heard.add(endpoint)
            keeps = not self._closed
            if keeps:
                self._idle.setdefault(endpoint, []).append(connection)
        if not keeps:
            connection.close()
        if answer is None:
            raise _error(data, status)
        return answer

    def _send(
        self, connection: http.client.HTTPConnection, path: str, body: Body
    ) -> http.client.HTTPResponse:
        fields = {"Content-Type": "application/json", "Grpc-Metadata-hasleader": "true"}
        if self._token:
            fields["Authorization"] = self._token
        connection.request("POST", path, json.dumps(body), fields)
        return connection.getresponse()

    def _connection(self, endpoint: str, timeout: float) -> http.client.HTTPConnection:
        parts = urlsplit(endpoint)
        host, port = parts.hostname or "", parts.port
        if parts.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=timeout, context=self._tls)
        return http.client.HTTPConnection(host, port, timeout=timeout)

    def _unreachable(self, endpoint: str, error: Exception, connected: bool) -> Unreachable:
        """Say why a member did not answer. One that does not take our certificate cuts us off,
        sometimes with an alert, and never says why; with TLS 1.3 that is when it is ``connected``
        already (RFC 8446 §4.4.2.4)."""
        words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        with self._lock:
            was_heard = endpoint in self._heard
            self._heard.discard(endpoint)
        by_tls = endpoint.startswith("https:")
        if isinstance(error, ssl.SSLCertVerificationError):
            words = f"{remedies.UNTRUSTED}: {error.verify_message}"
        elif isinstance(error, TimeoutError):
            words = remedies.LATE
        elif isinstance(error, socket.gaierror):
            words = f"{remedies.UNNAMED}: {words}"
        elif isinstance(error, _CUT_OFF):
            reason = error.reason or "" if isinstance(error, ssl.SSLError) else ""
            about_us = any(part in reason for part in _ABOUT_CLIENTS)
            if self._client_has_expired():
                words = remedies.CLIENT_EXPIRED
            elif was_heard:
                words = f"{remedies.LOST}: {words}"  # it ends, and took us before
            elif not by_tls:
                words = remedies.SPEAKS_TLS
            elif not connected and not about_us:
                is_alert = "ALERT" in reason or reason.startswith("TLSV1_")
                words = words if is_alert else f"{remedies.NO_TLS}: {words}"
            elif self._client_ends is None:
                words = remedies.ASKS_CLIENTS
            else:
                words = remedies.NOT_OUR_CLIENT
        return Unreachable(errno.EHOSTUNREACH, f"{endpoint}: {words or type(error).__name__}")

    def _client_has_expired(self) -> bool:
        return self._client_ends is not None and time.time() >= self._client_ends

    def _log_in_for(self, refusal: Refused, token: str) -> None:
        """Log in where that may help a request that was refused with this ``token``; another thread
        may have done so. Else raises the refusal.

        Who shows a client certificate is a user of its common name, which is empty: without a token
        that one is denied everything."""
        helps = (
            refusal.code == _UNAUTHENTICATED
            or (refusal.code == _INVALID and "user name is empty" in str(refusal.strerror))
            or (refusal.code == _DENIED and not token)
        )
        if self._login is None or not helps:
            raise refusal
        if not self._token or self._token == token:
            self._log_in()

    def _log_in(self) -> None:
        if self._login is None:
            return
        self._token = ""
        said = {"name": self._login.user, "password": self._login.password}
        self._token = str(self._anywhere("/v3/auth/authenticate", said).get("token", ""))


def encoded(text: str | bytes) -> str:
    """Return a key or a value as the gateway wants it."""
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def decoded(value: Any) -> bytes:
    """Return a key or a value that the gateway has said; empty where it has said none."""
    try:
        return base64.b64decode(value or "", validate=True)
    except (binascii.Error, TypeError, ValueError):
        return b""


def number(value: Any) -> int:
    """Return a number: 64 bits are text in JSON, and 0 is left out."""
    try:
        return int(value or 0)
    except (TypeError, ValueError):
        return 0


def below(prefix: str) -> dict[str, str]:
    """Return the range of all keys that begin with a prefix."""
    end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    return {"key": encoded(prefix), "range_end": encoded(end)}


def _revision(answer: Answer) -> int:
    header = answer.get("header")
    return number(header.get("revision")) if isinstance(header, dict) else 0


def _result(data: bytes) -> Answer:
    """Return an answer, or what a line of a stream has. Raises ValueError, `Refused`."""
    answer = json.loads(data)
    if not isinstance(answer, dict):
        raise ValueError("no object")
    if "error" in answer:
        raise _error(data, http.client.OK)
    result = answer.get("result", answer)
    return result if isinstance(result, dict) else {}


def _error(data: bytes, status: int) -> OSError:
    try:
        said = json.loads(data)
        said = said["error"] if isinstance(said.get("error"), dict) else said
        text = str(said.get("message") or said.get("error"))
        code = number(said.get("grpc_code") or said.get("code"))
    except (ValueError, AttributeError, KeyError):
        if b"CommonName" in data:
            return Unreachable(errno.EACCES, remedies.CLIENT_NAMED)
        if status == http.client.NOT_FOUND:
            return Refused(remedies.NO_GATEWAY, 0)
        return Unreachable(errno.EPROTO, f"an answer with status {status} that is no etcd's")
    if code == _EXHAUSTED and "space exceeded" in text:
        return Full(errno.ENOSPC, "etcd takes nothing more: its quota is used up (alarm NOSPACE)")
    return Refused(text, code)
