"""The command line, a file and a directory of sites become one configuration, or all their faults."""

from __future__ import annotations

import contextlib
import os
import pwd
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.config.load import ConfigurationFaults, Options, load, state_directory
from proxy.config.model import (
    Address,
    Config,
    FilesAction,
    ProxyAction,
    RedirectAction,
    RefuseAction,
)
from proxy.config.sources import flags

ROOT, SOMEBODY = 0, 12345
SITE = "sites: [{names: a.test, root: www}]\n"


@pytest.fixture
def here(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a document root in it, and nothing else on the machine."""
    (open_folder / "www").mkdir()
    monkeypatch.chdir(open_folder)
    monkeypatch.setattr(flags, "DEFAULT_CONFIG", open_folder / "default.yaml")
    monkeypatch.setenv("XDG_STATE_HOME", str(open_folder / "xdg"))
    return open_folder


def load_text(here: Path, text: str | bytes, now_uid: int = SOMEBODY, **options: object) -> Config:
    data = text if isinstance(text, bytes) else text.encode()
    (here / "c.yaml").write_bytes(data)
    return load(Options(config=Path("c.yaml"), **options), now_uid=now_uid)


def faults(options: Options, now_uid: int = SOMEBODY) -> list[str]:
    with pytest.raises(ConfigurationFaults) as told:
        load(options, now_uid=now_uid)
    return str(told.value).splitlines()


def faults_of(here: Path, text: str | bytes, **options: object) -> list[str]:
    with pytest.raises(ConfigurationFaults) as told:
        load_text(here, text, **options)
    return str(told.value).splitlines()


# A site from the command line


def test_flags_alone_make_a_configuration(here):
    config = load(
        Options(
            domain=("example.org,www.example.org", "example.net"),
            root=Path("www"),
            email="ops@example.org",
            acme_directory="letsencrypt-staging",
            http_port=8080,
            https_port=8443,
            bind=("127.0.0.1", "::1"),
            workers="3",
            log_format="json",
            log_level="debug",
            sandbox="require",
            fast_lane=False,
            uvloop=False,
        ),
        now_uid=SOMEBODY,
    )
    (site,) = config.sites
    assert site.names == ("example.org", "www.example.org", "example.net")
    assert site.routes[0].action == FilesAction(here / "www")
    assert config.listen.http == (Address("127.0.0.1", 8080), Address("::1", 8080))
    assert config.listen.https == (Address("127.0.0.1", 8443), Address("::1", 8443))
    assert config.acme.email == "ops@example.org"
    assert config.acme.directory == "https://acme-staging-v02.api.letsencrypt.org/directory"
    assert (config.workers, config.sandbox) == (3, "require")
    assert (config.log.format, config.log.level) == ("json", "debug")
    assert (config.fast_lane, config.uvloop, config.source) == (False, False, None)


def test_backends_of_every_kind(here):
    urls = ("http://127.0.0.1:3000", "https://app.internal", "unix:/run/app.sock")
    config = load(Options(domain=("a.test",), backend=urls), now_uid=SOMEBODY)
    action = config.sites[0].routes[0].action
    assert isinstance(action, ProxyAction)
    assert [(one.scheme, one.host, one.port, one.path) for one in action.backends] == [
        ("http", "127.0.0.1", 3000, ""),
        ("https", "app.internal", 443, ""),
        ("unix", "", 0, "/run/app.sock"),
    ]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (Options(root=Path("www")), "--root: there is no name to serve this under (add --domain"),
        (Options(backend=("http://x:1",)), "--backend: there is no name to serve this under"),
        (Options(domain=("a.test",)), "--domain: there is nothing to serve under this name"),
        (Options(domain=("a..test",), root=Path("www")), '--domain: "a..test" is not a domain name'),
        (Options(domain=("example,org",), root=Path("www")), 'without a dot (write example.org if'),
        (Options(domain=("www.example,org",), root=Path("www")), "(write www.example.org if a dot is"),
        (Options(domain=("a.test,",), root=Path("www")), "--domain: there is no value"),
        (Options(domain=("a.test",), root=Path("x")), "--root: "),
        (Options(domain=("a.test",), backend=("x:1",)), '--backend: "x:1" does not say how'),
        (Options(domain=("a.test",), root=Path("www"), backend=("http://x:1",)), "exclude each other"),
        (Options(domain=("a.test",), root=Path("www"), workers="0"), '--workers: "0" is not a number'),
        (Options(domain=("a.test",), root=Path("www"), bind=("localhost",)), '--bind: "localhost" is'),
        (Options(domain=("a.test",), root=Path("www"), email="x"), '--email: "x" is not an e-mail'),
        (Options(domain=("a.test",), root=Path("www"), sandbox="on"), "--sandbox: "),
        (Options(domain=("a.test",), root=Path("www"), user="root"), '--user: "root" is root'),
        (Options(domain=("a.test",), root=Path("www"), group="0"), "--group: 0 is root"),
        (Options(domain=("a.test",), root=Path("www"), acme_ca=Path("x")), "--acme-ca: "),
        (Options(domain=("a.test",), root=Path("www"), state=Path("www")), "--state: the state directory"),
        (Options(domain=("a.test",), root=Path("www"), http_port=80, https_port=80), "--https-port: :80 is"),
        (Options(sites=Path("nowhere")), "--sites: "),
        (Options(config=Path("nowhere.yaml")), "--config: nowhere.yaml does not exist"),
        (Options(), "--config: no site is given, and "),
    ],
)  # fmt: skip
def test_a_slip_on_the_command_line_is_told_by_its_flag(here, options, line):
    lines = faults(options)
    assert len(lines) == 1, lines
    assert line in lines[0]


# Flags over a file


def test_a_flag_replaces_its_key_and_a_domain_stands_beside_the_files_sites(here):
    text = "workers: 2\nacme: {email: a@a.test, key_type: rsa-2048}\n" + SITE
    config = load_text(here, text, workers="4", email="b@b.test", domain=("b.test",), root=Path("www"))  # fmt: skip
    assert config.workers == 4
    assert (config.acme.email, config.acme.key_types) == ("b@b.test", ("rsa-2048",))
    assert [site.names for site in config.sites] == [("a.test",), ("b.test",)]
    assert config.source == here / "c.yaml"


def test_a_flag_mends_a_fault_of_the_file_in_its_own_key(here):
    assert load_text(here, "workers: many\n" + SITE, workers="1").workers == 1


def test_a_section_that_is_none_is_told_and_not_replaced(here):
    (line,) = faults_of(here, "acme: letsencrypt\n" + SITE, email="a@a.test")
    assert line.startswith("c.yaml:1:7: acme: a mapping of keys belongs here")


@pytest.mark.parametrize(
    ("file", "options", "http", "https"),
    [
        ("", {"https_port": 8443}, [":80"], [":8443"]),
        ("", {"bind": ("127.0.0.1",)}, ["127.0.0.1:80"], ["127.0.0.1:443"]),
        ("", {"bind": ("*",)}, [":80"], [":443"]),
        ("{http: ['127.0.0.1:81', '[::1]:81']}", {"http_port": 80}, ["127.0.0.1:80", "[::1]:80"], [":443"]),
        ("{https: ['127.0.0.1:1', '127.0.0.1:2']}", {"https_port": 3}, [":80"], ["127.0.0.1:3"]),
        ("{https: [':1', ':2']}", {"bind": ("::1",)}, ["[::1]:80"], ["[::1]:1", "[::1]:2"]),
        ("{http: ':0', https: ':0'}", {}, [":0"], [":0"]),
    ],
)  # fmt: skip
def test_ports_and_addresses_of_flags_replace_those_of_the_file(here, file, options, http, https):
    config = load_text(here, f"listen: {file}\n{SITE}", **options)
    assert [flags.spell_address(address) for address in config.listen.http] == http
    assert [flags.spell_address(address) for address in config.listen.https] == https


# The file


def test_paths_in_the_file_start_where_it_lies_and_those_of_flags_where_you_are(here, monkeypatch):
    (here / "c.yaml").write_text("state: keys\nlog: {access: access.log}\n" + SITE)
    (here / "elsewhere" / "www").mkdir(parents=True)
    monkeypatch.chdir(here / "elsewhere")
    options = Options(config=Path("../c.yaml"), domain=("b.test",), root=Path("www"))
    config = load(options, now_uid=SOMEBODY)
    one, other = (site.routes[0].action for site in config.sites)
    assert isinstance(one, FilesAction)
    assert isinstance(other, FilesAction)
    assert os.path.samefile(one.root, here / "www")
    assert os.path.samefile(other.root, here / "elsewhere/www")
    assert (config.state / "x").resolve() == here / "keys/x"
    assert Path(config.log.access).is_absolute()


def test_without_a_site_on_the_command_line_the_default_file_is_read(here):
    (here / "default.yaml").write_text(SITE)
    assert load(Options(workers="1"), now_uid=SOMEBODY).source == here / "default.yaml"
    assert load(Options(domain=("b.test",), root=Path("www")), now_uid=SOMEBODY).source is None


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\xff\xfe", "is not UTF-8 in line 1 (save the file as UTF-8)"),
        (b"a: b\nc: \xe9\n", "is not UTF-8 in line 2"),
        (b"sites: [", "close the bracket"),
        (b"[]", "the file is not a mapping"),
        (b"a: \0", "control character"),
        (b"# " + b"x" * (64 << 20), "larger than 64 MiB"),
    ],
)
def test_a_file_that_cannot_be_understood_is_one_fault(here, data, said):
    (line,) = faults_of(here, data)
    assert said in line
    assert line.isprintable()


def test_a_byte_order_mark_is_read_over(here):
    assert load_text(here, b"\xef\xbb\xbf" + SITE.encode()).sites


def test_a_directory_or_a_name_that_is_none_is_no_file(here):
    assert "Is a directory" in faults(Options(config=Path("www")))[0]
    (line,) = faults(Options(config=Path("a\0b")))
    assert "null byte" in line
    assert line.isprintable()


def test_every_fault_of_file_flags_directory_and_disk_is_told_at_once(here):
    (here / "sites").mkdir()
    lines = faults_of(
        here,
        "wokers: 4\nlimits: {header_timeout: 10 parsecs}\nuser: root\nsites_dir: sites\n"
        "sites:\n  - {names: [exa mple.org], root: www}\n  - {names: a.test, root: nowhere}\n",
        bind=("localhost",),
        log_level="loud",
    )
    starts = [
        "--bind: ",
        "--log-level: ",
        "c.yaml:1:1: wokers: ",
        "c.yaml:2:26: limits.header_timeout: ",
        "c.yaml:3:7: user: ",
        "c.yaml:6:14: sites[0].names[0]: ",
        "c.yaml:7:27: sites[1].root: ",
    ]
    assert len(lines) == len(starts), lines
    for start in starts:
        assert any(line.startswith(start) for line in lines), start


def test_an_entry_that_is_no_site_is_left_out_and_told(here):
    for name in ("b.test", "not_a_domain", "c.test"):
        (here / "sites" / name).mkdir(parents=True)
    (here / "sites" / "lost.test").symlink_to("nowhere.test")
    (here / "sites" / "odd.test").symlink_to("http://127.0.0.1:port")
    config = load(Options(sites=Path("sites")), now_uid=SOMEBODY)
    assert [site.names[0] for site in config.sites] == ["b.test", "c.test"]
    notices = "\n".join(config.notices)
    for name, words in (
        ("not_a_domain", "is one word and not a domain"),
        ("lost.test", "there is no"),
        ("odd.test", "is not a URL"),
    ):
        assert f"sites/{name}: left out: " in notices
        assert words in notices


def test_names_without_an_answer_are_known_and_have_nothing(here):
    config = load_text(here, "sites: [{names: a.test}]")
    assert config.sites[0].routes[0].action == RefuseAction()


# Treehouse mode


def test_a_directory_of_sites_beside_those_of_the_file(here):
    (here / "sites" / "b.test").mkdir(parents=True)
    (here / "sites" / "www.b.test").symlink_to("b.test")
    (here / "sites" / "app.test").symlink_to("http://127.0.0.1:3000")
    config = load_text(here, "sites_dir: sites\n" + SITE, https_port=8443)
    actions = {site.names[0]: site.routes[0].action for site in config.sites}
    assert set(actions) == {"a.test", "app.test", "b.test", "www.b.test"}
    assert actions["b.test"] == FilesAction(here / "sites/b.test")
    assert actions["www.b.test"] == RedirectAction("https://b.test:8443{path}")
    assert isinstance(actions["app.test"], ProxyAction)
    assert config.sites_dir == here / "sites"


def test_an_empty_directory_of_sites_waits_for_the_first(here):
    (here / "sites").mkdir()
    assert load(Options(sites=Path("sites")), now_uid=SOMEBODY).sites == ()


@pytest.mark.parametrize(
    ("entry", "target", "told"),
    [
        ("not_a_domain", None, "rename it to the domain"),
        ("backup", None, "is one word and not a domain"),
        ("with blank.test", None, "rename it to the domain"),
        ("a.test", None, "first at c.yaml:2:"),  # a name of the file's
        ("B.test", None, 'b.test has the entry "b.test"'),  # the same domain as b.test
        ("lost.test", "nobody.test", 'there is no "nobody.test" here'),
        ("loop.test", "loop.test", "leads back to itself"),
        ("bad.test", "http://127.0.0.1:99999", "99999"),
        ("worse.test", "https://", "https://"),
        ("socket.test", "unix:relative.sock", "relative.sock"),
        ("file.test", "../c.yaml", "is not a directory"),
    ],
)
def test_each_entry_that_is_no_site_is_left_out_and_told(here, entry, target, told):
    (here / "sites" / "b.test").mkdir(parents=True)
    (here / "sites" / "app.test").symlink_to("http://127.0.0.1:3000")
    if target is None:
        (here / "sites" / entry).mkdir()
    else:
        (here / "sites" / entry).symlink_to(target)
    config = load_text(here, "sites_dir: sites\n" + SITE)
    assert {site.names[0] for site in config.sites} == {"a.test", "b.test", "app.test"}
    (line,) = [line for line in config.notices if "left out" in line]
    assert line.startswith(f"{here}/sites/")
    assert told in line


def test_a_state_directory_inside_a_site_is_told(here):
    (here / "sites" / "a.test").mkdir(parents=True)
    lines = faults(Options(sites=Path("sites"), state=Path("sites/a.test/keys")))
    assert "its keys would be served" in lines[0]


# Variables and further files


def test_variables_of_the_environment_are_filled_in(here, monkeypatch):
    monkeypatch.setenv("DOMAIN", "b.test")
    monkeypatch.setenv("EMPTY", "")
    text = (
        "acme: {email: '${MAIL:-a@b.test}'}\nlog: {access: '${LOG:-off}'}\nadmin: ${EMPTY}\n"
        "sites: [{names: [\"${DOMAIN}\", 'www.${DOMAIN}'], redirect: 'https://x.test/$$/$1/${EMPTY:-e}'}]"
    )
    config = load_text(here, text)
    (site,) = config.sites
    assert site.names == ("b.test", "www.b.test")
    assert site.routes[0].action.target == "https://x.test/$/$1/e"
    assert (config.acme.email, config.log.access, config.admin) == ("a@b.test", "off", None)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("${NOT_SET_HERE}", "the variable NOT_SET_HERE is not set"),
        ("${NOT_SET_HERE", "has no } behind it"),
        ("${a-b}", '"${a-b}" is not a variable'),
        ("${}", '"${}" is not a variable'),
    ],
)
def test_a_variable_that_cannot_be_filled_in_is_told_with_its_place(here, word, said):
    lines = faults_of(here, f'{SITE}acme:\n  email: "{word}"\n')
    assert len(lines) == 1
    assert "c.yaml:3:10: acme.email: " in lines[0]
    assert said in lines[0]


def test_further_sites_come_from_other_files(here):
    (here / "sites.d").mkdir()
    (here / "sites.d/b.yaml").write_text("sites: [{names: b.test, root: www}]\n")
    (here / "sites.d/a.yaml").write_text("sites:\n  - {names: [c.test, d.test], root: www}\n")
    (here / "sites.d/ignored.txt").write_text("nonsense")
    (here / "sites.d/.hidden.yaml").write_text("nonsense")
    config = load_text(here, f"{SITE}include: [sites.d/*.yaml, more.d/*.yaml]\n")
    assert [site.names[0] for site in config.sites] == ["a.test", "c.test", "b.test"]
    assert config.include == (here / "sites.d/*.yaml", here / "more.d/*.yaml")


def test_an_include_may_match_nothing_yet_even_where_there_is_no_other_site(here):
    assert load_text(here, "include: sites.d/*.yaml\n").sites == ()


def test_faults_of_included_files_stand_at_their_place(here):
    (here / "one.yaml").write_text("sites:\n  - names: [b.test]\n    rot: www\nworkers: 3\n")
    (here / "two.yaml").write_text("sites: [\n")
    lines = faults_of(here, f"{SITE}include: [one.yaml, two.yaml, three.yaml]\n")
    assert any(
        "one.yaml:3:5: sites[1].rot: this key is not known (did you mean root?)" in x for x in lines
    )
    assert any(
        "one.yaml:4:1: workers: an included file holds sites and nothing else" in x for x in lines
    )
    assert any("two.yaml:2:1: this is not YAML" in x for x in lines)
    assert any("c.yaml:2:29: include: " in x or "c.yaml:2:10: include" in x for x in lines)
    assert any("three.yaml does not exist" in x for x in lines)


# Who to become, and where the state lies


@pytest.mark.parametrize(
    ("now_uid", "options", "uid", "gid"),
    [
        (ROOT, {}, 65534, 65534),
        (ROOT, {"user": "1234"}, 1234, 65534),  # nobody of that number is known
        (ROOT, {"user": "1234", "group": "99"}, 1234, 99),
        (ROOT, {"group": "99"}, 65534, 99),
        (SOMEBODY, {}, SOMEBODY, os.getgid()),
        (SOMEBODY, {"user": str(SOMEBODY)}, SOMEBODY, os.getgid()),
    ],
)
def test_who_the_program_becomes(here, now_uid, options, uid, gid):
    config = load_text(here, SITE, now_uid, **options)
    assert (config.uid, config.gid) == (uid, gid)


def test_without_root_nobody_becomes_another(here):
    (line,) = faults_of(here, SITE, user="1234")
    assert line == (
        "--user: only root can become another user, and this is uid 12345 "
        "(start it with sudo, or leave user out)"
    )
    config = load_text(here, SITE + "user: 1234\n")  # the file may be meant for a start as root
    assert (config.uid, config.gid) == (SOMEBODY, os.getgid())
    (notice,) = config.notices
    assert "c.yaml:2:7: user: only root can become another user" in notice


def test_a_user_by_name_brings_its_group(here):
    user = pwd.getpwuid(65534)
    config = load_text(here, SITE, ROOT, user=user.pw_name)
    assert (config.uid, config.gid) == (user.pw_uid, user.pw_gid)


def test_the_default_state_is_roots_or_xdgs_or_in_the_home(here, monkeypatch):
    assert load_text(here, SITE, ROOT).state == Path("/var/lib/treehouse-proxy")
    assert load_text(here, SITE, SOMEBODY).state == here / "xdg/treehouse-proxy"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")  # the specification has it ignored
    monkeypatch.setenv("HOME", str(here))
    assert load_text(here, SITE, SOMEBODY).state == here / ".local/state/treehouse-proxy"
    monkeypatch.delenv("HOME")
    (line,) = faults_of(here, SITE, now_uid=SOMEBODY)
    assert "give one: --state DIR" in line
    monkeypatch.setenv("STATE_DIRECTORY", f"{here}/made:{here}/second")  # systemd's
    assert load_text(here, SITE, SOMEBODY).state == here / "made"
    assert load_text(here, SITE, ROOT).state == here / "made"


def test_where_the_running_server_is_found(here):
    (here / "c.yaml").write_text("state: mine\nwokers: 3\nsites: nonsense\n")
    assert state_directory(None, Path("x")) == here / "x"
    assert state_directory(Path("c.yaml"), Path("x")) == here / "x"
    assert state_directory(Path("c.yaml"), None) == here / "mine"  # faults elsewhere do not matter
    (here / "default.yaml").write_text("state: /its/own\n")
    assert state_directory(None, None) == Path("/its/own")
    with pytest.raises(ConfigurationFaults, match="does not exist"):
        state_directory(Path("nowhere.yaml"), None)


# Any text

LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=10) | st.sampled_from(
    ["a.test", "www", "http://x:1", "/*", "10s", "1KiB", "internal", "*", "{rest}", "nobody"]
)  # fmt: skip
KEYS = st.sampled_from(
    ["sites", "names", "root", "backend", "url", "listen", "http", "limits", "acme", "fallback", "directory",
     "routes", "path", "redirect", "tls", "hsts", "log", "workers", "state", "user", "sites_dir", "admin", "x", ""]
)  # fmt: skip
TREES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=20
)  # fmt: skip


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.text(max_size=200) | TREES.map(repr))
def test_no_text_is_worse_than_its_faults(here, text):
    with contextlib.suppress(ConfigurationFaults):
        assert load_text(here, text.encode(errors="surrogatepass")).sites is not None
