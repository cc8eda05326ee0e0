"""What the configuration says about the disk, on a real one, for root and for others."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import trustme

from proxy.config.checks import files as places
from proxy.config.checks.files import Reader
from proxy.config.schema.parse import validate
from proxy.config.syntax.faults import Fault
from proxy.config.syntax.yaml_reader import parse

CA = trustme.CA()
NOBODY = Reader(65534, 65534, here=False)
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to somebody else")


HERE = Reader(os.geteuid(), os.getegid(), here=True)


def told(
    base: Path,
    text: str,
    state: str = "state",
    reader: Reader | None = NOBODY,
    opener: Reader | None = HERE,
    notices: list[Fault] | None = None,
) -> list[str]:
    document = parse(text, "c.yaml")
    parsed, faults = validate(document.value, document.origins, base=base)
    assert not faults, faults
    return [
        str(fault)
        for fault in places.check(
            parsed, base / state, reader, opener, [] if notices is None else notices
        )
    ]


def site(rest: str) -> str:
    return f"sites: [{{names: a.test, {rest}}}]"


@pytest.fixture
def base(open_folder: Path) -> Path:
    (open_folder / "www").mkdir(mode=0o755)
    (open_folder / "www" / "deep").mkdir(mode=0o755)
    (open_folder / "ca.pem").write_bytes(CA.cert_pem.bytes())
    (open_folder / "no.pem").write_text("PEM")
    (open_folder / "mac").write_text("zWNDZM6eQGHWpSRTPal5eIUYFTu7EajV\n")
    (open_folder / "mac").chmod(0o644)
    (open_folder / "no-mac").write_text('"zWNDZM6eQGHWpSRTPal5eIUYFTu7EajV"')
    (open_folder / "no-mac").chmod(0o644)
    (open_folder / "ca.pem").chmod(0o644)
    pair = CA.issue_cert("a.test", "b.test")
    pair.private_key_and_cert_chain_pem.write_to_path(open_folder / "pair.pem")
    return open_folder


def test_what_is_there_and_readable_is_not_mentioned(base):
    text = "acme: {directory: 'https://ca.test/', ca_file: ca.pem, eab: {kid: k, hmac_key_file: mac}}\n"
    text += site("root: www, certificate: {chain: pair.pem, key: pair.pem}")
    assert told(base, text) == []


MISSING = [
    (site("root: nowhere"), "sites[0].root", "{base}/nowhere does not exist"),
    (site("root: ca.pem"), "sites[0].root", "{base}/ca.pem is not a directory"),
    (site("root: ca.pem/x"), "sites[0].root", "{base}/ca.pem/x does not exist"),
    (site("routes: [{path: /*, root: nowhere}]"), "sites[0].routes[0].root", "does not exist"),
    (site("root: www, certificate: {chain: x, key: y}"), "sites[0].certificate.chain", "does not exist"),
    (site("root: www, certificate: {chain: ca.pem, key: www}"), "sites[0].certificate.key", "is not a file"),
    (site("backend: 'https://x', backend_tls: {ca_file: x}"), "sites[0].backend_tls.ca_file", "does not exist"),
    ("acme: {ca_file: x}\n" + site("root: www"), "acme.ca_file", "does not exist"),
    ("acme: {eab: {kid: k, hmac_key_file: x}}\n" + site("root: www"), "acme.eab.hmac_key_file", "does not exist"),
    ("acme: {eab: {kid: k, hmac_key_file: no-mac}}\n" + site("root: www"), "acme.eab.hmac_key_file", "{base}/no-mac: its key is not in base64url, which has no '\"' (put the key there as"),
    ("acme: {fallback: [{directory: 'https://x/', eab: {kid: k, hmac_key_file: ca.pem}}]}\n" + site("root: www"), "acme.fallback[0].eab.hmac_key_file", "holds more than the key"),
    ("acme: {dns: [{server: 192.0.2.1, tsig: {name: k, secret_file: x}}]}\n" + site("root: www"), "acme.dns[0].tsig.secret_file", "does not exist"),
    ("acme: {dns: [{hook: x}]}\n" + site("root: www"), "acme.dns[0].hook", "does not exist"),
    ("acme: {dns: [{hook: ca.pem}]}\n" + site("root: www"), "acme.dns[0].hook", "may not execute"),
    ("acme: {ca_file: no.pem}\n" + site("root: www"), "acme.ca_file", "{base}/no.pem holds no certificate in PEM"),
    (site("root: www, tls: {client_auth: {ca_file: no.pem}}"), "sites[0].tls.client_auth.ca_file", "no certificate in PEM"),
    (site("root: www, tls: {client_auth: {ca_file: x}}"), "sites[0].tls.client_auth.ca_file", "does not exist"),
    ("alerts: {webhook_file: x}\n" + site("root: www"), "alerts.webhook_file", "does not exist"),
    ("alerts: {webhook_file: mac}\n" + site("root: www"), "alerts.webhook_file", "{base}/mac holds no http or https URL"),
    ("acme: {fallback: [{directory: 'https://x/', ca_file: x}]}\n" + site("root: www"), "acme.fallback[0].ca_file", "does not exist"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "key", "said"), MISSING, ids=[key for _, key, _ in MISSING])
def test_what_is_missing_or_of_another_kind_is_told_at_its_key(base, text, key, said):
    lines = told(base, text)
    assert f": {key}: " in lines[0]
    assert said.format(base=base) in lines[0]


def test_a_link_that_leads_nowhere_or_round_in_circles_is_told(base):
    (base / "dangling").symlink_to("nowhere")
    (base / "circle").symlink_to("circle")
    assert "does not exist" in told(base, site("root: dangling"))[0]
    assert "cannot be looked at" in told(base, site("root: circle"))[0]


def test_a_socket_is_no_document_root(base):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(base / "sock"))
        assert "is not a directory" in told(base, site("root: sock"))[0]


# Who will read


@root_only
def test_a_document_root_that_the_target_may_not_enter_is_told_with_the_command(base):
    (base / "www").chmod(0o700)
    (line,) = told(base, site("root: www"))
    assert f"uid 65534 may not enter {base / 'www'} (sudo chmod o+x {base / 'www'})" in line


@root_only
def test_so_is_a_directory_above_it(base):
    (base / "www").chmod(0o700)
    (line,) = told(base, site("root: www/deep"))
    assert (
        f"may not enter {base / 'www'} (sudo chmod o+x {base / 'www'}, or move what lies in it)"
        in line
    )


@root_only
def test_the_way_is_that_of_the_real_path(base):
    (base / "closed").mkdir(mode=0o700)
    (base / "closed" / "www").mkdir(mode=0o755)
    (base / "link").symlink_to("closed/www")
    assert f"may not enter {base / 'closed'}" in told(base, site("root: link"))[0]


@root_only
@pytest.mark.parametrize(
    ("owner", "mode", "reads"),
    [
        ((0, 0), 0o644, True),
        ((0, 0), 0o600, False),
        ((65534, 0), 0o400, True),
        ((65534, 0), 0o044, False),  # the owner's bits are the owner's, even if fewer
        ((0, 65534), 0o640, True),
        ((0, 65534), 0o604, False),
    ],
)
def test_owner_group_and_mode_decide_as_in_the_kernel(base, owner, mode, reads):
    os.chown(base / "ca.pem", *owner)
    (base / "ca.pem").chmod(mode)
    lines = told(base, "acme: {ca_file: ca.pem}\n" + site("root: www"))
    assert bool(lines) is not reads
    assert _really_reads(base / "ca.pem") is reads


def _really_reads(path: Path) -> bool:
    """What the kernel says to uid and gid 65534 without other groups."""
    child = os.fork()
    if not child:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        os._exit(0 if os.access(path, os.R_OK) else 1)
    return os.waitpid(child, 0)[1] == 0


@root_only
def test_a_certificate_of_ones_own_may_be_roots_alone_for_root_reads_it(base):
    (base / "pair.pem").chmod(0o600)
    assert told(base, site("root: www, certificate: {chain: pair.pem, key: pair.pem}")) == []


def test_of_somebody_unknown_nothing_is_claimed(base):
    (base / "www").chmod(0o700)
    assert told(base, site("root: www"), reader=None) == []


def test_this_very_process_can_simply_ask(base):
    here = Reader(os.geteuid(), os.getegid(), here=True)
    assert told(base, site("root: www"), reader=here) == []


# Keys are never served


@pytest.mark.parametrize(
    ("root", "state"),
    [
        ("www", "www/state"),  # may not exist yet
        ("www", "www"),
        (".", "state"),
        ("www", "alias/state"),
        ("alias", "www/deep/state"),
        ("www", "www/deep/../deep"),
        ("/", "state"),
    ],
)
def test_a_state_directory_below_a_document_root_is_refused_by_inode(base, root, state):
    (base / "alias").symlink_to("www")
    (line,) = told(base, site(f"root: {root}"), state)
    assert "and its keys would be served" in line


def test_a_document_root_below_the_state_directory_is_refused(base):
    (line,) = told(base, site("routes: [{path: /x, root: www/deep}]"), "www")
    assert "sites[0].routes[0].root" in line
    assert "lies in the state directory" in line


def test_neighbours_of_like_names_are_apart(base):
    (base / "www-state").mkdir()
    assert told(base, site("root: www"), "www-state") == []


def test_a_state_directory_that_is_a_file_is_told(base):
    assert "is not a directory" in told(base, site("root: www"), "ca.pem")[0]


# Certificates, sockets, places of logs

OWN = "root: www, certificate: {{chain: {}, key: {}}}"


def test_a_certificate_that_serves_nobody_is_a_fault_and_one_that_serves_some_a_notice(base):
    key = base / "other.key"
    CA.issue_cert("c.test").private_key_pem.write_to_path(key)
    (line,) = told(base, site(OWN.format("pair.pem", "other.key")))
    assert "sites[0].certificate.chain: " in line
    assert "the key does not belong to the certificate" in line
    (line,) = told(base, "sites: [{names: x.test, " + OWN.format("pair.pem", "pair.pem") + "}]")
    assert "names that the certificate does not cover: x.test" in line
    notices: list[Fault] = []
    text = "sites: [{names: [a.test, x.test], " + OWN.format("pair.pem", "pair.pem") + "}]"
    assert told(base, text, notices=notices) == []
    (notice,) = map(str, notices)
    assert "c.yaml:1:" in notice
    assert "does not cover: x.test" in notice


def test_two_certificates_for_one_kind_of_key_are_a_fault(base):
    one = "{chain: pair.pem, key: pair.pem}"
    (line,) = told(base, site(f"root: www, certificate: [{one}, {one}]"))
    assert "both are for ECDSA keys" in line


@root_only
def test_a_key_that_only_root_reads_is_a_fault_for_a_start_without_root(base):
    (base / "pair.pem").chmod(0o600)
    text = site(OWN.format("pair.pem", "pair.pem"))
    assert told(base, text) == [], "root reads it before the privileges are dropped"
    assert told(base, text, opener=None) == [], "a running server has read it"


def test_sockets_are_looked_at_as_the_user_that_connects(base):
    path = base / "app.sock"
    text = site(f"backend: 'unix:{path}'")
    assert told(base, text) == [], "it is the app's to make"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        path.chmod(0o666)
        assert told(base, text) == []
        path.chmod(0o770)
        (line,) = told(base, text)
        assert f"uid 65534 may not connect to {path}" in line
        assert "sites[0].backend" in line
    (line,) = told(base, site(f"backend: 'unix:{base}/ca.pem'"))
    assert "is no socket" in line
    assert told(base, site("backend: 'unix:@abstract'")) == []


def test_a_place_for_the_access_log(base):
    def of(place: str) -> list[str]:
        return told(base, f"log: {{access: '{place}'}}\n{site('root: www')}")

    (base / "fifo.log").unlink(missing_ok=True)
    os.mkfifo(base / "fifo.log")
    (base / "link.log").symlink_to("/dev/stdout")
    (base / "other.log").symlink_to(base / "ca.pem")
    assert of("access.log") == of("ca.pem") == of("/dev/null") == of("stdout") == of("off") == []
    assert of("/dev/stdout") == of("/dev/fd/2") == []
    for place, what, remedy in (
        ("nowhere/access.log", "nowhere does not exist", "sudo install -d -o 65534 -g 65534"),
        ("ca.pem/access.log", "is not a directory", "name a file"),
        ("www", "www is a directory", "www/access.log"),
        ("fifo.log", "is a pipe", "write stdout"),
        ("link.log", "symbolic link", "write stdout"),
        ("other.log", "symbolic link", f"name {base}/ca.pem itself"),
    ):
        (line,) = of(place)
        assert "c.yaml:1:15: log.access: " in line
        assert what in line
        assert remedy in line
