"""TLS handshakes that failed, told so that an operator can act on it and nobody can flood the log.

A name that no site has is most often a typing error, in the configuration or in a DNS record, and
shows as a browser's error and nothing else: so it is a warning, once a minute for each name. What
else goes wrong between a client and OpenSSL is a line at level info, with a count of those that
were left out. Clients that just leave (port scans, health checks by TCP) are told at debug only.
"""

from __future__ import annotations

import logging
import sys

from ..bounded_cache import remember

log = logging.getLogger("treehouse.worker")

_EVERY = 60.0  # seconds until the same name, or the same reason, is told again
# Different names within that time: scanners try lists of them.
_NAMES = 20
_MOST_REMEMBERED = 1024

# OpenSSL's words, as `stream.reason` gives them, and what they mean for an operator.
_PLAIN = {
    "no shared cipher": "the client offers no cipher suite that is used here",
    "no suitable signature algorithm": "the client cannot verify any certificate that we have",
    "unsupported protocol": "the client offers only versions of TLS that are too old here",
    "wrong version number": "what the client sent is no TLS",
    "http request": "the client speaks HTTP without TLS",
    "no application protocol": "the client offers none of our protocols (ALPN)",
    "no suitable key share": "the client offers no key exchange that is used here",
    # What the callback for names gives up on: see `forget_strange_names`, and sites that ask for
    # client certificates, whose ClientHello has to be read before.
    "callback failed": "the name that the client asks for is not ASCII, or its hello too large",
    "peer did not return a certificate": "the site asks for a client certificate; none was sent",
}
_FROM_CLIENT = ("tlsv1 alert ", "tlsv13 alert ", "sslv3 alert ", "ssl/tls alert ")


def plainly(reason: str) -> str:
    """OpenSSL's ``reason`` in words for an operator."""
    for beginning in _FROM_CLIENT:
        if reason.startswith(beginning):
            return f"the client refused it: {reason.removeprefix(beginning)}"
    if reason.startswith("certificate verify failed"):
        return f"the client's certificate is not accepted: {reason.partition(': ')[2]}"
    return _PLAIN.get(reason, reason)


def forget_strange_names() -> None:
    """Keep a name in a ClientHello that is not ASCII from being a traceback on standard error: the
    `ssl` module can hand the error to nobody. The handshake fails, and that is told."""
    usual = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        strange = isinstance(unraisable.exc_value, UnicodeDecodeError)
        if not (strange and isinstance(unraisable.object, bytes)):
            usual(unraisable)

    sys.unraisablehook = hook


class HandshakeLog:
    """``now`` is monotonic seconds everywhere."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[float, int]] = {}  # when, and how many were left out since
        self._names: dict[str, float] = {}
        self._names_since = float("-inf")
        self._names_told = self._names_left_out = 0

    def unknown_name(self, name: str, peer: str, now: float) -> None:
        """A client asked for a name that no site has, or for none (``name`` is "")."""
        if not name:
            self._tell(now, "the client names no site, and no default site has a certificate", peer)
            return
        if now - self._names.get(name, float("-inf")) < _EVERY:
            return
        if now - self._names_since >= _EVERY:
            if self._names_left_out:
                log.warning(
                    "clients asked for %d more names for which nothing is served",
                    self._names_left_out,
                )
            self._names_since, self._names_told, self._names_left_out = now, 0, 0
        remember(self._names, name, now, _MOST_REMEMBERED)
        if self._names_told >= _NAMES:
            self._names_left_out += 1
            return
        self._names_told += 1
        log.warning(
            "a TLS handshake of %s was refused: no site is called %s, or it has no certificate yet",
            peer,
            _legible(name),
            extra={"peer": peer, "site": _legible(name)},
        )

    def failed(self, reason: str, peer: str, now: float) -> None:
        """A handshake ended for ``reason``, in OpenSSL's words."""
        self._tell(now, plainly(reason), peer)

    def _tell(self, now: float, words: str, peer: str) -> None:
        last, left_out = self._told.get(words, (float("-inf"), 0))
        if now - last < _EVERY:
            self._told[words] = last, left_out + 1
            return
        remember(self._told, words, (now, 0), _MOST_REMEMBERED)
        more = f" (and {left_out} more since)" if left_out else ""
        extra = {"peer": peer}
        log.info("a TLS handshake of %s failed: %s%s", peer, words, more, extra=extra)


def _legible(name: str) -> str:
    """A name as a client may have sent it, without anything that a terminal obeys."""
    text = name.encode("ascii", "backslashreplace").decode("ascii")
    return "".join(one if "!" <= one <= "~" else f"\\x{ord(one):02x}" for one in text)
