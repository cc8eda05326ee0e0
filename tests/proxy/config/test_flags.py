"""From words to one configuration: what is right is taken, what is wrong is all told at once."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.config.flags import ConfigurationFaults, Options, load, state_directory
from proxy.config.model import Address, FilesAction, ProxyAction, RedirectAction
from proxy.config.sites_dir import signature


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that the server's user may enter, which pytest's own is not."""
    made = Path(tempfile.mkdtemp(dir="/var/tmp"))
    made.chmod(0o755)
    (made / "www").mkdir()
    monkeypatch.chdir(made)
    yield made
    shutil.rmtree(made)


def faults_of(text: str, here: Path) -> list[str]:
    (here / "c.yaml").write_text(text)
    with pytest.raises(ConfigurationFaults) as caught:
        load(Options(config=here / "c.yaml", state=here / "state"), now_uid=os.getuid())
    return str(caught.value).splitlines()


def test_flags_alone_make_a_configuration(here: Path) -> None:
    options = Options(
        domain=("example.org,www.example.org",), root=here / "www", state=here / "state",
        email="ops@example.org", http_port=8080, https_port=8443, bind=("127.0.0.1", "::1"),
    )  # fmt: skip
    config = load(options, now_uid=12345)
    (site,) = config.sites
    assert site.names == ("example.org", "www.example.org")
    assert site.routes[0].action == FilesAction(here / "www")
    assert config.listen.http == (Address("127.0.0.1", 8080), Address("::1", 8080))
    assert config.acme.email == "ops@example.org"
    assert not site.internal


def test_backends_of_every_kind(here: Path) -> None:
    backends = ("http://127.0.0.1:3000", "https://app.internal", "unix:/run/app.sock")
    config = load(
        Options(domain=("a.test",), backend=backends, state=here / "s"), now_uid=os.getuid()
    )
    action = config.sites[0].routes[0].action
    assert isinstance(action, ProxyAction)
    assert [(one.scheme, one.host, one.port, one.path) for one in action.backends] == [
        ("http", "127.0.0.1", 3000, ""),
        ("https", "app.internal", 443, ""),
        ("unix", "", 0, "/run/app.sock"),
    ]
    assert config.sites[0].internal


@pytest.mark.parametrize(
    ("name", "internal"),
    [
        ("localhost", True), ("x.localhost", True), ("x.internal", True), ("x.test", True),
        ("10.1.2.3", True), ("127.0.0.1", True), ("::1", True), ("fd00::1", True),
        ("example.org", False), ("8.8.8.8", False), ("bücher.org", False),
    ],
)  # fmt: skip
def test_which_ca_certifies_a_name(name: str, internal: bool, here: Path) -> None:
    config = load(Options(domain=(name,), root=here / "www", state=here / "s"), now_uid=1)
    assert config.sites[0].internal is internal
    assert config.sites[0].names[0].isascii()


def test_every_fault_is_told_with_its_place(here: Path) -> None:
    lines = faults_of(
        "listen: {http: [':80'], https: ['nowhere:443']}\n"
        "wokers: 4\n"
        "limits: {header_timeout: 10 parsecs, body_size: -1}\n"
        "sites:\n"
        "  - names: [exa mple.org]\n"
        "    root: /nowhere\n"
        "  - names: [b.test]\n"
        "    rot: www\n",
        here,
    )
    told = "\n".join(lines)
    for wanted in (
        "c.yaml:1:", "c.yaml:2:1: wokers: this key is not known (did you mean workers", "10 parsecs",
        "body_size", "exa mple.org", "did you mean root",
    ):  # fmt: skip
        assert wanted in told, wanted
    assert all(line.startswith(f"{here / 'c.yaml'}:") for line in lines)


MISTAKES = {
    "sites: [{names: [a.test], root: www, backend: 'http://x:1'}]": "exclude each other",
    "sites: [{names: [a.test], root: www}, {names: [a.test], root: www}]": "twice",
    "sites: [{names: [a.test], redirect: 'ftp://x'}]": "neither a path nor",
    "sites: [{names: [a.test], routes: [{path: x, root: www}]}]": "does not start with a slash",
    "sites: [{names: [a.test], root: www}]\nacme: {directory: letsencrpyt}": "letsencrypt",
    "sites: [{names: [a.test], backend: 'http://x:99999'}]": "99999",
    "sites: {names: [a.test]}": "a list belongs here",
    "sites: []": "no site",
    "a: [": "",
    "sites: [{names: [a.test], root: www}]\nsites: []": "",
    "\tx": "",
    "&a [*a]": "",
    "state: www\nsites: [{names: [a.test], root: www}]": "",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_a_fault(text: str, here: Path) -> None:
    (here / "c.yaml").write_text(text)
    with pytest.raises(ConfigurationFaults, match=MISTAKES[text] or None):
        load(Options(config=here / "c.yaml"), now_uid=os.getuid())


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.text(max_size=200),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=10)),
            lambda inner: st.one_of(
                st.lists(inner, max_size=4),
                st.dictionaries(
                    st.sampled_from(
                        ["sites", "names", "root", "backend", "listen", "http", "limits", "acme",
                         "routes", "path", "redirect", "tls", "log", "workers", "state", "x"]
                    ),
                    inner,
                    max_size=5,
                ),
            ),
            max_leaves=20,
        ).map(repr),
    )
)  # fmt: skip
def test_no_text_is_worse_than_a_fault(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_text(text, "utf-8", "surrogatepass")
    with contextlib.suppress(ConfigurationFaults):
        load(Options(config=path, state=Path("/nowhere/state")), now_uid=os.getuid())


# Treehouse mode


def test_a_directory_of_sites(here: Path) -> None:
    sites = here / "sites"
    (sites / "a.test").mkdir(parents=True)
    (sites / ".git").mkdir()
    (sites / "notes.txt").write_text("not a site")
    (sites / "www.a.test").symlink_to("a.test")
    (sites / "app.test").symlink_to("http://127.0.0.1:3000")
    (sites / "far.test").symlink_to(here / "www")
    config = load(Options(sites=sites, state=here / "state"), now_uid=os.getuid())
    actions = {site.names[0]: site.routes[0].action for site in config.sites}
    assert actions["a.test"] == FilesAction(sites / "a.test")
    assert actions["far.test"] == FilesAction(here / "www")
    assert isinstance(actions["app.test"], ProxyAction)
    assert actions["www.a.test"] == RedirectAction("https://a.test{path}")
    assert len(actions) == 4


@pytest.mark.parametrize(
    ("name", "target"),
    [("loop.test", "loop.test"), ("a.test", "nobody.test"), ("a b.test", "/"), ("x.test", "/etc/passwd")],
)  # fmt: skip
def test_a_slip_in_the_directory_is_a_fault(here: Path, name: str, target: str) -> None:
    sites = here / "sites"
    sites.mkdir()
    (sites / name).symlink_to(target)
    with pytest.raises(ConfigurationFaults, match=str(sites)):
        load(Options(sites=sites, state=here / "state"), now_uid=os.getuid())


def test_a_state_directory_inside_a_document_root_is_refused_by_inode(here: Path) -> None:
    (here / "www" / "state").mkdir()
    (here / "alias").symlink_to(here / "www" / "state")
    with pytest.raises(ConfigurationFaults, match="lies in the document root"):
        load(
            Options(domain=("a.test",), root=here / "www", state=here / "alias"),
            now_uid=os.getuid(),
        )


def test_the_signature_changes_with_the_entries(here: Path) -> None:
    sites = here / "sites"
    sites.mkdir()
    seen = [signature(sites)]
    (sites / "a.test").mkdir()
    seen.append(signature(sites))
    (sites / "b.test").symlink_to("a.test")
    seen.append(signature(sites))
    (sites / "b.test").unlink()
    (sites / "b.test").symlink_to("http://127.0.0.1:1")
    seen.append(signature(sites))
    assert len(set(seen)) == 4
    (sites / "a.test" / "index.html").write_text("x")
    assert signature(sites) == seen[-1]


def test_where_the_running_server_is(here: Path) -> None:
    (here / "c.yaml").write_text("state: mine\nbroken: [")
    assert state_directory(None, Path("x")) == here / "x"
    (here / "c.yaml").write_text("state: mine\nwokers: 3\n")
    assert state_directory(here / "c.yaml", None) == here / "mine"
