"""Keys that need, exclude or contradict each other."""

from __future__ import annotations

import pytest

from proxy.config.checks.consistency import internal


def site(rest: str = "root: x", names: str = "a.test") -> str:
    return f"sites: [{{names: [{names}], {rest}}}]\n"


def backend(url: str, rest: str = "") -> str:
    return site(f"backend: '{url}'{rest}")


def routes(*paths: str) -> str:
    listed = ", ".join(f"{{path: '{path}', root: x}}" for path in paths)
    return site(f"routes: [{listed}]")


MANY = ", ".join(f"a{n}.example.org" for n in range(101))

FAULTS = [
    ("", "there is no site"),
    ("sites: []", "there is no site"),
    # What answers a site
    (site("root: x, backend: 'http://x:1'"), "root and backend exclude each other"),
    (site("root: x, redirect: /x"), "root and redirect exclude each other"),
    (site("root: x, routes: [{path: /, root: y}]"), "root and routes exclude each other"),
    (site("routes: [{path: /}]"), "routes[0]: this route has no answer"),
    (site("root: x, balance: hash"), "balance: this key means nothing without backend"),
    (site("redirect: /x, pool_idle: 1s"), "pool_idle: this key means nothing without backend"),
    (site("root: x, queue: 10"), "queue: this key means nothing without backend"),
    (site("root: x, status: 301"), "status: this key belongs to a redirect"),
    (backend("http://x:1", ", hash_by: path"), "this key belongs to balance: hash"),
    (site("backend: []"), "the list of backends is empty"),
    (site("backend: ['http://x:1', 'http://X:1/']"), "backend[1]: \"http://X:1/\" stands here twice"),
    (backend("http://x:1", ", backend_tls: {insecure: true}"), "no backend here is asked over https"),
    (backend("https://x:1", ", backend_tls: {insecure: true, ca_file: y}"), "keep one of the two"),
    # Routes
    (routes("/a", "/%61"), 'routes[1].path: "/%61" takes the same requests as the route at c.yaml:1:'),
    (routes("/a/*", "/a/*"), "takes the same requests"),
    (site("routes: [{path: /a, redirect: '/b/{rest}'}]"), "what an asterisk takes"),
    # Names and certificates
    (site(names="a.test, A.test."), "names[1]: \"a.test\" is a name twice, first at c.yaml:1:"),
    ("sites: [{names: a.test, root: x}, {names: a.test, root: x}]", "sites[1].names: \"a.test\" is a name twice"),
    (site(names=""), "the list of names is empty"),
    (site(names="'*.example.org'"), "over the DNS only (add acme.dns"),
    # DNS-01
    ("acme: {challenges: dns-01}\n" + site(), "acme.challenges: dns-01 needs somebody to set its records"),
    ("acme: {dns: {}}\n" + site(), "nothing here says how records get into the DNS"),
    ("acme: {dns: {server: 192.0.2.1, hook: /x}}\n" + site(), "server and hook exclude each other"),
    ("acme: {dns: {hook: /x, ttl: 5m}}\n" + site(), "ttl: this key belongs to server"),
    ("acme: {dns: {server: 192.0.2.1, hook_timeout: 5s}}\n" + site(), "hook_timeout: this key belongs to hook"),
    ("acme: {dns: [{hook: /x}, {hook: /y}]}\n" + site(), "acme.dns[1]: for every zone, as the entry at c.yaml:1:"),
    ("acme: {dns: [{hook: /x, zone: A.test.}, {hook: /y, zone: a.test}]}\n" + site(), "the same zone as at c.yaml:1:"),
    (site(names="a.test, example.org"), "no public CA can certify \"a.test\", which shares a site with example.org"),
    (site(names=MANY), "101 names, and a certificate holds 100"),
    ("acme: {directory: 'https://ca.internal/dir'}\n" + site(names="'*.internal'"), "over the DNS only"),
    ("sites: [{names: a.test, root: x, default: true}, {names: b.test, root: x, default: true}]", "a second default site"),
    # Names on demand
    (site("root: x, on_demand: {}"), "on_demand: nothing says which names may be had"),
    (site("root: x, on_demand: {dns: false, wait: 5s}"), "nothing says which names may be had"),
    (site("root: x, on_demand: {patterns: '*.com'}"), "patterns: \"*.com\" takes what anybody has registered"),
    (site("root: x, on_demand: {patterns: ['*.x.org', '*.co.uk']}"), "patterns[1]: \"*.co.uk\" takes"),
    (site("root: x, on_demand: {patterns: '*'}"), "patterns: \"*\""),
    (site("root: x, on_demand: {patterns: 192.0.2.1}"), "is not a domain name"),
    (site("root: x, on_demand: {ask: 'http://127.0.0.1:5000', addresses: 192.0.2.1}"), "addresses: this key means nothing without dns: true"),
    (site("root: x, on_demand: {ask: 'ftp://127.0.0.1'}"), "is not an http or https URL"),
    (site("root: x, on_demand: {ask: 'http://127.0.0.1/#x'}"), "has a fragment"),
    (site("root: x, on_demand: {ask: 'http://u:p@127.0.0.1/'}"), "holds a user name"),
    (site("root: x, on_demand: {dns: true, addresses: shop.example}"), "is not an IP address"),
    (site("root: x, on_demand: {dns: true, wait: 10m}"), "wait: 10m is out of bounds"),
    (site("root: x, on_demand: {dns: true, most: 0}"), "most: \"0\" is out of bounds"),
    (site("root: x, on_demand: {dns: true, patern: x.org}"), "did you mean patterns"),
    (site("root: x, on_demand: {dns: true}, tls: {client_auth: {ca_file: y}}"), "knows its names beforehand"),
    # Alerts
    ("alerts: {repeat: 1h}\n" + site(), "alerts: nobody is told"),
    ("alerts: {command: mail}\n" + site(), 'alerts.command: "mail" is not the whole path'),
    ("alerts: {email: {to: a@b, sender: c@d, smtp: 'm:25', user: x}}\n" + site(), "alerts.email.user: user and password_file need each other"),
    ("alerts: {email: {to: a@b, sender: c@d, smtp: 'm:25', user: x, password_file: y, tls: off}}\n" + site(), "alerts.email.tls: the password would be sent in the clear"),
    # The loop to ourselves
    (backend("http://127.0.0.1:80"), "is this proxy itself"),
    (backend("http://localhost"), "is this proxy itself"),
    (backend("https://[::1]"), "is this proxy itself"),
    (backend("http://0.0.0.0:80"), "is this proxy itself"),
    ("listen: {http: '192.0.2.1:8000'}\n" + backend("http://192.0.2.1:8000"), "is this proxy itself"),
    (site("routes: [{path: /*, backend: 'http://127.0.0.1'}]"), "routes[0].backend"),
    # Sections
    ("limits: {connections: 100}\n" + site(), "limits.connections: connections_per_address is larger"),
    ("limits: {target_size: 64KiB}\n" + site(), "limits.target_size: target_size is larger"),
    ("listen: {https: []}\n" + site(), "there is no address for HTTPS"),
    ("listen: {http: []}\nacme: {challenges: http-01}\n" + site(names="example.org"), "comes over HTTP"),
    ("acme: {challenges: []}\n" + site(), "the list of challenges is empty"),
    ("listen: {http: ':443'}\n" + site(), "\":443\" is already taken by :443|:443 is already taken"),
    ("listen: {http: ['127.0.0.1:80', ':80']}\n" + site(), "already taken"),
    ("listen: {http: ['127.0.0.1:80', '0.0.0.0:80']}\n" + site(), "already taken"),
    ("listen: {http: ['[::1]:80', '[::]:80']}\n" + site(), "already taken"),
    ("admin: {listen: ':2020'}\n" + site(), "open to every network"),
    ("admin: {listen: '0.0.0.0:2020'}\n" + site(), "give it basic_auth, forward_auth or client_auth"),
    ("admin: {listen: '127.0.0.1:443'}\n" + site(), "admin.listen: 127.0.0.1:443 is already taken"),
    ("acme: {fallback: {directory: internal}}\n" + site(), "is no substitute"),
    ("acme: {fallback: {directory: letsencrypt}}\n" + site(), "already asked before"),
    ("acme: {fallback: [{directory: 'https://a.example/'}, {directory: 'https://a.example/'}]}\n" + site(), "fallback[1].directory"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), FAULTS, ids=[said for _, said in FAULTS])
def test_a_contradiction_is_told(told, text, said):
    lines = told(text)
    assert len(lines) == 1, lines
    assert any(part in lines[0] for part in said.split("|"))
    assert lines[0].startswith("c.yaml:")


SOUND = [
    site(),
    site("redirect: 'https://b.test{path}', status: 301"),
    site("redirect: '/x/{rest}'"),  # a site without routes takes everything
    site("routes: [{path: /a/*, redirect: '/b/{rest}', status: 302}, {path: /*, root: x}]"),
    "sites: [{names: a.test}]",  # known, and has nothing
    "sites_dir: /srv/sites",
    routes("/a", "/a/", "/a/*", "/A", "/*", "/"),
    site("root: x, on_demand: {patterns: [shop.example.net, '*.github.io', '*.test']}"),
    site("root: x, on_demand: {ask: 'https://app.internal/may?x=1', dns: true, addresses: [192.0.2.1, '::1']}"),
    site("root: x, on_demand: {dns: true, wait: 2m, forget: 1h}"),
    site("root: x, default: true, on_demand: {dns: true}, certificate: {chain: c, key: k}"),
    site(names="localhost, 127.0.0.1, '::1', '*.localhost'"),
    site(names="example.org, 8.8.8.8"),
    "acme: {directory: internal}\n" + site(names="'*.example.org', a.test, example.org"),
    "acme: {directory: 'https://ca.internal/dir'}\n" + site(names="a.internal, example.org"),
    site("root: x, certificate: {chain: c, key: k}", names="'*.example.org', a.test, example.org"),
    "sites: [{names: example.org, root: x}, {names: '*.example.org', root: x, certificate: {chain: c, key: k}}]",
    backend("http://127.0.0.1:8080"),
    backend("http://10.0.0.1:80"),
    backend("unix:/run/x.sock"),
    "listen: {http: '192.0.2.1:80', https: '192.0.2.1:443'}\n" + backend("http://127.0.0.1:80"),
    site("backend: ['http://x:1', 'https://x:1']"),
    backend("https://x:1", ", backend_tls: {insecure: true}"),
    "listen: {http: []}\n" + site(names="example.org"),  # tls-alpn-01 is left
    "listen: {http: []}\nacme: {challenges: http-01}\n" + site(),  # the built-in CA asks for no proof
    "listen: {http: []}\n" + site("root: x, certificate: {chain: c, key: k}", "example.org"),
    "listen: {http: ['127.0.0.1:80', '[::1]:80', '127.0.0.2:80']}\n" + site(),
    "listen: {http: ['0.0.0.0:80', '[::]:80']}\n" + site(),
    "listen: {http: ':0', https: ':0'}\n" + site(),
    "admin: {listen: '0.0.0.0:2020', basic_auth: {users_file: x}}\n" + site(),
    "admin: {listen: '[::1]:2020'}\n" + site(),
    "admin: {listen: ':2020', names: [admin.test], client_auth: {ca_file: x}}\n" + site(),
    "limits: {connections: 100, connections_per_address: 100}\n" + site(),
    "acme: {dns: {server: 192.0.2.1}}\n" + site(names="'*.example.org', example.org"),
    "acme: {challenges: dns-persist-01}\n" + site(names="'*.example.org'"),
    "listen: {http: []}\nacme: {challenges: dns-01, dns: {hook: /x}}\n" + site(names="example.org"),
    "acme: {dns: [{hook: /x}, {server: '[::1]:5353', zone: a.test, ttl: 5m}]}\n" + site(),
    "acme: {fallback: [{directory: letsencrypt-staging}, {directory: 'https://a.example/'}]}\n" + site(),
]  # fmt: skip


@pytest.mark.parametrize("text", SOUND)
def test_what_fits_together_is_taken(sections, text):
    sections(text)


def test_what_is_broken_anyway_gets_no_second_complaint(told):
    (line,) = told("limits: {connections: few, connections_per_address: 20000}\n" + site())
    assert "few" in line
    (line,) = told("acme: {directory: letsencrpt}\n" + site(names="'*.example.org'"))
    assert "letsencrpt" in line
    (line,) = told("listen: {http: [':x']}\n" + backend("http://127.0.0.1:80"))
    assert "not a port" in line
    (line,) = told("sites: nothing")
    assert "a list belongs here" in line


@pytest.mark.parametrize(
    ("directory", "names", "by_built_in_ca"),
    [
        ("letsencrypt", "a.test", True),
        ("letsencrypt", "example.org", False),
        ("letsencrypt-staging", "10.0.0.1, localhost", True),
        ("internal", "example.org", True),
        ("'https://ca.internal/dir'", "a.test", False),  # that CA may certify what it likes
    ],
)
def test_which_ca_certifies_a_site(sections, directory, names, by_built_in_ca):
    parsed = sections(f"acme: {{directory: {directory}}}\n" + site(names=names))
    assert internal(parsed.sites[0][1], parsed.document.acme) is by_built_in_ca
