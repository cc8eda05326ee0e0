"""Where to listen, whom to ask, whom to trust."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.model import Address
from proxy.config.syntax.addresses import (
    parse_backend,
    parse_directory_url,
    parse_host,
    parse_listen,
    parse_mail_server,
    parse_name_server,
    parse_network,
    parse_resolver,
    parse_webhook,
    spell_address,
)
from proxy.config.syntax.faults import Wrong


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":443", Address("", 443)),
        ("443", Address("", 443)),
        ("*:443", Address("", 443)),
        (" :443 ", Address("", 443)),
        (":0", Address("", 0)),
        ("192.0.2.1:443", Address("192.0.2.1", 443)),
        ("0.0.0.0:80", Address("0.0.0.0", 80)),
        ("[::1]:443", Address("::1", 443)),
        ("[2001:DB8:0::1]:443", Address("2001:db8::1", 443)),
    ],
)
def test_an_address_to_listen_on(text, address):
    assert parse_listen(text) == address
    assert parse_listen(spell_address(address)) == address


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no port"),
        ("192.0.2.1", "no port"),
        ("192.0.2.1:", "no port"),
        ("::1:443", "without brackets"),
        ("2001:db8::1", "without brackets"),
        ("[::1]", "no port"),
        ("[fe80::1%eth0]:80", "has a zone"),
        ("localhost:443", "write 127.0.0.1 or ::1"),
        ("example.org:443", "not an IP address"),
        (":65536", "not a port"),
        (":-1", "not a port"),
        (":٤٤٣", "not a port"),
        (":0443443", "not a port"),
        (":http", "not a port"),
        ("192.0.2.256:80", "not an IP address"),
        ("http://192.0.2.1:80", "without brackets"),
    ],
)
def test_anything_else_is_no_place_to_listen(text, said):
    with pytest.raises(Wrong, match=said):
        parse_listen(text)


def test_a_bare_host_may_have_brackets_or_be_everything():
    assert [parse_host(word) for word in ("*", "::1", "[::1]", "10.0.0.1")] == [
        "", "::1", "::1", "10.0.0.1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("192.0.2.1", "192.0.2.1/32"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("::1", "::1/128"),
        ("10.0.0.0/255.0.0.0", "10.0.0.0/8"),
    ],
)
def test_a_network_to_trust(text, network):
    assert parse_network(text) == network


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("10.0.0.1/8", "write 10.0.0.0/8 for the network"),
        ("10.0.0.0/33", "not an address or network"),
        ("private", "not an address or network"),
        ("", "not an address or network"),
    ],
)
def test_a_slip_in_a_network_is_told(text, said):
    with pytest.raises(Wrong, match=said):
        parse_network(text)


@pytest.mark.parametrize(
    ("url", "scheme", "host", "port", "path"),
    [
        ("http://127.0.0.1:3000", "http", "127.0.0.1", 3000, ""),
        ("http://127.0.0.1:3000/", "http", "127.0.0.1", 3000, ""),
        ("HTTP://App.Internal", "http", "app.internal", 80, ""),
        ("http://my_service:8000", "http", "my_service", 8000, ""),
        ("https://app.internal", "https", "app.internal", 443, ""),
        ("h2c://app.internal:50051", "h2c", "app.internal", 50051, ""),
        ("https://[2001:DB8::1]:8443", "https", "2001:db8::1", 8443, ""),
        ("unix:/run/app.sock", "unix", "", 0, "/run/app.sock"),
        ("unix:///run/app.sock", "unix", "", 0, "/run/app.sock"),
        ("unix:@app", "unix", "", 0, "@app"),
    ],
)
def test_a_backend(url, scheme, host, port, path):
    backend = parse_backend(url)
    assert (backend.scheme, backend.host, backend.port, backend.path) == (scheme, host, port, path)
    assert backend.url == url


@pytest.mark.parametrize(
    ("url", "prefix"),
    [
        ("http://127.0.0.1:9000", ""),
        ("http://127.0.0.1:9000/", ""),
        ("http://127.0.0.1:9000/app", "/app"),
        ("http://127.0.0.1:9000/app/", "/app"),
        ("https://app.internal/a/%C3%BC", "/a/%C3%BC"),
    ],
)
def test_the_path_of_a_backend_is_put_before_the_one_that_is_asked_for(url, prefix):
    assert parse_backend(url).prefix == prefix


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "does not say how"),
        ("127.0.0.1:3000", "write http://127.0.0.1:3000"),
        ("localhost:3000", "write http://localhost:3000"),
        ("app", "write http://app"),
        ("htp://x:1", "did you mean http"),
        ("ftp://x", "not a scheme"),
        ("http://", "no valid host"),
        ("http://:3000", "write http://127.0.0.1:3000"),
        ("http://x:0", "port 0"),
        ("http://x:65536", "not a URL"),
        ("http://x:port", "not a URL"),
        ("http://x/a b", "characters that a URL cannot have"),
        ("http://x/a/../b", "empty or dot segments"),
        ("http://x//b", "empty or dot segments"),
        ("http://x/a%2", "no request could have"),
        ("http://x?a", "query or fragment"),
        ("http://x#a", "query or fragment"),
        ("http://x/api?a", "query or fragment"),
        ("3000", r"port without a host .write http://127.0.0.1:3000"),
        (":3000", "write http://127.0.0.1:3000"),
        ("http://3000", "write http://127.0.0.1:3000"),
        ("http:3000", "write http://127.0.0.1:3000"),
        ("https://8443/", "write https://127.0.0.1:8443"),
        ("http://::1:3000", r"brackets .write http://\[::1\]:3000"),
        ("http://2001:db8::1/app", r"write http://\[2001:db8::1\]/app"),
        ("http://10.0.0.1:3000:1", "not a URL"),
        ("/run/app.sock", "write unix:/run/app.sock"),
        ("unix:/run/php/php8.2-fpm.sock", "FastCGI"),
        ("unix:/var/run/php-fpm/www.sock", "FastCGI"),
        ("fastcgi://127.0.0.1:9000", "FastCGI has a key of its own"),
        ("ws://127.0.0.1:3000", "WebSockets pass"),
        ("unix:@", "no absolute path"),
        ("http://user:secret@x", "user name"),
        ("http://@x", "user name"),
        ("http://a b", "characters that a URL cannot have"),
        ("http://x\r\ny", "characters that a URL cannot have"),
        ("http://bücher", "characters that a URL cannot have"),
        ("http://x%0a", "no valid host"),
        ("http://[::1", "not a URL"),
        ("http://[fe80::1%eth0]:80", "has a zone"),
        ("http://[zz]:80", "not a URL|no valid IPv6"),
        ("http://-x", "no valid host"),
        ("unix:run/app.sock", "no absolute path"),
        ("unix://", "no absolute path"),
        ("unix:/" + "x" * 107, "more than 107 bytes"),
    ],
)
def test_anything_else_is_no_backend(url, said):
    with pytest.raises(Wrong, match=said):
        parse_backend(url)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://ca.example/directory", "over TLS only"),
        ("https://ca.example/directory?x", "query"),
        ("https://user@ca.example/", "user name"),
        ("https://", "no valid host"),
        ("https://ca example/", "characters"),
    ],
)
def test_a_directory_is_an_https_url(url, said):
    with pytest.raises(Wrong, match=said):
        parse_directory_url(url)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("192.0.2.53", "192.0.2.53", 53),
        ("192.0.2.53:5353", "192.0.2.53", 5353),
        ("2001:db8::53", "2001:db8::53", 53),
        ("[2001:DB8::53]", "2001:db8::53", 53),
        ("[2001:db8::53]:5353", "2001:db8::53", 5353),
        ("NS1.example.org", "ns1.example.org", 53),
        ("ns1.example.org:54", "ns1.example.org", 54),
    ],
)
def test_a_name_server(text, host, port):
    assert parse_name_server(text) == Address(host, port)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not a name server"),
        ("a b", "is not a name server"),
        ("ns.example:x", "is not a port"),
        ("ns.example:0", "has port 0"),
        ("fe80::1%eth0", "has a zone"),
        ("https://ns.example", "is not a port"),
    ],
)
def test_anything_else_is_no_name_server(text, said):
    with pytest.raises(Wrong, match=said):
        parse_name_server(text)


def test_a_resolver_is_an_address():
    assert parse_resolver("192.0.2.1:5353") == Address("192.0.2.1", 5353)
    with pytest.raises(Wrong, match="give its IP address"):
        parse_resolver("ns.example.org")


def test_a_directory_keeps_its_spelling():
    url = "https://127.0.0.1:14000/dir"
    assert parse_directory_url(url) == url


def test_a_password_is_not_repeated():
    with pytest.raises(Wrong) as wrong:
        parse_backend("http://user:hunter2@app.internal")
    assert "hunter2" not in str(wrong.value)


URLISH = st.text(st.sampled_from("htps:/unix@[]0123.%?#aé \r\n\0-_"), max_size=30)


@given(URLISH)
def test_no_text_is_worse_than_wrong(text):
    for parse in (parse_backend, parse_listen, parse_network, parse_directory_url):
        try:
            parse(text)
        except Wrong as wrong:
            assert str(wrong).isprintable()  # noqa: PT017 - Wrong is one of two good outcomes


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("mail.example.org:587", Address("mail.example.org", 587)),
        ("127.0.0.1:25", Address("127.0.0.1", 25)),
        ("[::1]:25", Address("::1", 25)),
    ],
)
def test_a_mail_server(text: str, address: Address) -> None:
    assert parse_mail_server(text) == address


@pytest.mark.parametrize(
    "text", ["mail", ":25", "a b:25", "mail:0", "mail:99999", "[::x]:25", "[]:1"]
)
def test_no_mail_server(text: str) -> None:
    with pytest.raises(Wrong):
        parse_mail_server(text)


@pytest.mark.parametrize("text", ["ftp://a/b", "a.test/b", "https://a b/", "https://é.test/", ""])
def test_no_webhook_and_its_secret_is_not_repeated(text: str) -> None:
    with pytest.raises(Wrong):
        parse_webhook(text)
