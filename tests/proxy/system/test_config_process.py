"""The configuration comes out of the process that reads it as it was read, and nothing else does."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.config.load import load
from proxy.config.options import Options
from proxy.config.syntax.faults import ConfigurationFaults
from proxy.system import config_process
from proxy.system.certificate_files import CertificateUnusable, OwnCertificates
from proxy.system.config_process import ConfigProcess, ReadingEnded
from support.acme.chains import chain

from ..config.test_reference import CONFIG, EXAMPLES, resolved

Tell = Callable[[Options], None]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def children() -> str:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text()


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that the server's user may enter, as pytest's own may not be."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as made:
        os.chmod(made, 0o755)
        yield Path(made)


@pytest.fixture
def options(folder: Path) -> Options:
    """Of a configuration with a site that brings its certificate, and another that does not."""
    pair = chain("shop.test", now=time.time())
    (folder / "c.pem").write_bytes(pair.chain_pem)
    (folder / "k.pem").write_bytes(pair.key_pem)
    (folder / "www").mkdir()
    (folder / "config.yaml").write_text(
        "state: state\n"
        "sites:\n"
        "  - {names: [shop.test], root: www, certificate: {chain: c.pem, key: k.pem}}\n"
        "  - {names: [bücher.test], root: www, allow: [private, 192.0.2.0/24]}\n"
    )
    return Options(config=folder / "config.yaml")


def read(options: Options) -> config_process.Found:
    return config_process.read(options, os.geteuid(), {})


@pytest.mark.parametrize("path", [CONFIG / "reference.yaml", *EXAMPLES], ids=lambda path: path.name)
def test_every_kind_of_configuration_is_the_same_afterwards(path: Path) -> None:
    config = resolved(path)
    assert config_process.understood(pickle.dumps(config, pickle.HIGHEST_PROTOCOL)) == config


def test_what_is_told_is_what_a_reading_here_finds(options: Options, folder: Path) -> None:
    before = descriptors()
    found = read(options)
    assert found.config == load(options, now_uid=os.geteuid())
    assert found.own.unusable is None
    (certificate,) = found.own.loaded
    both = (folder / "c.pem").read_bytes() + (folder / "k.pem").read_bytes()
    assert certificate.bundle.content() == both
    assert certificate.facts.names == ("shop.test",)
    found.own.release()
    assert descriptors() == before
    assert not children()


def test_all_faults_are_told_and_where_they_are(options: Options) -> None:
    assert options.config is not None
    options.config.write_text("state: state\nsite: []\nsites: [{names: [a_b..test], root: www}]\n")
    before = descriptors()
    with pytest.raises(ConfigurationFaults) as here:
        load(options, now_uid=os.geteuid())
    with pytest.raises(ConfigurationFaults) as told:
        read(options)
    assert str(told.value) == str(here.value)
    assert f"{options.config}:3:" in str(told.value)
    assert told.value.notices == here.value.notices
    assert descriptors() == before
    assert not children()


def test_a_certificate_that_cannot_be_used_is_told_when_it_is_taken(options: Options) -> None:
    assert options.config is not None
    (options.config.parent / "k.pem").unlink()
    with pytest.raises(ConfigurationFaults, match=r"k\.pem"):
        read(options)
    own = OwnCertificates()
    found = config_process.OwnFiles((), "k.pem: it is empty", ["c.pem: soon"])
    with pytest.raises(CertificateUnusable, match=r"k\.pem: it is empty"):
        own.take(found)


def test_sites_that_are_as_they_were_are_those_in_force(options: Options) -> None:
    assert options.config is not None
    present = read(options)
    with options.config.open("a") as file:
        file.write("  - {names: [new.test], root: www}\n")
    found = config_process.read(options, os.geteuid(), {}, present.config)
    assert found.config == load(options, now_uid=os.geteuid())
    assert [
        one is other for one, other in zip(present.config.sites, found.config.sites, strict=False)
    ] == [True, True]
    present.own.release()
    found.own.release()


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (lambda: 5, 5),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), 128 + signal.SIGKILL),
        (lambda: pytest.exit("no more"), 1),
    ],
    ids=["a status", "a signal", "an exception"],
)
def test_an_end_without_a_word_is_told_with_its_status(end: Callable[[], int], status: int) -> None:
    before = descriptors()
    with pytest.raises(ReadingEnded) as ended:
        ConfigProcess.start(lambda _tell: end(), os.geteuid(), {}).result()
    assert ended.value.status == status
    assert descriptors() == before
    assert not children()


@pytest.mark.parametrize("what", [os.system, eval, getattr, signal.SIGTERM], ids=repr)
def test_nothing_is_taken_that_is_no_part_of_a_configuration(what: object) -> None:
    with pytest.raises(pickle.UnpicklingError, match="no part of a configuration"):
        config_process.understood(pickle.dumps(what))


def test_a_filter_is_tried_where_many_descriptors_are_open(options: Options, folder: Path) -> None:
    """As in a server of many sites, which reads its configuration again."""
    (folder / "plain.py").write_text(
        "class Plain:\n    def request(self, exchange):\n        pass\n"
    )
    (folder / "config.yaml").write_text(
        "state: state\nsites: [{names: [a.test], root: www, use: [plain:Plain]}]\n"
    )
    with contextlib.ExitStack() as open_files:
        while open_files.enter_context(open(os.devnull)).fileno() < 1024:
            pass
        found = read(options)
    assert found.config.sites[0].rules.use


def test_code_of_users_has_no_descriptor_of_ours(options: Options, folder: Path) -> None:
    """A filter that is tried runs beside the process which tells a server what to serve."""
    (folder / "nosy.py").write_text(
        "import os\n"
        "def seen(fd):\n"
        "    try:\n"
        "        return os.readlink(f'/proc/self/fd/{fd}').partition(':')[0]\n"
        "    except OSError:\n"
        "        return ''\n"
        "class Nosy:\n"
        "    def __init__(self):\n"
        "        found = [int(one) for one in os.listdir('/proc/self/fd')]\n"
        "        raise ValueError(sorted(filter(None, map(seen, [fd for fd in found if fd > 2]))))\n"
    )
    (folder / "config.yaml").write_text(
        "state: state\nsites: [{names: [a.test], root: www, use: [nosy:Nosy]}]\n"
    )
    with pytest.raises(ConfigurationFaults, match="ValueError") as told:
        read(options)
    assert "['/memfd', 'pipe']" in str(told.value)  # where it prints to, and says so
    assert "socket" not in str(told.value)
