"""What holds for the whole server, and what ``tls`` says of a site, which is partly the same."""

from __future__ import annotations

from ..draft import USUAL_ADDRESS, Draft, Place, Site
from ..times import duration
from ..word_lists import words
from .tokens import Directive

_KEY_TYPES = {
    "p256": "ecdsa-p256",
    "p384": "ecdsa-p384",
    "rsa2048": "rsa-2048",
    "rsa4096": "rsa-4096",
}
_NEEDLESS = frozenset(
    words(
        """
    admin debug order log grace_period shutdown_delay auto_https_dry_run persist_config
    renew_interval ocsp_stapling ocsp_interval storage_clean_interval default_sni
    fallback_sni cert_lifetime storage filesystem metrics skip_install_trust cert_issuer
    default_bind
    """
    )
)


def whole_server(options: Directive, draft: Draft) -> None:
    for one in options.block or ():
        args, place = one.args, one.place
        match one.name:
            case "email" if args:
                draft.put_in(("acme", "email"), args[0], place)
            case "acme_ca" if args:
                draft.put_in(("acme", "directory"), args[0], place)
            case "acme_ca_root" if args:
                draft.put_in(("acme", "ca_file"), args[0], place)
            case "key_type" if args and args[0] in _KEY_TYPES:
                draft.put_in(("acme", "key_type"), _KEY_TYPES[args[0]], place)
            case "local_certs":
                draft.put_in(("acme", "directory"), "internal", place)
            case "http_port" | "https_port" if args:
                draft.put_in(("listen", one.name.removesuffix("_port")), [f":{args[0]}"], place)
            case "preferred_chains" if len(args) == 1:
                draft.put_in(("acme", "preferred_chain"), args[0], place)
            case "on_demand_tls":
                for each in one.block or ():
                    if each.name == "ask" and each.args:
                        draft.note(each.place, f"names on demand: ask {each.args[0]}")
            case "servers":
                _servers(one, draft)
            case "auto_https":
                draft.note(place, "port 80 leads to https always")
            case "acme_eab":
                draft.leave(place, str(one), "acme.eab: {kid, hmac_key_file}")
            case "acme_dns" | "dns":
                draft.leave(place, str(one), "acme.dns says how records are set: zone, provider")
            case name if name in _NEEDLESS:
                pass
            case _:
                draft.leave(place, str(one), "it has no counterpart here")


def _servers(one: Directive, draft: Draft) -> None:
    for each in one.block or ():
        if each.name == "trusted_proxies" and each.args[:1] == ["static"]:
            networks = ["private" if word == "private_ranges" else word for word in each.args[1:]]
            draft.put("trusted_proxies", networks, each.place)
        elif each.name == "timeouts":
            for inner in each.block or ():
                if inner.name == "read_header" and inner.args and duration(inner.args[0]):
                    draft.put_in(("limits", "header_timeout"), duration(inner.args[0]), inner.place)
                elif inner.name == "idle" and inner.args and duration(inner.args[0]):
                    path = ("limits", "keepalive_timeout")
                    draft.put_in(path, duration(inner.args[0]), inner.place)
        elif each.name == "protocols":
            if "h2" not in each.args:
                draft.put("http2", "off", each.place)
        elif each.name == "listener_wrappers" and each.inner("proxy_protocol"):
            for inner in each.inner("proxy_protocol"):
                for allow in inner.inner("allow"):
                    draft.put("proxy_protocol", allow.args, allow.place)
        elif each.name not in ("metrics", "max_header_size", "log_credentials", "strict_sni_host",
                               "keepalive_interval", "trusted_proxies_strict", "client_ip_headers",
                               "enable_full_duplex", "name", "trace"):  # fmt: skip
            draft.leave(each.place, str(each), "it has no counterpart here")


def listen(draft: Draft, kind: str, address: str, place: Place) -> None:
    entry = draft.value("listen") or {}
    there = entry.get(kind) or [USUAL_ADDRESS[kind]]
    if address not in there:
        draft.put("listen", {**entry, kind: [*there, address]}, place)


def tls(one: Directive, site: Site, draft: Draft) -> None:
    args = one.args
    if args == ["internal"]:
        draft.put_in(("acme", "directory"), "internal", one.place)
        site.note(one.place, "the built-in CA certifies every site of this server then")
    elif len(args) == 2:
        site.put("certificate", {"chain": args[0], "key": args[1]}, one.place)
    elif len(args) == 1 and "@" in args[0]:
        draft.put_in(("acme", "email"), args[0], one.place)
    for each in one.block or ():
        match each.name:
            case "protocols" if each.args[:1] == ["tls1.3"]:
                draft.put_in(("tls", "min_version"), "1.3", each.place)
            case "key_type" if each.args and each.args[0] in _KEY_TYPES:
                site.put("key_type", _KEY_TYPES[each.args[0]], each.place)
            case "client_auth":
                _client_auth(each, site)
            case "on_demand":
                if "on_demand" not in site.keys:
                    site.put("on_demand", {"dns": "true"}, each.place)
                    site.note(each.place, "names on demand must be allowed: dns, ask or patterns")
            case "protocols" | "ciphers" | "curves" | "alpn" | "propagation_timeout" | "resolvers":
                pass
            case "dns":
                site.leave(
                    each.place, str(each), "acme.dns says how records are set: zone, provider"
                )
            case "ca" if each.args:
                draft.put_in(("acme", "directory"), each.args[0], each.place)
            case "ca_root" if each.args:
                draft.put_in(("acme", "ca_file"), each.args[0], each.place)
            case _:
                site.leave(each.place, str(each), "it has no counterpart here")


def _client_auth(one: Directive, site: Site) -> None:
    mode, file = "require", ""
    for each in one.block or ():
        if each.name == "mode" and each.args:
            mode = "require" if each.args[0] == "require_and_verify" else "request"
            if each.args[0] in ("require", "request"):
                site.close(each.place, str(each), "client certificates are verified here")
                return
        elif each.name in ("trusted_ca_cert_file", "trusted_leaf_cert_file") and each.args:
            file = each.args[0]
        elif each.name == "trust_pool" and each.args[:1] == ["file"]:
            file = each.args[1] if len(each.args) > 1 else ""
            for inner in each.inner("pem_file"):
                file = inner.args[0]
    if not file:
        site.close(one.place, str(one), "whose certificates are asked for is not said by a file")
        return
    site.put_in(("tls", "client_auth"), {"ca_file": file, "mode": mode}, one.place)
