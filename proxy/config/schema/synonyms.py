"""Words of other programs, each with what it is called here. Pure: a table and a look-up.

Whoever comes from nginx, Caddy, Traefik, HAProxy or Apache writes the words of that program.
Guesses by letters mislead them (``auth`` looks like ``health``), so the meaning is looked up first.

A row holds the words that mean one thing, the key of ours that does it, how that key is written,
and what to do instead where there is no such key. Whether there is one is asked of the schema, so
that a row stays true when a key is added. Words are compared in small letters, without hyphens and
underscores: ``entryPoints``, ``entry_points`` and ``entry-points`` are one word.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from acme_client.late_dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Meaning:
    """Words that mean the same, and what does it here.

    ``key`` is the path of our key from the top of the document or, for a key of sites and routes,
    its name alone; "" where nothing of ours does it. ``example`` is how the key is written.
    ``otherwise`` is what to do where the schema has no such key.
    """

    words: str  # separated by blanks
    key: str = ""
    example: str = ""
    otherwise: str = ""


# What stands for something else at the top of a document than at a site.
_AT_THE_TOP = (
    Meaning(
        "server servers vhost vhosts virtualhost virtualhosts frontend frontends http "
        "https routers domains hosts domain host site websites services apps app "
        "upstreams server_name proxy location locations handle",
        "sites",
        "sites: [{names: [example.org], backend: http://127.0.0.1:3000}]",
    ),
)

_ANYWHERE = (
    Meaning(
        "proxy_pass reverse_proxy upstream upstreams proxy proxypass proxypassmatch "
        "forward forward_to target targets to service services server servers "
        "loadbalancer load_balancer backends app origin origins upstream_url dest "
        "destination uwsgi_pass grpc_pass scgi_pass",
        "backend",
        "backend: http://127.0.0.1:3000",
    ),
    Meaning(
        "server_name server_names host hosts hostname hostnames domain domains fqdn name "
        "server_alias aliases sni",
        "names",
        "names: [example.org, www.example.org]",
    ),
    Meaning(
        "document_root webroot web_root dir directory folder file_server static "
        "static_dir public files htdocs www alias docroot",
        "root",
        "root: /srv/www/example.org",
    ),
    Meaning(
        "location locations handle handle_path route paths rule rules matcher matchers "
        "router routers handlers url_map uri_map acl use_backend default_backend",
        "routes",
        "routes: [{path: /api/*, backend: http://127.0.0.1:3000}]",
    ),
    Meaning("path uri", "routes", "routes: [{path: /api/*, backend: http://127.0.0.1:3000}]"),
    Meaning(
        "bind port ports listeners entrypoints entrypoint listen_port http_port "
        "https_port address addresses ipv6 ip listen_addresses",
        "listen",
        'listen: {http: [":80"], https: [":443"]}',
    ),
    Meaning(
        "ssl_certificate ssl_certificate_key cert certs certfile keyfile cert_file "
        "key_file key ssl_cert ssl_key sslcertificatefile sslcertificatekeyfile tls_cert "
        "tls_key crt pem certificates certificate_key certificate_file fullchain chain "
        "private_key",
        "certificate",
        "certificate: {chain: FULLCHAIN.pem, key: KEY.pem}",
    ),
    Meaning(
        "ssl https auto_https letsencrypt lets_encrypt certresolver "
        "certificates_resolvers certbot lego sslengine autocert tls_auto",
        otherwise="leave it out: HTTPS is always on, and certificates come by themselves",
    ),
    Meaning(
        "ssl_redirect force_https force_ssl https_redirect redirect_scheme http_to_https "
        "redirect_https upgrade_insecure",
        otherwise="leave it out: port 80 redirects to https by itself",
    ),
    Meaning("email contact acme_email", "acme.email", "acme: {email: ops@example.org}"),
    Meaning(
        "ca ca_server acme_ca acme_directory acme_server directory_url",
        "acme.directory",
        "acme: {directory: letsencrypt}",
    ),
    Meaning("dns_challenge dns_provider dns01", "acme.dns", "acme: {dns: [{hook: /PROGRAM}]}"),
    Meaning(
        "ssl_protocols tls_versions min_tls tls_min_version minversion protocols ssl_min_version",
        "tls.min_version",
        'tls: {min_version: "1.2"}',
    ),
    Meaning(
        "ssl_ciphers ciphers cipher_suites ssl_prefer_server_ciphers curves ssl_dhparam dhparam",
        otherwise="leave it out: only ciphers that are safe today are offered",
    ),
    Meaning(
        "hsts strict_transport_security sts_seconds",
        "tls.hsts",
        "tls: {hsts: {max_age: 5184000}}, at the top",
    ),
    Meaning(
        "ssl_client_certificate ssl_verify_client mtls client_certificate client_ca "
        "clientauth client_cert tls_client_auth verify",
        "tls.client_auth",
        "tls: {client_auth: {ca_file: CA.pem}}, at the site",
    ),
    Meaning(
        "return redir redirects redirect_to redirectregex redirectmatch redirect_permanent",
        "redirect",
        'redirect: "https://example.org{path}"',
    ),
    Meaning(
        "maintenance maintenance_mode static_response fixed_response direct_response",
        "respond",
        'respond: {status: 503, body: "Back at noon.", retry_after: 1h}',
        "not here: let the backend answer",
    ),
    Meaning(
        "limit_except allowed_methods allow_methods method",
        "methods",
        "methods: [GET, POST], at a route",
        "not here: let the backend decide",
    ),
    Meaning(
        "rewrite_rule rewrites uri_rewrite replacepath url_rewrite rewriterule replace_path_regex",
        "rewrite",
        'rewrite: "/new/{rest}"',
        "not here: let the backend do that",
    ),
    Meaning(
        "rewrite",
        "rewrite",
        "",
        'redirect: "/new/{rest}" sends the client there; nothing else changes the path',
    ),
    Meaning(
        "strip_prefix stripprefix handle_path_strip strip_path uri_strip_prefix",
        "strip_prefix",
        "strip_prefix: true, at the route",
        "not here: let the backend do that",
    ),
    Meaning(
        "gzip encode compress compression brotli deflate zstd gzip_types gzip_static br",
        "compress",
        "compress: auto",
        "files are sent compressed where a .gz, .br or .zst lies beside them; otherwise "
        "let the backend compress",
    ),
    Meaning(
        "basic_auth basicauth auth_basic auth htpasswd users auth_basic_user_file "
        "authtype password passwords authentication auth_user_file",
        "basic_auth",
        "basic_auth: {users_file: /etc/treehouse-proxy/users}",
        "not here: let the app ask for passwords, or ask for client certificates with "
        "tls: {client_auth: {ca_file: CA.pem}}",
    ),
    Meaning(
        "forward_auth auth_request external_auth oauth oauth2 oidc sso authorize authelia "
        "ext_authz auth_url",
        "forward_auth",
        "forward_auth: {url: http://127.0.0.1:9091/api/verify}",
        "not here: put the authentication service between this server and the app",
    ),
    Meaning(
        "try_files spa single_page_app fallback fallback_resource",
        "fallback",
        "fallback: /index.html",
        "not here: a path that no file has is answered 404; an app with routes of its own "
        "needs a backend",
    ),
    Meaning(
        "index directory_index index_file index_files default_file",
        "index",
        "index: [index.html]",
        "leave it out: index.html is what a folder answers with",
    ),
    Meaning(
        "autoindex browse listing directory_listing dir_listing indexes list_directory",
        "listing",
        "listing: true",
        "not here: folders are not listed; write an index.html",
    ),
    Meaning(
        "headers header add_header response_headers custom_response_headers set_header "
        "http_headers more_set_headers",
        "headers",
        "headers: {set: {X-Frame-Options: DENY}}",
        "not here: let the backend send them (tls.hsts sends Strict-Transport-Security)",
    ),
    Meaning(
        "request_headers proxy_set_header header_up custom_request_headers requestheader "
        "set_request_headers http_request",
        "request_headers",
        "request_headers: {set: {X-Team: blue}}",
        "leave it out: Host goes on as it came, and X-Forwarded-For, -Proto, -Host are set",
    ),
    Meaning(
        "websocket websockets ws upgrade proxy_http_version connection_upgrade",
        otherwise="leave it out: WebSockets pass by themselves",
    ),
    Meaning(
        "cors access_control access_control_allow_origin allow_origin allowed_origins",
        "cors",
        "cors: {origins: [https://app.example.org]}",
        "not here: let the backend send Access-Control-Allow-Origin",
    ),
    Meaning(
        "limit_req limit_req_zone ratelimit throttle rate limits_per_second requests_per_second",
        "rate_limit",
        "rate_limit: {rate: 10/s, burst: 20}",
    ),
    Meaning(
        "limit_conn limit_conn_zone conn_limit",
        "limits.connections_per_address",
        "limits: {connections_per_address: 200}",
    ),
    Meaning(
        "client_max_body_size max_body_size request_body body_limit upload_limit "
        "limitrequestbody max_request_body_size client_body_max",
        "limits.body_size",
        "limits: {body_size: 100MiB}",
    ),
    Meaning(
        "proxy_read_timeout read_timeout response_header_timeout timeout_server "
        "proxy_timeout proxy_send_timeout timeout backend_timeout",
        "response_timeout",
        "response_timeout: 60s",
    ),
    Meaning(
        "proxy_connect_timeout dial_timeout timeout_connect",
        "connect_timeout",
        "connect_timeout: 5s",
    ),
    Meaning(
        "keepalive timeout_client keep_alive_timeout keepalive_timeout client_timeout",
        "limits.keepalive_timeout",
        "limits: {keepalive_timeout: 75s}",
    ),
    Meaning(
        "client_header_timeout read_header_timeout header_timeout timeout_http_request",
        "limits.header_timeout",
        "limits: {header_timeout: 10s}",
    ),
    Meaning("worker_processes processes threads nbthread nbproc", "workers", "workers: auto"),
    Meaning(
        "worker_connections maxconn max_clients max_conns",
        "limits.connections",
        "limits: {connections: 10000}",
    ),
    Meaning(
        "access_log accesslog error_log logs logging log_level loglevel log_format "
        "customlog errorlog",
        "log",
        "log: {level: info, access: stdout}",
    ),
    Meaning(
        "health_check healthcheck health_checks health_uri health_path healthz checks httpchk",
        "health",
        "health: {path: /healthz}",
    ),
    Meaning(
        "lb_policy lb_method policy algorithm strategy least_conn round_robin "
        "least_connections random load_balancing",
        "balance",
        "balance: least_conn",
    ),
    Meaning(
        "sticky session affinity stickiness sticky_session cookie",
        "sticky_cookie",
        "sticky_cookie: backend",
    ),
    Meaning("ip_hash hash uri_hash", "hash_by", "balance: hash, with hash_by: address"),
    Meaning(
        "allow deny ip_whitelist whitelist blacklist ipallowlist ip_allow_list "
        "allowed_ips remote_ip satisfy ip_filter source_range require_ip",
        "allow",
        "allow: [10.0.0.0/8]",
        "not here: let the firewall or the backend do that",
    ),
    Meaning(
        "error_page error_pages handle_errors error_document errordocument errors custom_errors",
        "error_pages",
        "error_pages: {404: /404.html}",
        "not here: errors have a short text of their own; those of a backend pass as they are",
    ),
    Meaning(
        "http2 http_2 h2 alpn",
        "http2",
        "http2: auto",
        "not here: clients are spoken to in HTTP/1.1",
    ),
    Meaning("http3 quic h3", "http3", "", "not here: QUIC and HTTP/3 are not spoken"),
    Meaning(
        "php fastcgi php_fastcgi fastcgi_pass cgi fastcgi_param php_fpm",
        "fastcgi",
        "fastcgi: unix:/run/php/php-fpm.sock, with root",
    ),
    Meaning(
        "proxy_cache cache caching proxy_cache_path expires",
        "cache_control",
        'cache_control: {"*.css": "max-age=3600"}',
        "not here: answers are not stored; files have ETag and Last-Modified",
    ),
    Meaning(
        "set_real_ip_from real_ip_header trusted_ips forwarded_headers remoteip "
        "trust_proxy real_ip trusted_proxy remoteipinternalproxy",
        "trusted_proxies",
        "trusted_proxies: [10.0.0.0/8], at the top",
    ),
    Meaning(
        "accept_proxy proxyprotocol send_proxy proxy_protocol_from",
        "proxy_protocol",
        "proxy_protocol: [10.0.0.0/8], at the top",
    ),
    Meaning(
        "dashboard metrics stats stats_uri prometheus api stub_status status_page",
        "admin",
        "admin: {listen: 127.0.0.1:2020}, at the top",
    ),
    Meaning("import includes conf_d includeoptional", "include", "include: sites.d/*.yaml"),
    Meaning("on_demand_tls ondemand", "on_demand", "on_demand: {patterns: [*.example.org]}"),
    Meaning(
        "default_server default_host catch_all catchall default_site",
        "default",
        "default: true, at a site",
    ),
    Meaning(
        "storage data_dir datadir state_dir acme_storage data",
        "state",
        "state: /var/lib/treehouse-proxy",
    ),
    Meaning("run_as uid username", "user", "user: nobody"),
    Meaning("gid run_as_group", "group", "group: nogroup"),
    Meaning(
        "tls_insecure_skip_verify insecure_skip_verify proxy_ssl_verify verify_ssl "
        "insecure sslproxyverify tls_skip_verify",
        "backend_tls.insecure",
        "backend_tls: {insecure: true}",
    ),
    Meaning(
        "proxy_ssl_name tls_server_name sni_host proxy_ssl_server_name",
        "backend_tls.server_name",
        "backend_tls: {server_name: app.internal}",
    ),
    Meaning(
        "proxy_ssl_trusted_certificate root_cas tls_trusted_ca_certs sslproxycacertificatefile",
        "backend_tls.ca_file",
        "backend_tls: {ca_file: CA.pem}",
    ),
    Meaning(
        "passhostheader pass_host_header proxypreservehost host_header",
        "preserve_host",
        "preserve_host: true (which is how it is)",
    ),
    Meaning(
        "daemon pid pidfile pid_file background chroot",
        otherwise="leave it out: the server stays in the foreground, where systemd wants it",
    ),
    Meaning(
        "middleware middlewares plugins plugin lua modules load_module snippets handler "
        "filter filters",
        "use",
        'use: ["package.module:Filter"]',
        "not here: let the backend do that",
    ),
    Meaning(
        "respond static_response direct_response reply body",
        "respond",
        "respond: {status: 200, body: text}",
        "not here: let the backend do that",
    ),
    Meaning("websites vhosts virtual_hosts", "sites", "sites: [{names: [example.org]}]"),
    Meaning(
        "version env environment variables vars set map geo if tcp udp stream mode global "
        "defaults providers events experimental admin_api",
        otherwise="not here: leave it out",
    ),
)


def _squashed(word: str) -> str:
    return re.sub(r"[\W_]", "", word).lower()


def _table(rows: Iterable[Meaning]) -> dict[str, Meaning]:
    found: dict[str, Meaning] = {}
    for meaning in rows:
        for word in meaning.words.split():
            found.setdefault(_squashed(word), meaning)
    return found


_TOP, _ALL = _table(_AT_THE_TOP), _table(_ANYWHERE)
WORDS = frozenset(_TOP) | frozenset(_ALL)  # in the spelling that is compared


def meaning(word: str, top: bool, known: Callable[[str], bool]) -> str | None:
    """Say what to do about a word that is no key; None for a word that no other program has either.

    ``top``: whether it stands at the top of the document. ``known`` tells whether the schema has a
    key of this path.
    """
    if not re.fullmatch(r"[A-Za-z][\w .:-]*", word):
        return None
    squashed = _squashed(word)
    found = (_TOP.get(squashed) if top else None) or _ALL.get(squashed)
    if found is None:
        return None
    if found.key and found.example and known(found.key):
        return f"here that is {found.example}"
    return found.otherwise or None
