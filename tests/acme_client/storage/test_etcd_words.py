"""What is said of a member that gives no answer: the cause that a person can mend, each time the
same words."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

import pytest
import trustme

from acme_client.storage.etcd import remedies
from acme_client.storage.etcd.api import EtcdApi
from acme_client.storage.store import Unreachable

AUTHORITY = trustme.CA()
STRANGER = trustme.CA()


@contextlib.contextmanager
def member(serve: Callable[[socket.socket], object]) -> Iterator[str]:
    """Where connections are served by ``serve`` and then ended."""

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    serve(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def hangs_up(connection: socket.socket) -> None:
    connection.recv(65536)


def by_tls(connection: socket.socket) -> None:
    """As etcd does with --client-cert-auth."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    AUTHORITY.issue_cert("127.0.0.1").configure_cert(context)
    AUTHORITY.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    with context.wrap_socket(connection, server_side=True) as secured:
        secured.recv(65536)


def trusting(authority: trustme.CA, own: trustme.CA | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if own is not None:
        own.issue_cert("client.test").configure_cert(context)
    return context


NEVER = 1e12


@pytest.mark.parametrize(
    ("serve", "scheme", "context", "ends", "said"),
    [
        (hangs_up, "http", None, None, remedies.SPEAKS_TLS),
        (hangs_up, "https", trusting(AUTHORITY), None, remedies.NO_TLS),
        (hangs_up, "https", trusting(AUTHORITY, AUTHORITY), NEVER, remedies.NO_TLS),
        (by_tls, "https", trusting(STRANGER), None, remedies.UNTRUSTED),
        (by_tls, "https", trusting(AUTHORITY), None, remedies.ASKS_CLIENTS),
        (by_tls, "https", trusting(AUTHORITY, STRANGER), NEVER, remedies.NOT_OUR_CLIENT),
        (by_tls, "https", trusting(AUTHORITY, STRANGER), 1.0, remedies.CLIENT_EXPIRED),
    ],
    ids=["TLS port", "no TLS", "no TLS, own", "untrusted", "no client", "stranger", "expired"],
)
def test_a_member_that_ends_the_connection(
    serve: Callable[[socket.socket], object],
    scheme: str,
    context: ssl.SSLContext | None,
    ends: float | None,
    said: str,
) -> None:
    with member(serve) as address:
        api = EtcdApi([f"{scheme}://{address}"], context, client_ends=ends, answers_within=60)
        with pytest.raises(Unreachable) as caught:
            api.call("/v3/kv/range", {"key": "AA=="})
        api.close()
    assert str(caught.value.strerror).startswith(f"{scheme}://{address}: {said}")


def test_a_member_that_took_us_before_is_lost_and_not_misled() -> None:
    """As one that is killed: nothing is wrong with our certificate."""
    calls = []

    def answers_once(connection: socket.socket) -> None:
        connection.recv(65536)
        calls.append(1)
        if len(calls) == 1:
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
            )

    with member(answers_once) as address:
        api = EtcdApi([f"http://{address}"], answers_within=60)
        assert api.call("/v3/kv/range", {"key": "AA=="}) == {}
        for said in (remedies.LOST, remedies.SPEAKS_TLS):
            with pytest.raises(Unreachable, match=said):
                api.call("/v3/kv/range", {"key": "AA=="})
        api.close()


def test_a_client_certificate_with_a_common_name() -> None:
    """As etcd's gateway says it, where users log in."""
    said = (
        b"CommonName of client sending a request against gateway will be ignored and not used as "
        b"expected\n"
    )

    def refuses(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(
            b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said)
        )

    with member(refuses) as address:
        api = EtcdApi([f"http://{address}"], answers_within=60)
        with pytest.raises(Unreachable, match=remedies.CLIENT_NAMED):
            api.call("/v3/kv/range", {"key": "AA=="})
        api.close()


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(Unreachable, match="Connection refused"):
        EtcdApi([f"http://{address}"]).call("/v3/kv/range", {"key": "AA=="})
