"""`drill`: what would lapse when, who would be told, what to change; and that nothing real is touched."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from acme_client.certificates import transitions
from acme_client.certificates.record import Record
from acme_client.certificates.repository import CertificateRepository
from acme_client.drill.memory_store import MemoryStore
from acme_client.issuers.internal import InternalCa
from acme_client.storage.directory import open_store
from acme_client.x509.verify import examine
from proxy.cli.drill import play
from proxy.cli.main import program
from proxy.config.load import Options, load

DAY = 86400.0
DIRECTORY = "https://acme-v02.api.letsencrypt.org/directory"


def state_with(folder: Path, *certificates: tuple[str, float, float]) -> Path:
    """A state directory with certificates: name, days that they have, days that are left."""
    state = folder / "state"
    state.mkdir(mode=0o700)
    repository = CertificateRepository(open_store(state))
    for name, lifetime, left in certificates:
        begun = time.time() - (lifetime - left) * DAY
        pair = InternalCa(MemoryStore(), lifetime * DAY, lambda begun=begun: begun).issue(  # type: ignore[misc] # its default
            (name,), "ecdsa-p256"
        )
        record = transitions.on_found(
            Record(), examine(pair), "acme", DIRECTORY, begun, random.Random(1)
        )
        repository.keep_pair(name, pair)
        repository.keep_record(name, dataclasses.replace(record, names=(name,)))
    return state


def drill(folder: Path, *words: str, more: str = "", names: str = "a.example.org") -> Result:
    path = folder / "config.yaml"
    path.write_text(
        f"state: {folder / 'state'}\n{more}\nsites:\n"
        + "".join(
            f"  - {{names: [{name}], backend: 'http://127.0.0.1:3000'}}\n" for name in names.split()
        )
    )
    return CliRunner().invoke(program, ["drill", *words, "--config", str(path)])


def found(result: Result) -> dict[str, object]:
    document = json.loads(result.stdout)
    assert isinstance(document, dict)
    return document


def fingerprint(state: Path) -> dict[str, tuple[bytes, int, int]]:
    return {
        str(path): (
            path.read_bytes() if path.is_file() else b"",
            path.lstat().st_mtime_ns,
            path.lstat().st_ctime_ns,
        )
        for path in sorted(state.rglob("*"))
    }


def test_an_outage_that_is_too_long(tmp_path: Path) -> None:
    """Ninety days, of which ten are left: renewal has been due for twenty."""
    state = state_with(tmp_path, ("a.example.org", 90, 10))
    before = fingerprint(state)
    mail = "alerts: {webhook: 'https://chat.example.org/x'}"
    result = drill(tmp_path, "outage", "--days", "20", "--json", more=mail)
    assert result.exit_code == 1, result.output
    document = found(result)
    (one,) = document["certificates"]  # type: ignore[misc] # a list
    lapsed = time.mktime(time.strptime(one["lapsed"], "%Y-%m-%dT%H:%M:%SZ")) - time.timezone
    assert abs(lapsed - time.time() - 10 * DAY) < 2 * 3600
    # It comes back when the CA does.
    assert one["lapsed"] < one["back"]
    assert one["least_runway_seconds"] == 0
    alerts = [each for each in document["alerts"] if each["event"] == "alert"]  # type: ignore[attr-defined] # a list
    assert {each["kind"] for each in alerts} == {"renewal_failing", "runway_short"}
    assert alerts[0]["at"] < one["lapsed"]
    assert document["alerts_by"] == ["webhook"]
    assert any("acme.fallback" in advice for advice in document["advice"])  # type: ignore[attr-defined] # a list
    assert fingerprint(state) == before


def test_another_ca_bears_it(tmp_path: Path) -> None:
    state_with(tmp_path, ("a.example.org", 90, 10))
    more = "acme: {fallback: [{directory: 'https://other.example/directory'}]}"
    result = drill(tmp_path, "outage", "--days", "20", more=more)
    assert result.exit_code == 0, result.output
    assert "no certificate lapses" in result.output
    assert "acme.fallback" not in result.output


def test_an_outage_that_is_borne_and_the_moment_when_it_would_not_be(tmp_path: Path) -> None:
    state_with(tmp_path, ("a.example.org", 90, 80))
    result = drill(tmp_path, "outage", "--days", "40")
    assert result.exit_code == 0, result.output
    assert "to nobody: none are configured" in result.output or "none would have" in result.output
    assert "so that somebody is told" in result.output
    (line,) = [one for one in result.output.splitlines() if "--after" in one]
    after = line.partition("--after ")[2].split()[0]
    assert 40 <= int(after) <= 60
    later = drill(tmp_path, "outage", "--days", "40", "--after", after)
    assert later.exit_code == 1
    assert "a.example.org: lapses" in later.output
    assert "before the first lapse" in later.output


def test_short_lived_certificates(tmp_path: Path) -> None:
    state_with(tmp_path, ("a.example.org", 6, 4), ("b.example.org", 90, 80))
    result = drill(tmp_path, "outage", "--days", "8", names="a.example.org b.example.org")
    assert result.exit_code == 1
    assert "a.example.org: lapses" in result.output
    assert "b.example.org: lapses" not in result.output
    assert "acme.profile" in result.output


@pytest.mark.parametrize("days", ["400", "-400"])
def test_a_clock_that_is_wrong(tmp_path: Path, days: str) -> None:
    """Nothing lapses: what is served goes on being served, and nothing is ordered by such a clock."""
    state_with(tmp_path, ("a.example.org", 90, 80))
    result = drill(tmp_path, "clock", "--days", days)
    assert result.exit_code == 0, result.output
    assert "no certificate lapses" in result.output


def test_a_clock_that_is_wrong_while_certificates_are_due(tmp_path: Path) -> None:
    state_with(tmp_path, ("a.example.org", 90, 3))
    result = drill(tmp_path, "clock", "--days", "30")
    assert result.exit_code == 1
    assert "a.example.org: lapses" in result.output
    assert "timedatectl" in result.output


def test_certificates_of_the_built_in_ca_by_a_wrong_clock(tmp_path: Path) -> None:
    result = drill(tmp_path, "clock", "--days", "30", names="a.test")
    assert result.exit_code == 1, result.output
    assert "a.test: lapses" in result.output


def test_a_full_disk(tmp_path: Path) -> None:
    """A new certificate is served from memory."""
    state_with(tmp_path, ("a.example.org", 90, 10))
    result = drill(tmp_path, "disk", "--days", "30", "--json")
    assert result.exit_code == 0, result.output
    document = found(result)
    assert any("space" in each["text"] for each in document["alerts"])  # type: ignore[attr-defined] # a list
    assert any("a restart on a full one" in advice for advice in document["advice"])  # type: ignore[attr-defined] # a list


def test_a_revocation(tmp_path: Path) -> None:
    """The certifier hears of it some hours later, when it asks; a CA that hardly answers then is
    too late for those who have no other."""
    state_with(tmp_path, ("a.example.org", 90, 80))
    well = drill(tmp_path, "revocation", "--json")
    assert well.exit_code == 0, well.output
    (one,) = found(well)["certificates"]  # type: ignore[misc] # a list
    assert not one["revoked"]
    assert one["renewed"] >= 1
    ill = drill(tmp_path, "revocation", "--days", "3")
    assert ill.exit_code == 1, ill.output
    assert "within a day, and hardly answers for 3 days" in ill.output
    assert "a.example.org: revoked before another one was there" in ill.output
    assert "acme.fallback" in ill.output


def test_a_clock_is_told_with_its_way(tmp_path: Path) -> None:
    state_with(tmp_path, ("a.example.org", 90, 80))
    assert "clock is 3 days behind for 7 days" in drill(tmp_path, "clock", "--days", "-3").output
    assert found(drill(tmp_path, "clock", "--json"))["clock_ahead_seconds"] == 2 * DAY


def test_the_built_in_ca_says_nothing_of_another_ones_certificates(tmp_path: Path) -> None:
    """Beside a site of the built-in CA, whose certificates live for days, there is one whose first
    certificate is to come: of ninety days, as that CA's are."""
    state_with(tmp_path, ("a.test", 7, 6))
    result = drill(tmp_path, "outage", "--days", "20", names="a.test b.example.org")
    assert result.exit_code == 0, result.output
    assert "no certificate lapses" in result.output


def test_a_backend(tmp_path: Path) -> None:
    result = drill(tmp_path, "backend", "http://127.0.0.1:3000")
    assert result.exit_code == 1
    assert "a.example.org/*: answers 502" in result.output
    assert "a second one" in result.output
    for spelling in ("127.0.0.1:3000", "http://127.0.0.1:3000/"):
        assert "answers 502" in drill(tmp_path, "backend", spelling).output
    document = found(drill(tmp_path, "backend", "http://127.0.0.1:3000", "--json"))
    assert document["routes"] == [
        {"site": "a.example.org", "path": "/*", "others": 0, "answers": "answers 502"}
    ]
    unknown = drill(tmp_path, "backend", "http://127.0.0.1:4000")
    assert unknown.exit_code == 2
    assert "there are: http://127.0.0.1:3000" in unknown.output


def test_nothing_to_play(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o755)
    result = drill(tmp_path, "outage", "--days", "999999")
    assert result.exit_code == 2
    path = tmp_path / "config.yaml"
    path.write_text("nonsense: 1\n")
    broken = CliRunner().invoke(program, ["drill", "outage", "--config", str(path)])
    assert broken.exit_code == 2


def test_certificates_that_are_not_there_yet_are_ordered_before(tmp_path: Path) -> None:
    state_with(tmp_path, ("a.example.org", 90, 80))
    said = drill(tmp_path, "outage", names="a.example.org b.example.org").output
    assert "certificates: 2, 1 of them ordered before\n" in said
    assert "certificates: 1\n" in drill(tmp_path, "outage").output


def test_days_that_pass_are_told(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    path = tmp_path / "config.yaml"
    path.write_text(
        f"state: {tmp_path / 'state'}\nsites: [{{names: [a.example.org], backend: 'http://127.0.0.1:1'}}]\n"
    )
    config = load(Options(config=path), now_uid=os.geteuid())
    play(config, "outage", 3, passed=lambda day, days: told.append((day, days)))
    # Two days until there is a certificate, three of trouble, ten to get over it.
    assert {days for _, days in told} == {15}
    assert sorted({day for day, _ in told}) == list(range(16))
    assert told[-1] == (15, 15)


@pytest.mark.parametrize(
    "words",
    [
        ("drill", "outage", "--days", "nan"),
        ("drill", "clock", "--days", "NaN"),
        ("drill", "outage", "--after", "nan"),
        ("top", "--interval", "nan"),
    ],
)
def test_no_number_is_no_number(words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(program, words)
    assert result.exit_code == 2
    assert "is no number" in result.output
