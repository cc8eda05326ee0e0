"""Mistakes that people make in their first hour, and what they are told.

Each row is a configuration with a mistake in it; the words that must be said: what is wrong, where,
and what to do; and words that must not, because they mislead or belong to some library. A new case
is a row. Files that a row needs are made by its name in `MADE`.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.config.load import ConfigurationFaults, Options, load

NEVER = (
    "Traceback",
    "_ssl.c",
    "Errno",
    "Input should",
    "base 10",
    "pydantic",
    "known here: root, backend",
)
SITE = "sites: [{names: a.test, root: www"

# What stands in the file; what must be said.
MISTAKES: list[tuple[str, tuple[str, ...]]] = [
    # What a web page, a hurry or another format leaves in YAML
    (
        "sites:\n  - names: [a.test]\n   \u00a0root: /srv\n",
        ("3:", "U+00A0, which looks like a space"),
    ),
    (
        "sites:\n  - names: [a.test]\n    root: %ROOT%\n",
        ("3:11", "no value starts with %", "quote"),
    ),
    (
        "sites: [{names: a.test, routes: [{path: /x/*, redirect: https://b.test/{rest}}]}]",
        ("1:", 'quote it: "https://b.test/{rest}"'),
    ),
    ("- names: [a.test]\n  root: www\n", ("1:1", "below a line of its own, sites:")),
    (
        SITE + ", basic_auth: {users: {a: $argon2id$v=19$m=19456,t=2,p=1$c29t$aGFzaA}}}]",
        ("not whole", "put it in quotation marks"),
    ),
    (SITE + ", tls: {min_version: '1.3'}}]", ("it belongs under tls at the top of the file",)),
    # Words of other programs, at a site
    (
        SITE.replace("root: www", "proxy_pass: http://127.0.0.1:3000") + "}]",
        ("1:25: sites[0].proxy_pass", "here that is backend: http://127.0.0.1:3000"),
    ),
    (SITE.replace("root: www", "reverse_proxy: x") + "}]", ("here that is backend",)),
    (SITE.replace("root: www", "upstream: x") + "}]", ("here that is backend",)),
    (SITE.replace("root: www", "servers: x") + "}]", ("here that is backend",)),
    (
        "sites: [{server_name: a.test, root: www}]",
        ("server_name", "here that is names: [example.org"),
    ),
    ("sites: [{domains: a.test, root: www}]", ("here that is names",)),
    ("sites: [{host: a.test, root: www}]", ("here that is names",)),
    (SITE.replace("root", "dir") + "}]", ("here that is root: /srv/www",)),
    (SITE.replace("root", "directory") + "}]", ("here that is root",)),
    (SITE.replace("root", "static") + "}]", ("here that is root",)),
    (SITE.replace("root", "file_server") + "}]", ("here that is root",)),
    (SITE + ", path: /x}]", ("here that is routes: [{path:",)),
    (SITE + ", location: /x}]", ("here that is routes",)),
    (SITE + ", handle: /x}]", ("here that is routes",)),
    (SITE + ", rules: /x}]", ("here that is routes",)),
    (SITE + ", header: {X: y}}]", ("sites[0].header",)),
    (SITE + ", auth_basic: x}]", ("sites[0].auth_basic",)),
    (SITE + ", auth: x}]", ("sites[0].auth",)),
    (SITE + ", try_files: x}]", ("sites[0].try_files",)),
    (SITE + ", gzip: on}]", ("sites[0].gzip", "compress")),
    (SITE + ", fallback: index.html}]", ("sites[0].fallback", "write /index.html")),
    (SITE + ", error_pages: {404: 404.html}}]", ("sites[0].error_pages", "write /404.html")),
    (SITE.replace("www", "$HOME/www") + "}]", ("$HOME is not filled in", "write ${HOME}")),
    (SITE + ", encode: zstd}]", ("sites[0].encode", "compress")),
    (
        SITE + ", access_control_allow_origin: '*'}]",
        ("access_control_allow_origin", "here that is cors: {origins"),
    ),
    (
        SITE + ", cors: {origins: '*', credentials: true}}]",
        ("sites[0].cors.credentials", "any page could act as its visitors", "list the origins"),
    ),
    (SITE + ", cors: {allow_origin: '*'}}]", ("here that is origins: [https://app.example.org]",)),
    (SITE + ", cors: {origins: app.test}}]", ("app.test", "write scheme and host")),
    (SITE + ", cors: {origins: 'https://a.test/x'}}]", ("is no origin",)),
    (SITE + ", cors: '*'}]", ("sites[0].cors", "origins")),
    (
        SITE + ", forward_auth: http://127.0.0.1:9091/api/verify}]",
        ("sites[0].forward_auth", "write {url:"),
    ),
    (SITE + ", forward_auth: {url: '127.0.0.1:9091'}}]", ("write http://127.0.0.1:9091",)),
    (SITE + ", forward_auth: {url: 'http://a.test/ x'}}]", ("http://a.test/ x",)),
    (
        SITE + ", forward_auth: {url: 'http://a.test/x', copy_headers: X}}]",
        ("here that is copy: [Remote-User, Remote-Groups]",),
    ),
    (
        SITE + ", forward_auth: {url: 'http://a.test/x', copy: X-Forwarded-For}}]",
        ("says who the client is",),
    ),
    (
        SITE + ", forward_auth: {url: 'http://a.test/x', tls: {insecure: true}}}]",
        ("not asked over https", "write https://"),
    ),
    (SITE + ", log: {fields: [when]}}]", ("nothing that a line could tell",)),
    (SITE + ", log: {fields: ['request:Cookie']}}]", ("a secret",)),
    (SITE + ", body_size: none}]", ("write unlimited",)),
    (SITE + ", ssl: true}]", ("HTTPS is always on",)),
    (
        SITE + ", ssl_certificate: x.pem}]",
        ("here that is certificate: {chain: FULLCHAIN.pem, key: KEY.pem}",),
    ),
    (
        SITE + ", websocket: true}]",
        ("WebSockets pass",),
    ),
    (SITE + ", force_https: true}]", ("port 80 redirects to https",)),
    (SITE + ", listen: 443}]", ("listen stands at the top of the file",)),
    (SITE + ", bind: ':443'}]", ("here that is listen:",)),
    (SITE + ", client_max_body_size: 10M}]", ("body_size",)),
    (SITE + ", tls: on}]", ("sites[0].tls", "leave it out")),
    (SITE + ", proxy_set_header: x}]", ("here that is request_headers:",)),
    # … and at the top
    ("server: {listen: 80}", ("1:1: server", "here that is sites: [{names:")),
    ("frontend: {bind: 80}", ("here that is sites",)),
    ("entryPoints: {web: {address: ':80'}}", ("here that is listen: {http:",)),
    ("http: {routers: {}}", ("here that is sites",)),
    (SITE + "}]\nemail: a@b.example", ("it belongs under acme",)),
    (SITE + "}]\nhsts: on", ("it belongs under tls",)),
    (SITE + "}]\nworker_processes: 4", ("here that is workers: auto",)),
    (SITE + "}]\naccess_log: /var/log/x", ("here that is log:",)),
    (
        "sites: [{names: a.test, backends: 'http://127.0.0.1:1'}]",
        ("here that is backend: http://127.0.0.1:3000",),
    ),
    # Backends
    (
        "sites: [{names: a.test, backend: 3000}]",
        ("1:34: sites[0].backend", "write http://127.0.0.1:3000"),
    ),
    ("sites: [{names: a.test, backend: ':3000'}]", ("write http://127.0.0.1:3000",)),
    ("sites: [{names: a.test, backend: 'http://3000'}]", ("write http://127.0.0.1:3000",)),
    ("sites: [{names: a.test, backend: 'http://::1:3000'}]", ("write http://[::1]:3000",)),
    ("sites: [{names: a.test, backend: 'localhost:3000'}]", ("write http://localhost:3000",)),
    ("sites: [{names: a.test, backend: 'unix:/run/php/php8.2-fpm.sock'}]", ("FastCGI",)),
    ("sites: [{names: a.test, backend: '/run/app.sock'}]", ("write unix:/run/app.sock",)),
    ("sites: [{names: a.test, backend: 'htp://x:1'}]", ("did you mean http?",)),
    ("sites: [{names: a.test, backend: 'https://localhost:443'}]", ("is this proxy itself",)),
    # Names
    ("sites:\n  - names: [*.example.org]\n    root: www", ('quote it: "*.example.org"', "2:14")),
    ("sites:\n  - names: *.example.org\n    root: www", ('quote it: "*.example.org"',)),
    ("sites:\n  - names:\n    - *.example.org\n    root: www", ('quote it: "*.example.org"',)),
    ("sites: [{names: 'a.test, b.test', root: www}]", ("write a list: names: [a.test, b.test]",)),
    ("sites: [{names: a.test b.test, root: www}]", ("write a list: names: [a.test, b.test]",)),
    (
        "sites: [{names: 'https://a.test/', root: www}]",
        ("is a URL and not a name", "give the host alone: a.test"),
    ),
    (
        "sites: [{names: 'a.test:8443', root: www}]",
        ("give the host alone: a.test; ports stand under listen",),
    ),
    ("sites: [{names: “a.test”, root: www}]", ("typographic quotation marks",)),
    ("sites: [{names: a_b.example.org, root: www}]", ("underscore",)),
    ("sites: [{names: '${NOT_SET_HERE}', root: www}]", ("the variable NOT_SET_HERE is not set",)),
    ("sites: [{names: ${NAME}, root: www}]", ('quote it: "${NAME}"',)),
    # YAML
    ("sites:\n\t- names: a.test", ("2:1", "tab", "indent with spaces")),
    ("sites:\n  - names: a.test\n   root: www", ("indent",)),
    ("sites:\n- names: a.test\n  root: www\n  root: www", ("stands here twice, first in line 3",)),
    ("sites:\n  names: a.test\n  root: www", ("begin each with a dash, like - names:",)),
    ("sites: {a.test: {root: www}}", ("begin each with a dash",)),
    ("acme: letsencrypt\n" + SITE + "}]", ("acme", "write {directory: letsencrypt}")),
    ("admin: 127.0.0.1:2020\n" + SITE + "}]", ('write {listen: "127.0.0.1:2020"}',)),
    ("log: debug\n" + SITE + "}]", ("write {level: debug}",)),
    (
        "sites: [{names: a.test, backend: 'http://127.0.0.1:3000', health: /healthz}]",
        ("write {path: /healthz}",),
    ),
    ("sites: [{names: a.test, root: www, rate_limit: 10/s}]", ("write {rate: ",)),
    # Values
    ("limits: {header_timeout: 10 seconds}\n" + SITE + "}]", ("is not a duration", "30s")),
    ("limits: {body_size: 10M}\n" + SITE + "}]", ("write 10MiB",)),
    ("sites: [{names: a.test, root: ~/www}]", ("write the home directory out",)),
    ("sites: [{names: a.test, root: nowhere}]", ("nowhere does not exist", "create it")),
    ("sites: [{names: a.test}]\nlisten: {https: 'https://x:443'}", ("listen.https",)),
    (
        "acme: {directory: letsencrypt-stagin}\n" + SITE + "}]",
        ("did you mean letsencrypt-staging?",),
    ),
    ("trusted_proxies: [10.0.0.1/8]\n" + SITE + "}]", ("write 10.0.0.0/8 for the network",)),
    # What else people write
    ("sites: [a.test]", ("write {names: a.test}",)),
    ("a.test:\n  root: www\n", ("a site stands under sites: - names: [a.test]",)),
    ("sites: [{name: a.test, root: www}]", ("here that is names",)),
    (
        "sites:\n  - names: [a.test]\n  root: www",
        ("3:3", "all keys of an entry as the one behind its dash"),
    ),
    ("sites:\n  - names: a.test\n    root:www\n", ("3:5", "a blank behind the colon")),
    ('sites:\n  - names: a.test\n    root: "www\n', ("3:11", "close the quotation mark")),
    (
        "sites: [{names: a.test, routes: {/api: 'http://127.0.0.1:1'}}]",
        ("begin with a dash and path: - {path: /api",),
    ),
    (
        "sites: [{names: a.test, routes: [{match: /api/*, root: www}]}]",
        ("here that is path: /api/*",),
    ),
    (
        "sites: [{names: a.test, routes: [{path: api, root: www}]}]",
        ("does not start with a slash", "write it like /api/*"),
    ),
    (
        "sites: [{names: a.test, backend: 'http://127.0.0.1:1 http://127.0.0.1:2'}]",
        ("write a list: [http://127.0.0.1:1, http://127.0.0.1:2]",),
    ),
    ("sites: [{names: a.test, backend: {host: 127.0.0.1}}]", ("write url: http://127.0.0.1:3000",)),
    (
        "sites: [{names: a.test, backend: 'https://h:1', backend_tls: insecure}]",
        ("write {insecure: true}",),
    ),
    (
        "sites: [{names: a.test, backend: $BACKEND}]",
        ("variables of the environment are written ${BACKEND}",),
    ),
    (
        "sites: [{names: $DOMAIN, root: www}]",
        ("variables of the environment are written ${DOMAIN}",),
    ),
    ("sites: [{names: '{{ domain }}', root: www}]", ("placeholder of a template",)),
    ("sites: [{names: a.test, redirect: www.a.test}]", ("write https://www.a.test{path}",)),
    (
        "sites: [{names: a.test, redirect: 'https://b.test$request_uri'}]",
        ("a variable of nginx", "{path}"),
    ),
    ("sites: [{names: a.test, redirect: 'https://b.test{uri}'}]", ("write {path}",)),
    ("listen: 443\n" + SITE + "}]", ("write {http: 443} or {https: 443}",)),
    ("listen: {https: 0.0.0.0}\n" + SITE + "}]", ("has no port", ":443")),
    ("acme: {challenges: dns}\n" + SITE + "}]", ("did you mean dns-01 or dns-persist-01?",)),
    (
        "acme: {dns: {provider: cloudflare}}\n" + SITE + "}]",
        ("for cloudflare these are missing: auth_token_file", "write credentials:"),
    ),
    ("acme: {key_type: rsa}\n" + SITE + "}]", ("did you mean rsa-2048 or rsa-4096?",)),
    ("acme: {staging: true}\n" + SITE + "}]", ("write directory: letsencrypt-staging",)),
    ("acme: {directory: staging}\n" + SITE + "}]", ("write letsencrypt-staging",)),
    ("acme: {directory: zerossl}\n" + SITE + "}]", ("https://acme.zerossl.com",)),
    ("tls: {min_version: TLSv1.2}\n" + SITE + "}]", ("did you mean 1.2?",)),
    ("tls: {hsts: true}\n" + SITE + "}]", ("{max_age: ...}",)),
    ("log: {access: true}\n" + SITE + "}]", ("log.access", "write stdout, stderr or a file")),
    ("limits: {body_size: none}\n" + SITE + "}]", ("write unlimited",)),
    ("user: www-data:www-data\n" + SITE + "}]", ("write user: www-data and group: www-data",)),
    ("admin: true\n" + SITE + "}]", ("{listen: ...}",)),
    ("admin: {listen: 2020}\n" + SITE + "}]", ("write 127.0.0.1:2020",)),
    ("sites: [{names: '*', root: www}]", ("default: true",)),
    ("sites: [{names: _, root: www}]", ("default: true",)),
    ("sites: [{names: .a.test, root: www}]", ('[a.test, "*.a.test"]',)),
    ("sites: [{names: '~^www', root: www}]", ("a pattern",)),
    (
        "sites: [{names: a.test, root: www, certificate: /etc/ssl/a.pem}]",
        ("write {chain: ..., key: ...}",),
    ),
    (
        "sites: [{names: a.test, root: www, certificate: {cert: a, key: b}}]",
        ("here that is chain",),
    ),
    ("sites: [{names: a.test, root: www, certificate: auto}]", ("leave it out",)),
    ("sites: [{names: [a.test, A.TEST], root: www}]", ("a name twice",)),
    ("", ("there is no site", "add one: sites:")),
    ("hello", ("not a mapping of keys",)),
    ("user: root\n" + SITE + "}]", ("name another user",)),
    ("sites: [{names: a.test, backend: 'http//127.0.0.1:3000'}]", ("write http://127.0.0.1:3000",)),
    ("sites: [{names: a.test, backend: 'http:/app:3000'}]", ("write http://app:3000",)),
    (
        "sites: [{names: a.test, backend: ['http://app:3000 weight=2']}]",
        ("write {url: http://app:3000, weight: 2}",),
    ),
    (
        "sites: [{names: a.test, backend: 'http://h:1', health: {url: /up}}]",
        ("here that is path: /healthz",),
    ),
    (
        "sites: [{names: a.test, backend: 'http://h:1', rate_limit: 10}]",
        ("write {rate: ...}", "10/s"),
    ),
    ("http2: yes\n" + SITE + "}]", ("write auto",)),
    ("include: www\n" + SITE + "}]", ("include: ", "is a directory", "/*.yaml")),
    (
        "sites:\n  - names: a.test\n    root: www\n- names: b.test\n  root: www\n",
        ("4:1", "the entries of a list"),
    ),
    ("sites: [{names: a.test, backend: 'grpc://h:1'}]", ("h2c://",)),
    # Files of other programs
    (
        "server {\n    listen 80;\n    server_name a.test;\n}\n",
        ("this is an nginx configuration", "write sites:"),
    ),
    ("a.test {\n    reverse_proxy localhost:3000\n}\n", ("this is a Caddyfile",)),
    ("a.test\n\nreverse_proxy :3000\n", ("this is a Caddyfile",)),
    ("[sites]\nnames = 'a.test'\n", ("this is TOML",)),
    ("names = a.test\nroot = www\n", ("KEY: VALUE",)),
    (
        "<VirtualHost *:80>\n  ServerName a.test\n</VirtualHost>\n",
        ("this is an Apache configuration",),
    ),
    (
        "frontend web\n    bind :80\nbackend app\n    server s 127.0.0.1:1\n",
        ("this is an HAProxy configuration",),
    ),
    ('{"sites": [{"names": ["a.test"], "root": "www"},]  // x\n}', ("JSON", "line 1")),
    ("-----BEGIN CERTIFICATE-----\nMII\n", ("this is a certificate or key",)),
    ("<!doctype html>\n", ("this is HTML",)),
]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(dir="/var/tmp"))
    made.chmod(0o755)
    (made / "www").mkdir()
    yield made
    shutil.rmtree(made)


def told(folder: Path, text: str) -> str:
    file = folder / "config.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationFaults) as faults:
        load(Options(config=file, state=folder / "state"), now_uid=0)
    return str(faults.value)


@pytest.mark.parametrize(
    ("text", "words"), MISTAKES, ids=lambda one: one[:50] if isinstance(one, str) else ""
)
def test_a_mistake_is_told_with_its_place_and_the_way_out(
    folder: Path, text: str, words: tuple[str, ...]
) -> None:
    said = told(folder, text)
    for word in words:
        assert word in said
    for word in NEVER:
        assert word not in said, said
    assert "config.yaml" in said
    assert len(said.splitlines()) <= 3, "one mistake has one line, or two"


# What looks like a mistake and is none.
GOOD = [
    "sites: [{names: 'a.test.', root: www}]",
    "sites: [{names: Bücher.test, root: www}]",
    "sites: [{names: a.test, backend: 'http://127.0.0.1:9000/app'}]",
    "sites: [{names: a.test, backend: 'unix:@app'}]",
    "listen: {https: 8443, http: '8080'}\nsites: [{names: a.test, root: www, default: on}]",
    '{"sites": [{"names": ["a.test"], "root": "www"}]}',
    "log: {access: /dev/stdout}\nsites: [{names: a.test, root: www}]",
    "compress: off\nsites: [{names: a.test, root: www, compress: on}]",
    (
        "headers: {set: {X-Cost: $5, X-Salt: $argon2id$v=19$m=19456, X-Home: $$HOME}}\n"
        "sites: [{names: a.test, root: www}]"
    ),
    "workers: '4'\nsites:\n- names: [a.test]\n  root: www\n",
    "sites: [{names: a.test, root: '${NOT_SET_HERE:-www}'}]",
    "\ufeffsites: [{names: a.test, root: www}]\r\n",
]


@pytest.mark.parametrize("text", GOOD)
def test_what_can_be_understood_is_taken(folder: Path, text: str) -> None:
    file = folder / "config.yaml"
    file.write_text(text)
    assert load(Options(config=file, state=folder / "state"), now_uid=0).sites
