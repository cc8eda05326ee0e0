"""Requests to a CA, and the private names of the `acme` library that they are made with."""

from __future__ import annotations

import base64
import inspect
import json

import pytest
import requests
from acme import client

from acme_client.errors import IssuanceError
from acme_client.issuers.order_flow import _Ready
from acme_client.issuers.transport import Transport, alternates, trust
from acme_client.x509 import keys
from support.acme.chains import chain

NOW = 1_795_521_600.0


def test_the_private_names_of_the_library_are_what_they_were() -> None:
    """`Transport` signs with one private method of the library and extends another. A release that
    changes either has to be looked at before it is used."""
    signing = inspect.signature(client.ClientNetwork._wrap_in_jws)
    assert list(signing.parameters) == ["self", "obj", "nonce", "url"]
    sending = inspect.signature(client.ClientNetwork._send_request)
    assert list(sending.parameters) == ["self", "method", "url", "args", "kwargs"]
    assert client.ClientNetwork.JOSE_CONTENT_TYPE == "application/jose+json"
    assert client.ClientNetwork.JSON_ERROR_CONTENT_TYPE == "application/problem+json"


@pytest.mark.parametrize("key_type", ["ecdsa-p256", "ecdsa-p384", "rsa-2048"])
@pytest.mark.parametrize("account", ["https://ca.example/account/1", None])
def test_what_is_signed(key_type: str, account: str | None) -> None:
    """RFC 8555 §6.2: the nonce as the CA sent it, the URL, and the account or the key."""
    with Transport("test", trust(None), lambda: NOW) as transport:
        transport.sign_with(keys.from_pem(keys.to_pem(keys.generate(key_type))), account)
        nonce = b"\x00\x01nonce"
        document = json.loads(transport._wrap_in_jws(_Ready(), nonce, "https://ca.example/c"))  # type: ignore[arg-type]
        assert transport.account_url == account
    protected = json.loads(_decoded(document["protected"]))
    assert _decoded(protected["nonce"]) == nonce
    assert protected["url"] == "https://ca.example/c"
    assert ("kid" in protected, "jwk" in protected) == (account is not None, account is None)
    assert protected["alg"] == {"ecdsa-p256": "ES256", "ecdsa-p384": "ES384"}.get(key_type, "RS256")
    assert json.loads(_decoded(document["payload"])) == {}


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@pytest.mark.parametrize(
    ("link", "urls"),
    [
        ('<https://ca.example/cert/1/1>;rel="alternate"', ["https://ca.example/cert/1/1"]),
        ("</cert/1/1>; rel=alternate", ["https://ca.example/cert/1/1"]),
        ('<1/1>; rel="alternate"', ["https://ca.example/cert/1/1"]),
        ('<?2>; rel="Alternate"', ["https://ca.example/cert/1?2"]),
        ('</a>; rel="up alternate"', ["https://ca.example/a"]),
        (
            '</dir>; rel="index", </a>; rel="alternate", </b>; rel="alternate"',
            ["https://ca.example/a", "https://ca.example/b"],
        ),
        ('</dir>; rel="index"', []),
        ('<ftp://ca.example/a>; rel="alternate"', []),
        ("</a>", []),
        ("nonsense", []),
        ("", []),
    ],
)
def test_alternate_chains(link: str, urls: list[str]) -> None:
    answer = requests.Response()
    answer.url, answer.headers["Link"] = "https://ca.example/cert/1", link
    assert alternates(answer) == urls


@pytest.mark.parametrize(
    "text",
    [
        b"# F\xc5\x91tan\xc3\xbas\xc3\xadtv\xc3\xa1ny\n",
        b"# Hauptzertifikat f\xfcr alle\n",
        b"\xef\xbb\xbf",
        b"Certificate:\r\n    Data:\r\n",
    ],
)
def test_a_bundle_as_people_have_it(text: bytes) -> None:
    bundle = text + chain("ca.example", now=NOW).chain_pem.rstrip()
    assert trust(bundle).cert_store_stats()["x509"] == 2


@pytest.mark.parametrize("bundle", [b"", b"no certificate", b"\x30\x03\x02\x01\x05"])
def test_a_bundle_without_a_certificate(bundle: bytes) -> None:
    with pytest.raises(IssuanceError, match=r"acme\.ca_file"):
        trust(bundle)
