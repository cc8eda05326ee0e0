"""Which certificate a ClientHello gets, and that sessions resume across contexts made before a fork."""

import contextlib
import os
import ssl
import threading
from contextlib import contextmanager
from socket import create_connection, create_server

import pytest
import trustme

from proxy.config.model import Tls
from proxy.ipc.packs import alone
from proxy.name_table import NameTable
from proxy.tls.contexts import Certificates, ServerSocket, server_context
from proxy.transport.tls_socket import adopt

CA = trustme.CA()


def put(table, *names, not_after=2e9, site=None, name=None, key_type=trustme.KeyType.ECDSA):
    cert = CA.issue_cert(*names, key_type=key_type)
    pem = b"".join(blob.bytes() for blob in cert.cert_chain_pems) + cert.private_key_pem.bytes()
    table.put(site or names[0], name or names[0], names, not_after, alone(pem))


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
            with adopt(sock, ServerSocket) as tls, contextlib.suppress(OSError):
                tls.begin(base)
                tls.setblocking(True)
                tls.inner.do_handshake()
                tls.inner.write(b"!")
                tls.inner.read(1)

    thread = threading.Thread(target=serve)
    thread.start()
    yield listener.getsockname()
    listener.shutdown(2)
    listener.close()
    thread.join()


def put_rsa(table, *names, name="a.test/rsa", **more):
    put(table, *names, site="a.test", name=name, key_type=trustme.KeyType.RSA, **more)


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
    with contextlib.ExitStack() as stack:
        raw = stack.enter_context(create_connection(address))
        tls = stack.enter_context(context.wrap_socket(raw, server_hostname=name, session=session))
        assert tls.recv(1) == b"!"
        stack.pop_all()
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


def test_a_host_gets_the_certificate_of_its_own_site_whichever_else_would_do():
    """The rules for its handshakes, whether clients show certificates among them, hang on it."""
    owners = {"a.test": "a.test", "b.test": "b.test", "*.c.test": "b.test", "x.c.test": "a.test"}
    names = NameTable(owners)

    def owner(host: str) -> str | None:
        found = names.find(host)
        return None if found is None else found[1]

    table = Certificates(Tls(), without_http2=frozenset({"b.test"}), owner=owner)
    put(table, "a.test", "b.test", "*.c.test", not_after=2e9)
    put(table, "b.test", "a.test", "*.c.test", "x.c.test", "y.d.test", not_after=1e9)
    for host in ("a.test", "b.test", "x.c.test", "y.c.test", "y.d.test"):
        served = table.find(host)
        assert served is not None
        wanted = "a.test" if host in ("a.test", "x.c.test") else "b.test"
        assert (served.name, served.http2) == (wanted, wanted == "a.test"), host
    table.remove("b.test", "b.test")
    served = table.find("y.c.test")
    assert served is not None
    assert served.name == "a.test", "another site's is better than none"


def test_a_certificate_that_was_removed_is_not_served():
    table = Certificates(Tls())
    put(table, "a.test")
    table.remove("a.test", "a.test")
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


# Sites with two certificates


def knows(family):
    """A client of TLS 1.2 that knows this kind of key alone."""
    context = client_context(ssl.TLSVersion.TLSv1_2)
    context.set_ciphers(f"ECDHE+a{family}")
    return context


def seen(address, host, context):
    """The serial number of the certificate that is shown."""
    with connect(address, host, context=context) as tls:
        return tls.getpeercert()["serialNumber"]


@pytest.fixture
def pair():
    table = Certificates(Tls(), paired=frozenset({"a.test"}))
    put(table, "a.test", "www.a.test")
    put_rsa(table, "a.test", "www.a.test")
    return table


def test_a_client_gets_the_kind_that_it_knows_and_the_smaller_one_if_it_knows_both(pair):
    with serving(pair) as address:
        for host in ("a.test", "www.a.test"):
            ecdsa = seen(address, host, knows("ECDSA"))
            assert seen(address, host, knows("RSA")) != ecdsa
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                assert seen(address, host, client_context(version)) == ecdsa


def test_changing_one_of_the_two_keeps_the_other(pair):
    with serving(pair) as address:
        before = [seen(address, "a.test", knows(one)) for one in ("ECDSA", "RSA")]
        put_rsa(pair, "a.test", "www.a.test")
        assert seen(address, "a.test", knows("ECDSA")) == before[0]
        after = seen(address, "a.test", knows("RSA"))
        assert after != before[1]
        put(pair, "a.test", "www.a.test")
        assert seen(address, "a.test", knows("ECDSA")) != before[0]
        assert seen(address, "a.test", knows("RSA")) == after
        pair.remove("a.test", "a.test/rsa")
        assert seen(address, "a.test", knows("ECDSA")) != before[0]
        with pytest.raises(ssl.SSLError, match=r"(?i)handshake"):
            connect(address, "a.test", context=knows("RSA"))
        pair.remove("a.test", "a.test")
        assert pair.find("a.test") is None


def test_a_pair_that_cannot_be_used_changes_nothing(pair):
    one = CA.issue_cert("a.test", key_type=trustme.KeyType.RSA)
    other = CA.issue_cert("a.test", key_type=trustme.KeyType.RSA)
    bundle = alone(one.cert_chain_pems[0].bytes() + other.private_key_pem.bytes())
    with serving(pair) as address:
        before = [seen(address, "a.test", knows(one)) for one in ("ECDSA", "RSA")]
        with pytest.raises(ssl.SSLError):
            pair.put("a.test", "a.test/rsa", ("a.test",), 2e9, bundle)
        put(pair, "a.test", "www.a.test")
        assert seen(address, "a.test", knows("RSA")) == before[1]


def test_a_name_that_only_one_of_the_two_has_is_served_with_that_one(pair):
    """The site has got a name more, and the second certificate is still on its way."""
    put(pair, "a.test", "new.a.test")
    with serving(pair) as address:
        assert seen(address, "a.test", knows("RSA")) != seen(address, "a.test", knows("ECDSA"))
        seen(address, "new.a.test", knows("ECDSA"))
        seen(address, "www.a.test", knows("RSA"))
        for host, family in (("new.a.test", "RSA"), ("www.a.test", "ECDSA")):
            with pytest.raises(ssl.SSLError, match=r"(?i)handshake"):
                connect(address, host, context=knows(family))


def test_of_two_with_the_same_kind_of_key_the_one_that_lasts_longer_is_shown(pair):
    """The kinds have changed places in the configuration, and not all orders are through."""
    with serving(pair) as address:
        before = seen(address, "a.test", knows("RSA"))
        put_rsa(pair, "a.test", name="a.test", not_after=1e9)
        assert seen(address, "a.test", knows("RSA")) == before
        put_rsa(pair, "a.test", name="a.test", not_after=3e9)
        assert seen(address, "a.test", knows("RSA")) != before


def test_a_bundle_is_kept_as_long_as_its_certificate_is_served():
    table = Certificates(Tls(), paired=frozenset({"a.test"}))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        put(table, "b.test")
    assert len(os.listdir("/proc/self/fd")) == before + 1
    for _ in range(3):
        put(table, "a.test")
        put_rsa(table, "a.test")
    assert len(os.listdir("/proc/self/fd")) == before + 3
    table.remove("b.test", "b.test")
    table.remove("a.test", "a.test/rsa")
    table.remove("a.test", "a.test")
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_oldest_version_is_what_the_configuration_says():
    assert server_context(Tls(min_version="1.3")).minimum_version is ssl.TLSVersion.TLSv1_3
    assert server_context(Tls()).minimum_version is ssl.TLSVersion.TLSv1_2
