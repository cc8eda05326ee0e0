"""ECDSA and RSA for one site, each client by what it says it can verify: the real program, a real CA
(pebble), and OpenSSL's own client, which can be told to know only this or that."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from support.acme.pebble import Pebble
from support.http.client import https
from support.program.server import Server, treehouse

ANYBODY = ("-tls1_3",), ("-tls1_2",), ("-sigalgs", "RSA-PSS+SHA256:ECDSA+SHA256")
RSA_ALONE = (
    ("-tls1_3", "-sigalgs", "RSA-PSS+SHA256"),
    ("-tls1_2", "-sigalgs", "RSA+SHA256"),
    ("-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"),
)


def shown(port: int, name: str, ca_file: Path, *knows: str) -> x509.Certificate:
    """The certificate that OpenSSL's client is shown, its chain verified."""
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", name,
         "-CAfile", str(ca_file), "-verify_return_error", "-verify_hostname", name, *knows],
        input="", capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    found = re.search(r"-----BEGIN CERTIFICATE.*?END CERTIFICATE-----", done.stdout, re.DOTALL)
    assert found, done.stdout + done.stderr
    assert "Verification: OK" in done.stdout, done.stdout + done.stderr
    return x509.load_pem_x509_certificate(found[0].encode())


def serials(port: int, name: str, ca_file: Path) -> tuple[str, str]:
    """What those see who know ECDSA, and those who know RSA alone."""
    for_anybody = {shown(port, name, ca_file, *knows) for knows in ANYBODY}
    for_rsa = {shown(port, name, ca_file, *knows) for knows in RSA_ALONE}
    (one,), (other,) = for_anybody, for_rsa
    assert isinstance(one.public_key(), ec.EllipticCurvePublicKey)
    assert isinstance(other.public_key(), rsa.RSAPublicKey)
    return f"{one.serial_number:x}", f"{other.serial_number:x}"


def in_status(server: Server, state: Path) -> dict[str, str]:
    return {one["name"]: one["serial"] for one in server.status(state)["certificates"]}


def complaints(server: Server) -> list[str]:
    return [one["message"] for one in server.log if one["level"] == "error"]


@pytest.mark.parametrize("challenge", ["http-01", "tls-alpn-01"])
def test_a_site_with_both_kinds_of_key(
    folder: Path, root: Path, ports: tuple[int, int], challenge: str
) -> None:
    state, trusted = folder / "state", folder / "root.pem"
    with Pebble(ports[0], ports[1]) as ca:
        path = folder / "config.yaml"
        path.write_text(
            f"""
listen: {{http: ["127.0.0.1:{ports[0]}"], https: ["127.0.0.1:{ports[1]}"]}}
workers: 2
state: {state}
acme: {{directory: "{ca.directory}", ca_file: {ca.ca_file}, challenges: {challenge}}}
sites:
  - {{names: [two.example, www.two.example], root: {root}, key_type: [ecdsa-p256, rsa-2048]}}
  - {{names: [one.example], root: {root}}}
"""
        )
        trusted.write_bytes(ca.root())
        with Server(["--config", str(path)], folder) as server:
            for name in ("one.example", "two.example", "two.example/rsa"):
                server.await_log(f"{name}: certificate obtained", within=60)
            seen = serials(ports[1], "two.example", trusted)
            assert serials(ports[1], "www.two.example", trusted) == seen
            status = in_status(server, state)
            assert (status["two.example"], status["two.example/rsa"]) == seen
            kept = sorted(one.name for one in (state / "certificates").glob("[!.]*"))
            assert kept == ["one.example", "two.example", "two.example_rsa"]

            # Each with its own key, order and life: one is renewed, the other stays what it is.
            done = treehouse("certs", "renew", "two.example/rsa", "--state", str(state))
            assert done.stdout == "renewed: two.example/rsa\n", done.stderr
            after = serials(ports[1], "two.example", trusted)
            assert after[0] == seen[0]
            assert after[1] != seen[1]
            done = treehouse("certs", "renew", "www.two.example", "--state", str(state))
            assert done.stdout == "renewed: two.example; renewed: two.example/rsa\n", done.stderr
            last = serials(ports[1], "two.example", trusted)
            assert last[0] != after[0]
            assert last[1] != after[1]

            told = treehouse("why", "two.example", "--state", str(state)).stdout
            assert re.search(r"key +ecdsa-p256\n.*key +rsa-2048\n", told, re.DOTALL), told
            assert "rsa-2048" in treehouse("certs", "list", "--state", str(state)).stdout
            out = folder / "out.pem"
            done = treehouse(
                "certs", "export", "two.example/rsa", "--state", str(state), "--out", str(out)
            )
            assert f"{x509.load_pem_x509_certificate(out.read_bytes()).serial_number:x}" == last[1]

            # One kind is enough from now on; the other is no longer shown, nor listed.
            path.write_text(path.read_text().replace(", key_type: [ecdsa-p256, rsa-2048]", ""))
            plan = treehouse("plan", "--config", str(path)).stdout
            assert "site two.example: keys are ecdsa-p256, rsa-2048 → ecdsa-p256" in plan
            assert "to be had" not in plan
            assert treehouse("reload", "--config", str(path)).returncode == 0
            with pytest.raises(AssertionError, match="handshake failure"):
                shown(ports[1], "two.example", trusted, *RSA_ALONE[0])
            # The next certifier is on its way.
            server.await_status(
                state,
                lambda document: (
                    {one["name"] for one in document["certificates"]}
                    == {"one.example", "two.example"}
                ),
            )
            assert (state / "certificates/two.example_rsa/privkey.pem").exists()
            assert server.stop() == 0
            assert not complaints(server)


def test_after_a_start_both_are_served_without_the_ca(
    folder: Path, root: Path, ports: tuple[int, int]
) -> None:
    """The built-in CA has made them; who starts again finds them."""
    state = folder / "state"
    options = ["--domain", "a.test", "--root", str(root), "--state", str(state), "--workers", "2"]
    options += ["--bind", "127.0.0.1", "--http-port", str(ports[0]), "--https-port", str(ports[1])]
    path = folder / "config.yaml"
    path.write_text("acme: {key_type: [rsa-2048, ecdsa-p256]}\nsites: []\n")
    options += ["--config", str(path)]
    trusted = state / "internal-ca/root.pem"
    with Server(options, folder) as server:
        for name in ("a.test", "a.test/ecdsa"):
            server.await_log(f"{name}: certificate obtained")
        before = serials(ports[1], "a.test", trusted)
        assert server.stop() == 0
    with Server(options, folder) as server:
        assert serials(ports[1], "a.test", trusted) == before
        status = in_status(server, state)
        assert (status["a.test/ecdsa"], status["a.test"]) == before
        assert not [one for one in server.log if "obtained" in one["message"]]


class Own:
    """Two pairs of files, by one CA of the test's."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self._folder = folder
        self.ca_file = folder / "own-ca.pem"
        self._ca.cert_pem.write_to_path(self.ca_file)

    def make(self, kind: str) -> str:
        """Anew; the serial number."""
        made = self._ca.issue_cert("own.example", key_type=trustme.KeyType[kind])
        chain, key = self._folder / f"{kind}.pem", self._folder / f"{kind}.key"
        chain.write_bytes(b"".join(one.bytes() for one in made.cert_chain_pems))
        made.private_key_pem.write_to_path(key)
        for file in (chain, key):
            file.chmod(0o644)
        return f"{x509.load_pem_x509_certificate(chain.read_bytes()).serial_number:x}"

    def entry(self, kind: str) -> str:
        return f"{{chain: {self._folder / kind}.pem, key: {self._folder / kind}.key}}"


def test_own_certificates_of_both_kinds(folder: Path, root: Path, ports: tuple[int, int]) -> None:
    own = Own(folder)
    before = own.make("ECDSA"), own.make("RSA")
    path = folder / "config.yaml"

    def configure(*kinds: str) -> None:
        both = ", ".join(own.entry(kind) for kind in kinds)
        path.write_text(
            f"""
listen: {{http: ["127.0.0.1:{ports[0]}"], https: ["127.0.0.1:{ports[1]}"]}}
workers: 2
state: {folder / "state"}
sites:
  - {{names: [own.example], root: {root}, certificate: [{both}]}}
"""
        )

    configure("ECDSA", "RSA")
    with Server(["--config", str(path)], folder) as server:

        def await_own(serial_of: dict[str, str]) -> None:
            server.await_status(
                folder / "state",
                lambda document: (
                    {one["name"]: one["serial"] for one in document["certificates"]} == serial_of
                ),
            )

        assert serials(ports[1], "own.example", own.ca_file) == before
        await_own({"own.example": before[0], "own.example/rsa": before[1]})
        # One of the two is renewed by whoever looks after it; the other is served as before.
        said = len(server.log)
        following = own.make("RSA")
        server.await_log("reloading: .*changed", since=said)
        server.await_log("serving on", since=said)
        assert serials(ports[1], "own.example", own.ca_file) == (before[0], following)
        # Two of a kind: nothing changes, and it is said.
        configure("RSA", "RSA")
        done = treehouse("reload", "--config", str(path))
        assert done.returncode == 2
        assert "both are for RSA keys" in done.stderr
        assert serials(ports[1], "own.example", own.ca_file) == (before[0], following)
        # The other way round, and then RSA alone.
        configure("RSA", "ECDSA")
        assert treehouse("reload", "--config", str(path)).returncode == 0
        await_own({"own.example": following, "own.example/ecdsa": before[0]})
        configure("RSA")
        assert treehouse("reload", "--config", str(path)).returncode == 0
        await_own({"own.example": following})
        trusted = own.ca_file.read_bytes()
        assert https(ports[1], "own.example", trusted).asks("/", "own.example").status == 200
        with pytest.raises(AssertionError, match="handshake failure"):
            shown(ports[1], "own.example", own.ca_file, "-tls1_2", "-sigalgs", "ECDSA+SHA256")
