"""Which certificate a ClientHello gets, and that sessions resume across contexts made before a fork."""

import ssl
import threading
from contextlib import contextmanager
from socket import create_connection, create_server

import pytest
import trustme

from proxy.channel import sealed
from proxy.config.model import Tls
from proxy.tls import Certificates, ServerSocket, covers, server_context

CA = trustme.CA()


def put(table, *names, not_after=2e9):
    cert = CA.issue_cert(*names)
    pem = b"".join(blob.bytes() for blob in cert.cert_chain_pems) + cert.private_key_pem.bytes()
    table.put(names[0], names, not_after, "00", sealed("bundle", pem))


@contextmanager
def serving(table):
    """A server that completes handshakes and says one byte; gives its address."""
    base = server_context(Tls())
    table.listen_with(base)
    listener = create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            try:
                with base.wrap_socket(sock, server_side=True) as tls:
                    tls.sendall(b"!")
                    tls.recv(1)
            except OSError:
                sock.close()

    thread = threading.Thread(target=serve)
    thread.start()
    yield listener.getsockname()
    listener.shutdown(2)
    listener.close()
    thread.join()


def client_context(version=None):
    context = ssl.create_default_context()
    CA.configure_trust(context)
    context.set_alpn_protocols(["http/1.1"])
    if version:
        context.maximum_version = version
    return context


def connect(address, name, session=None, context=None):
    context = context or client_context()
    context.check_hostname = name is not None
    raw = create_connection(address)
    try:
        tls = context.wrap_socket(raw, server_hostname=name, session=session)
    except BaseException:
        raw.close()
        raise
    assert tls.recv(1) == b"!"
    return tls


def test_each_name_gets_its_own_certificate():
    table = Certificates(Tls())
    put(table, "a.test")
    put(table, "b.test", "*.c.test")
    with serving(table) as address:
        for name in ("a.test", "b.test", "x.c.test"):
            connect(address, name).close()


@pytest.mark.parametrize("name", ["nobody.test", "x.y.c.test", "c.test"])
def test_an_unknown_name_is_refused_in_the_handshake(name):
    table = Certificates(Tls())
    put(table, "b.test", "*.c.test")
    with serving(table) as address, pytest.raises(ssl.SSLError, match=r"(?i)unrecognized"):
        connect(address, name)


def test_without_sni_the_address_decides():
    table = Certificates(Tls())
    put(table, "127.0.0.1")
    with serving(table) as address:
        connect(address, None).close()


def test_with_a_default_site_an_unknown_name_gets_its_certificate():
    table = Certificates(Tls(), default="a.test")
    put(table, "a.test")
    with serving(table) as address, pytest.raises(ssl.SSLCertVerificationError):
        connect(address, "nobody.test")


def test_the_certificate_that_lasts_longer_wins_for_a_shared_name():
    table = Certificates(Tls())
    put(table, "a.test", not_after=2e9)
    put(table, "b.test", "a.test", not_after=1e9)
    served = table.find("a.test")
    assert served is not None
    assert served.name == "a.test"


def test_a_certificate_that_was_removed_is_not_served():
    table = Certificates(Tls())
    put(table, "a.test")
    table.remove("a.test")
    assert table.find("a.test") is None


def test_swapping_a_certificate_keeps_sessions_resumable():
    table = Certificates(Tls())
    put(table, "a.test")
    with serving(table) as address:
        context = client_context(ssl.TLSVersion.TLSv1_2)
        first = connect(address, "a.test", context=context)
        session = first.session
        first.close()
        put(table, "a.test")
        second = connect(address, "a.test", session, context)
        assert second.session_reused
        second.close()


@pytest.mark.parametrize(
    ("names", "host", "yes"),
    [
        (("a.test",), "a.test", True),
        (("*.a.test",), "x.a.test", True),
        (("*.a.test",), "a.test", False),
        (("*.a.test",), "x.y.a.test", False),
        (("a.test",), "b.test", False),
        (("127.0.0.1",), "127.0.0.1", True),
        (("*.0.0.1",), "127.0.0.1", True),  # such a name cannot be certified, let alone configured
        ((), "a.test", False),
    ],
)
def test_a_wildcard_stands_for_one_label(names, host, yes):
    assert covers(names, host) is yes


def test_sockets_remember_their_certificate():
    assert server_context(Tls()).sslsocket_class is ServerSocket


def test_the_oldest_version_is_what_the_configuration_says():
    assert server_context(Tls(min_version="1.3")).minimum_version is ssl.TLSVersion.TLSv1_3
    assert server_context(Tls()).minimum_version is ssl.TLSVersion.TLSv1_2
