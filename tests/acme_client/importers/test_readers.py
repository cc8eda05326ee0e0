"""Each reader on a tree of the real program (see make_trees.py), on older forms of it, and on what is
broken in it or laid out as a trap."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from acme_client.importers import traefik
from acme_client.importers.directories import Directories
from acme_client.importers.findings import Findings
from acme_client.importers.safe_tree import Unreadable
from acme_client.importers.sources import SOURCES
from acme_client.x509 import keys
from acme_client.x509.verify import verify_pair

TREES = Path(__file__).parent / "trees"
CA = (TREES / "directory").read_text().strip()
HOST = CA.split("/")[2]
MADE_AT = 1_795_554_500.0  # while they are valid
KNOWN = Directories((CA,))
ACCOUNT_KEYS = {
    "certbot": f"accounts/{HOST}/dir/*/private_key.json",
    "caddy": "acme/*/users/*/*.key",
    "lego": "accounts/*/*/keys/*.key",
}


def tree(source: str, folder: Path) -> Path:
    """A copy that a test may change."""
    if source == "traefik":
        return Path(shutil.copy(TREES / "traefik.json", folder / "acme.json"))
    if source == "acme.sh":
        return acme_sh(folder / ".acme.sh")
    return Path(shutil.copytree(TREES / source, folder / source, symlinks=True))


def acme_sh(path: Path) -> Path:
    """Laid out by hand from what lego has obtained."""
    lego = TREES / "lego"
    below = path / "a.example_ecc"
    below.mkdir(parents=True)
    leaf, mark, issuers = (
        (lego / "certificates/a.example.crt").read_text().partition("-----END CERTIFICATE-----\n")
    )
    (below / "a.example.cer").write_text(leaf + mark)
    (below / "ca.cer").write_text(issuers)
    (below / "a.example.key").write_bytes((lego / "certificates/a.example.key").read_bytes())
    (below / "a.example.conf").write_text(
        f"Le_Domain='a.example'\nLe_Alt='www.a.example'\nLe_API='{CA}'\nLe_ReloadCmd='rm -rf /'\n"
    )
    account = path / "ca/127.0.0.1/dir"
    account.mkdir(parents=True)
    (key,) = lego.glob("accounts/*/*/keys/*.key")
    (account / "account.key").write_bytes(key.read_bytes())
    uri = json.loads(next(lego.glob("accounts/*/*/account.json")).read_text())["registration"][
        "uri"
    ]
    (account / "ca.conf").write_text(f"ACCOUNT_URL='{uri}'\nCA_EMAIL=\"ops@example.org\"\n")
    gone = account / "deactivated/1"
    gone.mkdir(parents=True)
    (gone / "account.key").write_text("given up")
    return path


def found(source: str, path: Path, directories: Directories = KNOWN) -> Findings:
    return SOURCES[source].read(path, directories)


def whys(findings: Findings) -> str:
    return "\n".join(f"{one.where}: {one.why}" for one in findings.skipped)


@pytest.mark.parametrize("source", SOURCES)
def test_a_real_tree(source: str, tmp_path: Path) -> None:
    findings = found(source, tree(source, tmp_path))
    assert findings.skipped == ()
    names = set()
    for one in findings.certificates:
        assert one.directory == CA
        assert one.pair.key_pem.startswith(b"-----BEGIN PRIVATE KEY")
        assert one.pair.chain_pem.count(b"BEGIN CERTIFICATE") == 2
        names |= set(verify_pair(one.pair, (one.title,), MADE_AT).names)
    assert names == {"a.example"} | ({"www.a.example"} if source != "traefik" else set())
    (account,) = findings.accounts
    assert account.directory == CA
    assert account.uri is not None
    assert account.uri.startswith(f"https://{HOST}/my-account/")
    # certbot's current versions do not keep it.
    assert account.contact == (None if source == "certbot" else ("mailto:ops@example.org",))
    assert keys.from_pem(account.key_pem)
    assert account.used == {"lego": 0, "caddy": 2}.get(source, 1)


@pytest.mark.parametrize("source", SOURCES)
def test_without_a_known_directory_what_the_source_says_is_enough(
    source: str, tmp_path: Path
) -> None:
    """certbot, Caddy and acme.sh tell it; the others tell its host, which is nobody's here."""
    findings = found(source, tree(source, tmp_path), Directories())
    assert findings.certificates
    if source in ("traefik", "lego"):
        assert findings.accounts == ()
        assert f"the CA at {HOST} has is not known; name it: --directory URL" in whys(findings)
        assert {one.directory for one in findings.certificates} == {None}
    else:
        assert [one.directory for one in findings.accounts] == [CA]


def replaced(pattern: str, data: bytes) -> Callable[[Path], str]:
    def breaks(path: Path) -> str:
        (file, *_) = sorted(path.glob(pattern))
        file.unlink()
        file.write_bytes(data)
        return str(file.relative_to(path))

    return breaks


def removed(pattern: str) -> Callable[[Path], str]:
    def breaks(path: Path) -> str:
        (file, *_) = sorted(path.glob(pattern))
        file.unlink()
        return str(file.relative_to(path))

    return breaks


def linked(pattern: str, target: str) -> Callable[[Path], str]:
    """What it was, moved out of the tree, with a link to there in its place."""

    def breaks(path: Path) -> str:
        (one, *_) = sorted(path.glob(pattern))
        outside = path.parent / "outside"
        one.rename(outside)
        one.symlink_to(target or outside)
        return str(one.relative_to(path))

    return breaks


def piped(pattern: str) -> Callable[[Path], str]:
    def breaks(path: Path) -> str:
        (one, *_) = sorted(path.glob(pattern))
        one.unlink()
        os.mkfifo(one)
        return str(one.relative_to(path))

    return breaks


DEEP = b"[" * 100_000
LARGE = b"x" * (256 * 1024 + 1)
TWO_KINDS = [
    ("certbot", "archive/*/fullchain1.pem", "there is no certificate in it"),
    ("caddy", "certificates/*/*/*.crt", "there is no certificate in it"),
    ("lego", "certificates/a.example.crt", "there is no certificate in it"),
    ("acme.sh", "a.example_ecc/a.example.cer", "there is no certificate in it"),
]


@pytest.mark.parametrize(
    ("source", "breaks", "said", "certificates", "accounts"),
    [
        *[(one, replaced(file, b"?"), said, -1, 1) for one, file, said in TWO_KINDS],
        *[(one, replaced(file, LARGE), "larger than 256 KiB", -1, 1) for one, file, _ in TWO_KINDS],
        *[(one, removed(file), None if one == "lego" else "", -1, 1) for one, file, _ in TWO_KINDS],
        *[(one, piped(file), "", -1, 1) for one, file, _ in TWO_KINDS],
        *[(one, linked(file, ""), "", -1, 1) for one, file, _ in TWO_KINDS],
        ("certbot", linked("archive/a.example", ""), "not a directory", 0, 1),
        ("certbot", linked("live/a.example", ""), "not followed", 0, 1),
        ("caddy", linked("certificates/*", ""), "not followed", 0, 1),
        ("caddy", linked("acme/*/users/*", ""), "not followed", 2, 0),
        ("lego", linked("accounts/*/*", ""), "not followed", 1, 0),
        ("acme.sh", linked("a.example_ecc", ""), "not followed", 0, 1),
        ("certbot", linked("live/*/privkey.pem", "../../../outside"), "leads out of", 0, 1),
        ("certbot", linked("live/*/privkey.pem", "/etc/shadow"), "leads out of", 0, 1),
        ("certbot", linked("live/*/privkey.pem", "../../renewal/a.example.conf"), "not into archive", 0, 1),
        ("certbot", replaced("accounts/*/*/*/private_key.json", b"{"), "it is not JSON", 1, 0),
        ("certbot", replaced("accounts/*/*/*/private_key.json", DEEP), "it is not JSON", 1, 0),
        ("certbot", replaced("accounts/*/*/*/private_key.json", b"[]"), "not a JSON object", 1, 0),
        ("certbot", replaced("accounts/*/*/*/private_key.json", b"{}"), "of a known kind", 1, 0),
        ("certbot", replaced("accounts/*/*/*/private_key.json", b'{"kty":"OKP","crv":"Ed25519"}'), "Edwards", 1, 0),
        ("certbot", replaced("accounts/*/*/*/private_key.json", b'{"kty":"RSA","n":"AQAB","e":"AQAB"}'), "17 bits", 1, 0),
        ("certbot", replaced("accounts/*/*/*/private_key.json", b'{"kty":"EC","crv":"P-521"}'), "P-521", 1, 0),
        ("certbot", replaced("accounts/*/*/*/private_key.json", b'{"kty":"EC","crv":"P-256","x":"?","y":"A","d":"A"}'), "not base64url", 1, 0),
        ("certbot", replaced("accounts/*/*/*/private_key.json", b'{"kty":"EC","crv":"P-256","x":"AQ","y":"AQ","d":"AQ"}'), "", 1, 0),
        ("certbot", replaced("renewal/a.example.conf", b"= = [\n"), "cannot be understood", 1, 1),
        ("caddy", replaced("certificates/*/a.example/*.json", b"{"), "it is not JSON", 2, 1),
        ("caddy", replaced("acme/*/users/*/*.json", b'{"status": "revoked"}'), "the account is revoked", 2, 0),
        ("caddy", replaced("acme/*/users/*/*.key", b"?"), "", 2, 0),
        ("lego", replaced("accounts/*/*/account.json", b"{"), "it is not JSON", 1, 0),
        ("lego", replaced("certificates/a.example.json", b"{"), "it is not JSON", 1, 1),
        ("lego", removed("accounts/*/*/keys/*.key"), "it has 0 keys", 1, 0),
        ("lego", removed("certificates/a.example.key"), "no such file", 0, 1),
        ("acme.sh", replaced("ca/*/*/account.key", b"?"), "", 1, 0),
    ],
)  # fmt: skip
def test_what_is_broken_is_left_out_and_named(
    source: str,
    breaks: Callable[[Path], str],
    said: str | None,
    certificates: int,
    accounts: int,
    tmp_path: Path,
) -> None:
    path = tree(source, tmp_path)
    whole = len(found(source, path).certificates)
    breaks(path)
    findings = found(source, path)
    assert len(findings.certificates) == (whole - 1 if certificates < 0 else certificates)
    assert len(findings.accounts) == accounts
    if said is not None:
        assert len(findings.skipped) == 1, whys(findings)
        assert said in whys(findings)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "it is not JSON"),
        (DEEP, "it is not JSON"),
        (b"[]", "not a JSON object"),
        (b"\xff", "it is not JSON"),
    ],
)
def test_traefiks_file_is_one_or_none(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "acme.json").write_bytes(content)
    with pytest.raises(Unreadable, match=said):
        traefik.read(tmp_path, KNOWN)


def test_one_broken_entry_of_traefiks_leaves_the_others(tmp_path: Path) -> None:
    document = json.loads((TREES / "traefik.json").read_text())
    (resolver,) = document.values()
    good = resolver["Certificates"][0]
    resolver["Certificates"] = [
        {"domain": {"main": "b.example"}, "certificate": "?", "key": good["key"]},
        {"domain": None, "certificate": good["certificate"]},
        "nonsense",
        good,
    ]
    document |= {"other": None, "empty": {"Account": None, "Certificates": None}}
    (tmp_path / "acme.json").write_text(json.dumps(document))
    findings = traefik.read(tmp_path, KNOWN)
    assert [one.title for one in findings.certificates] == ["a.example"]
    assert len(findings.accounts) == 1
    assert [one.where for one in findings.skipped] == [
        "myresolver, b.example", "myresolver, certificate 2", "myresolver, certificate 3",
    ]  # fmt: skip


def test_traefiks_first_version_and_an_empty_file(tmp_path: Path) -> None:
    (new,) = json.loads((TREES / "traefik.json").read_text()).values()
    (one,) = new["Certificates"]
    old = {
        "Account": new["Account"],
        "Certificates": [
            {"Domain": {"Main": "a.example", "SANs": None}, "Certificate": one["certificate"], "Key": one["key"]}
        ],
        "HTTPChallenges": {},
    }  # fmt: skip
    file = tmp_path / "acme.json"
    file.write_text(json.dumps(old))
    findings = traefik.read(file, KNOWN)
    assert findings.skipped == ()
    assert [one.title for one in findings.certificates] == ["a.example"]
    assert len(findings.accounts) == 1
    file.write_text("")
    assert traefik.read(file, KNOWN) == Findings()


def test_an_account_that_its_ca_never_answered(tmp_path: Path) -> None:
    document = json.loads((TREES / "traefik.json").read_text())
    document["myresolver"]["Account"]["Registration"] = None
    (tmp_path / "acme.json").write_text(json.dumps(document))
    findings = traefik.read(tmp_path, KNOWN)
    assert findings.accounts == ()
    assert "has not given it an address yet" in whys(findings)


def test_an_edwards_curves_account_key_is_refused_with_the_reason(tmp_path: Path) -> None:
    key = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path = tree("caddy", tmp_path)
    replaced("acme/*/users/*/*.key", key)(path)
    findings = found("caddy", path)
    assert findings.accounts == ()
    assert "an Edwards curve's; P-256, P-384 and RSA can be used" in whys(findings)


def test_keys_of_caddys_older_kind_and_its_own_ca(tmp_path: Path) -> None:
    path = tree("caddy", tmp_path)
    own = path / "certificates/local/localhost"
    own.mkdir(parents=True)
    shutil.copy(TREES / "lego/certificates/a.example.crt", own / "localhost.crt")
    # Certificates of older versions do not tell their CA; the folder's name does.
    for file in path.glob("certificates/*/*/*.json"):
        file.write_text('{"sans": [], "issuer_data": null}')
    findings = found("caddy", path)
    assert [one.directory for one in findings.certificates] == [CA, CA]
    assert len(findings.accounts) == 1
    assert "certificates/local/localhost: it is from a CA of Caddy's own" in whys(findings)


def test_certbots_links_between_folders_of_accounts(tmp_path: Path) -> None:
    """It made some when Let's Encrypt's address changed, absolute ones."""
    path = tree("certbot", tmp_path)
    new = path / "accounts/other.example"
    new.mkdir()
    (new / "directory").symlink_to(path / f"accounts/{HOST}/dir")
    (new / "loop").symlink_to(path / "accounts")
    (new / "out").symlink_to("/etc")
    (path / "renewal/a.example.conf").write_text(
        f"[renewalparams]\nserver = https://other.example/directory\naccount = {'0' * 32}\n"
        "[[webroot_map]]\na.example = /srv\n"
    )
    findings = found("certbot", path)
    assert {one.directory for one in findings.accounts} >= {CA, "https://other.example/directory"}
    assert {one.directory for one in findings.certificates} == {"https://other.example/directory"}
    assert f"leads out of {path}, to /etc" in whys(findings)


def test_legos_current_layout(tmp_path: Path) -> None:
    """By kinds of key, with the key beside the record; and a bundle in two files."""
    path = tree("lego", tmp_path)
    (user,) = path.glob("accounts/*/*")
    kind = user / "EC256"
    kind.mkdir()
    (user / "account.json").rename(kind / "account.json")
    next(user.glob("keys/*.key")).rename(kind / "ops@example.org.key")
    chain = path / "certificates/a.example.crt"
    leaf, mark, _ = chain.read_text().partition("-----END CERTIFICATE-----\n")
    chain.write_text(leaf + mark)
    (path / "certificates/a.example.json").write_text(
        json.dumps({"id": "a.example", "certUrl": f"https://{HOST}/certZ/1"})
    )
    findings = found("lego", path)
    assert findings.skipped == ()
    assert findings.certificates[0].pair.chain_pem.count(b"BEGIN CERTIFICATE") == 2
    assert findings.certificates[0].directory == CA
    assert len(findings.accounts) == 1


def test_acme_shs_older_layout(tmp_path: Path) -> None:
    path = tree("acme.sh", tmp_path)
    (path / "ca/127.0.0.1/dir").rename(path / "moved")
    shutil.rmtree(path / "ca")
    (path / "ca").mkdir()
    shutil.rmtree(path / "moved/deactivated")
    (path / "moved").rename(path / "ca/acme-v02.api.letsencrypt.org")
    (path / "b.example").mkdir()
    (path / "b.example/b.example.conf").write_text("Le_Domain='b.example'\n")
    findings = found("acme.sh", path)
    assert findings.accounts[0].directory == "https://acme-v02.api.letsencrypt.org/directory"
    assert whys(findings) == "b.example: there is no certificate yet"


def test_only_certificates_of_a_chain_come_along(tmp_path: Path) -> None:
    path = tree("lego", tmp_path)
    chain = path / "certificates/a.example.crt"
    chain.write_bytes(
        b"Bag Attributes\n"
        + chain.read_bytes()
        + (path / "certificates/a.example.key").read_bytes()
    )
    (one,) = found("lego", path).certificates
    assert b"PRIVATE" not in one.pair.chain_pem
    chain.write_bytes(chain.read_bytes() * 6)
    assert "more than 10 certificates" in whys(found("lego", path))


def test_where_programs_usually_keep_their_files() -> None:
    environment = {"HOME": "/home/x", "XDG_DATA_HOME": "/data", "LEGO_PATH": "/lego"}
    usual = {name: source.usual(environment) for name, source in SOURCES.items()}
    assert usual["certbot"] == (Path("/etc/letsencrypt"),)
    assert usual["caddy"][0] == Path("/data/caddy")
    assert SOURCES["caddy"].usual({"HOME": "/home/x"}) == (
        Path("/home/x/.local/share/caddy"), Path("/var/lib/caddy/.local/share/caddy"),
    )  # fmt: skip
    assert usual["traefik"][0] == Path("acme.json")
    assert usual["acme.sh"] == (Path("/home/x/.acme.sh"),)
    assert SOURCES["acme.sh"].usual({"LE_CONFIG_HOME": "/le"}) == (Path("/le"),)
    assert usual["lego"][0] == Path("/lego")
    assert SOURCES["lego"].usual({})[0] == Path(".lego")


def test_base64_of_something_else(tmp_path: Path) -> None:
    document = json.loads((TREES / "traefik.json").read_text())
    document["myresolver"]["Account"]["PrivateKey"] = base64.b64encode(b"nonsense").decode()
    (tmp_path / "acme.json").write_text(json.dumps(document))
    findings = traefik.read(tmp_path, KNOWN)
    assert findings.accounts == ()
    assert len(findings.certificates) == 1
    assert len(findings.skipped) == 1
