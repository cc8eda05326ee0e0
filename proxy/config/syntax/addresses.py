"""Addresses as people write them: where to listen, which backends, which networks to trust.

Host names are taken for backends only, and never resolved here: a name that does not resolve today
may do so when the backend is asked for.
"""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_interface, ip_network
from urllib.parse import SplitResult, urlsplit

from ..values import Address, Backend
from .faults import Wrong, nearest, shown

_LISTEN = "write it like :443, 192.0.2.1:443 or [2001:db8::1]:443"
_BACKEND = "write it like http://127.0.0.1:3000, https://app.internal:8443 or unix:/run/app.sock"
_FASTCGI = "write it like unix:/run/php/php-fpm.sock or tcp://127.0.0.1:9000"
_SCHEMES = ("http", "https", "h2c", "unix")
_OTHER_PROTOCOLS = {
    "fastcgi": "FastCGI has a key of its own, fastcgi: tcp://HOST:PORT beside root",
    "fcgi": "FastCGI has a key of its own, fastcgi: tcp://HOST:PORT beside root",
    "uwsgi": "the uwsgi protocol is not spoken; have uWSGI listen with --http-socket",
    "scgi": "SCGI is not spoken with backends",
    "ajp": "AJP is not spoken; have the server listen with HTTP",
    "ws": "WebSockets pass to an http:// backend by themselves",
    "wss": "WebSockets pass to an https:// backend by themselves",
    "tcp": "only HTTP is passed on",
    "grpc": "gRPC is spoken to h2c:// backends",
    "grpcs": "gRPC is spoken to https:// backends with backend_tls: {http2: true}",
    "http2": "HTTP/2 is spoken to h2c:// backends, and to https:// with backend_tls: {http2: true}",
}
# A port where a URL belongs: 3000, :3000, http://3000, http://:3000. A host is no number alone.
_PORT_ALONE = re.compile(r"(?:https?:(?://)?)?:?[0-9]{1,5}/?", re.ASCII | re.IGNORECASE)
_SOCKET_FILE = re.compile(r"/[^:]*")
_PREFIX = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*", re.ASCII)
_SAY_PREFIX = "write it like http://127.0.0.1:9000/app: the path is put before the one asked for"
# Where PHP-FPM, uWSGI and their kin keep their sockets, which speak FastCGI and the like.
_NOT_HTTP = re.compile(r"(?<![a-z])(?:php|fpm|fcgi|fastcgi)", re.IGNORECASE)  # not in /tmp/tmphp/
_NAME_SERVER = "write it like 192.0.2.53, ns.example.org:5353 or [2001:db8::53]:53"
_SOCKET_PATH = 107  # bytes; sun_path holds 108 with the NUL, unix(7)
# As in a URL's host, and with underscores: container networks have them in the names of services.
_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?\.?", re.ASCII)


def parse_listen(text: str) -> Address:
    """Read ``:443``, ``443``, ``192.0.2.1:443``, ``[::1]:443``. Raises `Wrong`."""
    text = text.strip()
    host, separator, port = text.rpartition(":")
    if host == "" and not separator and text.isdigit():
        return Address("", parse_port(text))
    if not separator or not port or text.endswith("]"):
        raise Wrong(f"{shown(text)} has no port", _LISTEN)
    if ":" in host and not host.startswith("["):
        raise Wrong(f"{shown(text)} has an IPv6 address without brackets", _LISTEN)
    return Address(parse_host(host) if host else "", parse_port(port))


def parse_host(text: str) -> str:
    """Read an IP address to listen on; ``*`` is every address, given back as "". Raises `Wrong`."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if bare == "*":
        return ""
    _refuse_zone(text, bare)
    try:
        return str(ip_address(bare))
    except ValueError:
        ports = _LISTEN if ":" in text else "write it like 192.0.2.1, ::1, or * for every address"
        remedy = "write 127.0.0.1 or ::1" if bare == "localhost" else ports
        raise Wrong(f"{shown(text)} is not an IP address to listen on", remedy) from None


def parse_port(text: str) -> int:
    """0 to 65535; 0 is any free port. Raises `Wrong`."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535):
        raise Wrong(f"{shown(text)} is not a port", "write a number up to 65535")
    return int(text)


def parse_network(text: str) -> str:
    """Read an address or a network in CIDR form; canonical. Raises `Wrong`."""
    text = text.strip()
    try:
        return str(ip_network(text))
    except ValueError:
        pass
    try:
        meant = ip_interface(text).network
    except ValueError:
        raise Wrong(
            f"{shown(text)} is not an address or network",
            "write it like 10.0.0.0/8 or 2001:db8::/32",
        ) from None
    raise Wrong(f"{shown(text)} names a host inside a network", f"write {meant} for the network")


def parse_name_server(text: str) -> Address:
    """Read ``192.0.2.53``, ``[2001:db8::53]:5353``, ``ns.example.org``; port 53 unless given.
    Raises `Wrong`."""
    text = text.strip()
    host, separator, port = text.rpartition(":")
    if not separator or text.endswith("]") or _is_ipv6(text):
        host, port = text, "53"
    host = host.removeprefix("[").removesuffix("]").lower()
    _refuse_zone(text, host)
    number = parse_port(port)
    if not number:
        raise Wrong(f"{shown(text)} has port 0", "give the port that the name server listens on")
    try:
        return Address(str(ip_address(host)), number)
    except ValueError:
        if _HOST.fullmatch(host):
            return Address(host, number)
    raise Wrong(f"{shown(text)} is not a name server", _NAME_SERVER)


def parse_resolver(text: str) -> Address:
    """Read a name server by its address; a name would take a resolver. Raises `Wrong`."""
    server = parse_name_server(text)
    try:
        ip_address(server.host)
    except ValueError:
        raise Wrong(
            f"{shown(text)} is a name, which it would take a resolver to look up",
            "give its IP address",
        ) from None
    return server


def is_loopback(text: str) -> bool:
    """Whether this is an IP address of the loopback network; a name is none."""
    try:
        return ip_address(text).is_loopback
    except ValueError:
        return False


def _is_ipv6(text: str) -> bool:
    try:
        return ip_address(text).version == 6
    except ValueError:
        return False


def parse_backend(url: str) -> Backend:
    """Raises `Wrong`."""
    url = url.strip()
    weighted = re.fullmatch(r"(\S+)\s+weight\s*=?\s*(\d+)", url)
    if weighted:
        raise Wrong(
            f"{shown(url)} is a backend and its weight",
            f"write {{url: {weighted[1]}, weight: {weighted[2]}}}",
        )
    slipped = re.fullmatch(r"(https?)(?::/?|/+)(?!/)(.*[^0-9/].*)", url, re.IGNORECASE)
    if slipped and url.isascii() and url.isprintable():
        raise Wrong(
            f"{shown(url)} has another form than a URL",
            f"write {slipped[1].lower()}://{slipped[2]}",
        )
    several = re.split(r"[\s,;]+(?=[a-z]+:|\d)", url)
    if len(several) > 1 and url.isascii() and url.isprintable():
        raise Wrong(
            f"{shown(url)} is several backends in one word", f"write a list: [{', '.join(several)}]"
        )
    if not url.isascii() or not url.isprintable() or " " in url:
        raise Wrong(f"{shown(url)} has characters that a URL cannot have", _BACKEND)
    scheme, separator, rest = url.partition(":")
    scheme = scheme.lower()
    if _PORT_ALONE.fullmatch(url):
        port = url.rstrip("/").rpartition(":")[2].rpartition("/")[2]
        secure = "s" if scheme == "https" else ""
        raise Wrong(
            f"{shown(url)} is a port without a host", f"write http{secure}://127.0.0.1:{port}"
        )
    if _SOCKET_FILE.fullmatch(url):
        raise Wrong(f"{shown(url)} does not say how to talk to it", f"write unix:{url}")
    if not separator or (scheme not in _SCHEMES and rest[:1].isdigit()):
        raise Wrong(f"{shown(url)} does not say how to talk to it", f"write http://{url}")
    if scheme == "unix":
        path = _socket_path(url, rest)
        if _NOT_HTTP.search(path) and not path.startswith("@"):
            raise Wrong(
                f"{shown(url)} is the socket of PHP-FPM or its like by its name, which speaks "
                "FastCGI, and backends are spoken to in HTTP",
                f"write fastcgi: {url} beside root; or rename the socket if it does speak HTTP",
            )
        return Backend(url=url, scheme="unix", path=path)
    if scheme in _OTHER_PROTOCOLS:
        raise Wrong(f"{shown(url)}: {_OTHER_PROTOCOLS[scheme]}", _BACKEND)
    parts, host, port_given = _authority(url)
    if parts.query or parts.fragment:
        raise Wrong(
            f"{shown(url)} has a query or fragment",
            "leave it out: the request's own query goes to the backend",
        )
    prefix = _prefix(url, parts.path)
    match scheme:
        case "http":
            return Backend(url=url, scheme="http", host=host, port=port_given or 80, prefix=prefix)
        case "h2c":
            return Backend(url=url, scheme="h2c", host=host, port=port_given or 80, prefix=prefix)
        case "https":
            return Backend(
                url=url, scheme="https", host=host, port=port_given or 443, prefix=prefix
            )
    raise Wrong(f"{shown(scheme)} is not a scheme for backends", nearest(scheme, _SCHEMES))


def parse_fastcgi(url: str) -> Backend:
    """Read ``unix:/run/php/php-fpm.sock``, ``tcp://127.0.0.1:9000`` or ``127.0.0.1:9000``. Raises
    `Wrong`."""
    url = url.strip()
    if not url.isascii() or not url.isprintable() or " " in url:
        raise Wrong(f"{shown(url)} has characters that an address cannot have", _FASTCGI)
    if url.isdigit() or re.fullmatch(r":[0-9]+", url):
        raise Wrong(
            f"{shown(url)} is a port without a host", f"write tcp://127.0.0.1:{url.lstrip(':')}"
        )
    if _SOCKET_FILE.fullmatch(url):
        raise Wrong(f"{shown(url)} does not say how to talk to it", f"write unix:{url}")
    scheme, separator, rest = url.partition(":")
    scheme = scheme.lower()
    if separator and scheme == "unix":
        return Backend(url=url, scheme="unix", path=_socket_path(url, rest))
    if "://" not in url:
        return parse_fastcgi(f"tcp://{url}")
    if scheme not in ("tcp", "fastcgi", "fcgi"):
        raise Wrong(f"{shown(scheme)} is not how FastCGI servers are spoken to", _FASTCGI)
    parts, host, port = _authority(url)
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise Wrong(f"{shown(url)} has a path", "leave it out: root says where the scripts are")
    if port is None:
        raise Wrong(f"{shown(url)} has no port", f"add it: {url.rstrip('/')}:9000")
    return Backend(url=url, scheme="tcp", host=host, port=port)


def _prefix(url: str, path: str) -> str:
    """Return what is put before the path that a client asks for; "" for a URL without a path."""
    prefix = path.rstrip("/")
    if prefix and not _PREFIX.fullmatch(prefix):
        raise Wrong(f"{shown(url)} has a path that no request could have", _SAY_PREFIX)
    if any(segment in ("", ".", "..") for segment in prefix.split("/")[1:]):
        raise Wrong(f"{shown(url)} has empty or dot segments in its path", _SAY_PREFIX)
    return prefix


def _authority(url: str) -> tuple[SplitResult, str, int | None]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise Wrong(f"{shown(url)} is not a URL{_what_is_wrong(url)}", _ipv6_remedy(url)) from None
    if parts.username is not None or parts.password is not None:
        # Without repeating it: faults end in logs, and there may be a password with it.
        raise Wrong(f"the URL of {shown(host)} holds a user name", "leave it out, up to the @")
    if ":" in host:
        _refuse_zone(url, host)
        try:
            host = str(ip_address(host))
        except ValueError:
            raise Wrong(f"{shown(url)} has no valid IPv6 address", _BACKEND) from None
    elif host.isdigit():
        raise Wrong(f"{shown(url)} has a port where the host belongs", f"write 127.0.0.1:{host}")
    elif not _HOST.fullmatch(host):
        raise Wrong(f"{shown(url)} has no valid host", _BACKEND)
    if port == 0:
        raise Wrong(f"{shown(url)} has port 0", "give the port that the backend listens on")
    return parts, host, port


def _what_is_wrong(url: str) -> str:
    authority = url.partition("//")[2].partition("/")[0]
    if authority.count(":") > 1 and "[" not in authority:
        return ": an IPv6 address stands in brackets"
    if "[" in authority or "]" in authority:
        return ": what stands in brackets is not an IPv6 address"
    return f": {shown(authority.rpartition(':')[2])} is not a port"


def _ipv6_remedy(url: str) -> str:
    """Say how the URL is written, with its IPv6 address in brackets where one was meant."""
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    host, _, port = authority.rpartition(":")
    for address, tail in ((host, f":{port}"), (authority, "")):
        if _is_ipv6(address):
            return f"write {scheme}://[{address}]{tail}{slash}{path}"
    return _BACKEND


def _refuse_zone(text: str, host: str) -> None:
    """Refuse a zone: an interface's name is the machine's own matter, and links come and go (RFC
    4007 §11.2)."""
    if "%" in host:
        raise Wrong(f"{shown(text)} has a zone", "give an address that needs none")


def _socket_path(url: str, rest: str) -> str:
    path = rest.removeprefix("//")
    if path.startswith("@") and len(path) > 1:
        if len(path) > _SOCKET_PATH:
            raise Wrong(f"{shown(url)} has a name of more than {_SOCKET_PATH} bytes", "shorten it")
        return path  # in the abstract namespace, unix(7)
    if not path.startswith("/"):
        raise Wrong(f"{shown(url)} has no absolute path", "write it like unix:/run/app.sock")
    if len(path.encode()) > _SOCKET_PATH:
        raise Wrong(
            f"{shown(url)} has a path of more than {_SOCKET_PATH} bytes",
            "the kernel takes no longer ones: move the socket, or link a shorter path to it",
        )
    return path


def parse_directory_url(text: str) -> str:
    """Read the URL of an ACME directory. Raises `Wrong`."""
    say = "write it like https://acme.example.net/directory"
    if not text.isascii() or not text.isprintable() or " " in text:
        raise Wrong(f"{shown(text)} has characters that a URL cannot have", say)
    parts, _host, _port = _authority(text)
    if parts.scheme != "https":
        raise Wrong(f"{shown(text)} is not an https URL", "ACME is spoken over TLS only")
    if parts.query or parts.fragment:
        raise Wrong(f"{shown(text)} has a query or fragment", say)
    return text


def parse_ask_url(text: str) -> str:
    """Read the URL that permission is asked of. Raises `Wrong`."""
    say = "write it like http://127.0.0.1:5000/allowed"
    if not text.isascii() or not text.isprintable() or " " in text:
        raise Wrong(f"{shown(text)} has characters that a URL cannot have", say)
    parts, _host, _port = _authority(text)
    if parts.scheme not in ("http", "https"):
        raise Wrong(f"{shown(text)} is not an http or https URL", say)
    if parts.fragment:
        raise Wrong(f"{shown(text)} has a fragment", say)
    return text


def parse_own_address(text: str) -> str:
    """Read one IP address. Raises `Wrong`."""
    try:
        return str(ip_address(text.strip()))
    except ValueError:
        raise Wrong(f"{shown(text)} is not an IP address", "write it like 192.0.2.1") from None


def parse_webhook(text: str) -> str:
    """Read the URL of a webhook; its path and query are often secret. Raises `Wrong`."""
    say = "write it like https://chat.example.org/hooks/abc"
    if not text.isascii() or not text.isprintable() or " " in text:
        raise Wrong("the URL has characters that a URL cannot have", say)
    parts, _host, _port = _authority(text)
    if parts.scheme not in ("http", "https"):
        raise Wrong("the URL is neither an http nor an https one", say)
    return text


def parse_mail_server(text: str) -> Address:
    """Read ``mail.example.org:587``; the port says which way TLS is spoken, so it is asked for."""
    say = "write it like mail.example.org:587"
    host, separator, port = text.strip().rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not separator or not bare:
        raise Wrong(f"{shown(text)} has no port", say)
    if ":" not in bare and not _HOST.fullmatch(bare.lower()):
        raise Wrong(f"{shown(text)} has no host name or address", say)
    if ":" in bare:
        parse_host(bare)
    number = parse_port(port)
    if not number:
        raise Wrong(f"{shown(text)} has no port that could be connected to", say)
    return Address(bare, number)


def spell_address(address: Address) -> str:
    """Spell an address as `parse_listen` reads it."""
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{host}:{address.port}"
