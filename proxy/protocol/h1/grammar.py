"""The grammar of RFC 9110 and RFC 9112 as compiled expressions over bytes, each under its rule.

Both directions and both parsers (`fast_parser`, `strict_parser`) take their expressions from here,
so that a byte is admitted in one place or in none. Where the RFC lets a recipient be lenient (bare
LF, folded lines, white space before a colon) there is no expression: what is not matched here is
refused. Where we are narrower than the RFC, the reason stands beside it.

Every expression is used with ``fullmatch`` and is linear: no alternative can match where another
one does, so that no input makes it go back.
"""

from __future__ import annotations

import ipaddress
import re

# RFC 9110 §5.6.2
#   token = 1*tchar
#   tchar = "!" / "#" / "$" / "%" / "&" / "'" / "*" / "+" / "-" / "." / "^" / "_" / "`" / "|" / "~"
#           / DIGIT / ALPHA
_TCHAR = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
TOKEN = re.compile(_TCHAR + rb"+")

# RFC 9110 §5.5
#   field-value   = *field-content
#   field-content = field-vchar [ 1*( SP / HTAB / field-vchar ) field-vchar ]
#   field-vchar   = VCHAR / obs-text
#   obs-text      = %x80-FF
# White space around it is cut off by whoever uses the expression, for `re` would have to go back.
_FIELD_BYTES = rb"[\t\x20-\x7e\x80-\xff]*"

# RFC 9112 §5
#   field-line = field-name ":" OWS field-value OWS
#   field-name = token
#   OWS        = *( SP / HTAB )
# Groups: the name, and the value with its OWS. No obs-fold (§5.2).
FIELD_LINE = re.compile(rb"(" + _TCHAR + rb"+):(" + _FIELD_BYTES + rb")")
OWS = b" \t"

# RFC 9112 §3
#   request-line = method SP request-target SP HTTP-version
#   method       = token
#   HTTP-version = "HTTP/" DIGIT "." DIGIT
# A method of more than 32 bytes is nobody's. One with lower-case letters is another method, and
# some servers raise the letters and see a request that we did not (nginx refuses it as well). The
# target's bytes are VCHAR without "#", which begins a fragment and is never sent (RFC 3986 §3.5);
# bytes that RFC 3986 wants encoded but browsers leave alone in a query ("|", "{", "^" and the like)
# pass.
_TARGET_BYTE = rb"[\x21\x22\x24-\x7e]"
METHOD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Z]{1,32}")
REQUEST_LINE = re.compile(
    rb"(" + METHOD.pattern + rb") (" + _TARGET_BYTE + rb"+) HTTP/([0-9]\.[0-9])"
)

# Which bytes may stand in a target and in a field value, for `bytes.translate`: it makes `BAD` of
# those that may not. Several times as fast as matching. (A number: `in` tries that first.)
BAD = ord("!")


def _marks(good: bytes) -> bytes:
    return bytes(ord(".") if re.fullmatch(good, bytes([byte])) else BAD for byte in range(256))


TARGET_MARKS = _marks(_TARGET_BYTE)
VALUE_MARKS = _marks(_FIELD_BYTES)

# RFC 9112 §3.2
#   request-target = origin-form / absolute-form / authority-form / asterisk-form
#   origin-form    = absolute-path [ "?" query ]
#   absolute-form  = absolute-URI
# authority-form belongs to CONNECT, which is refused; asterisk-form is the literal "*". Of
# absolute-URI only http and https mean something here; userinfo has no place in either
# (RFC 9110 §4.2.4), so that the authority ends at the first "/" or "?".
# Groups: the scheme, the authority, and the rest, which may be empty or begin with "/" or "?".
ABSOLUTE_FORM = re.compile(
    rb"([Hh][Tt][Tt][Pp][Ss]?)://([^/?@\x00-\x20#\\]+)((?:[/?]" + _TARGET_BYTE + rb"*)?)"
)

# RFC 9112 §4
#   status-line   = HTTP-version SP status-code SP [ reason-phrase ]
#   status-code   = 3DIGIT
#   reason-phrase = 1*( HTAB / SP / VCHAR / obs-text )
# The SP before an absent reason-phrase is missing in enough answers to be optional. A status beyond
# 599 is invalid, but applications have their own and clients treat it as 5xx (RFC 9110 §15).
STATUS_LINE = re.compile(rb"HTTP/([0-9]\.[0-9]) ([1-9][0-9]{2})(?: (" + _FIELD_BYTES + rb"))?")

# RFC 9110 §7.2 and RFC 3986 §3.2.2
#   Host     = uri-host [ ":" port ]
#   uri-host = IP-literal / IPv4address / reg-name
#   port     = *DIGIT
# reg-name is narrowed to what a DNS name can be made of (letters, digits, "-", and "_", which
# resolvers and people use): its percent-encoding, "," and ";" only serve to be read differently
# by whoever comes next. Groups: the name or the IPv6 address within brackets, and the port.
AUTHORITY = re.compile(
    rb"(?:([0-9A-Za-z_-]+(?:\.[0-9A-Za-z_-]+)*)\.?|\[([0-9A-Fa-f:.]{2,45})\])(?::([0-9]{0,5}))?"
)
_LONGEST_NAME = 255  # RFC 1035 §2.3.4
_HIGHEST_PORT = 65535

# RFC 9112 §7
#   transfer-coding    = token *( OWS ";" OWS transfer-parameter )
#   transfer-parameter = token BWS "=" BWS ( token / quoted-string )
# Used with ``match``, white space around it included. Group: the name.
TRANSFER_CODING = re.compile(
    rb"[\t ]*(" + _TCHAR + rb"+)(?:[\t ]*;[\t ]*" + _TCHAR + rb"+[\t ]*=[\t ]*(?:" + _TCHAR + rb"+"
    rb'|"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"))*[\t ]*'
)

# RFC 9110 §8.6
#   Content-Length = 1*DIGIT
# Eighteen digits are an exabyte, and fit into 63 bits at every later reader.
CONTENT_LENGTH = re.compile(rb"[0-9]{1,18}")

# RFC 9110 §7.6.1, and names that older software uses in the same way. `proxy` is not hop-by-hop
# but a trap: CGI turns it into HTTP_PROXY (httpoxy, CVE-2016-5385).
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"http2-settings",
        b"keep-alive",
        b"proxy",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

# RFC 9112 §7.1
#   chunk-size    = 1*HEXDIG
#   chunk-ext     = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )
#   chunk-ext-val = token / quoted-string
#   BWS           = OWS
# Sixteen digits fill 64 bits. Group: the size.
_CHUNK = (
    rb"([0-9A-Fa-f]{1,16})"
    rb"(?:[\t ]*;[\t ]*" + _TCHAR + rb"+(?:[\t ]*=[\t ]*(?:" + _TCHAR + rb"+"
    rb'|"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"))?)*'
)
CHUNK_LINE = re.compile(_CHUNK)
# Old servers pad the size with blanks to a fixed width.
PADDED_CHUNK_LINE = re.compile(_CHUNK + rb"[\t ]*")


def tokens(values: list[bytes]) -> list[bytes] | None:
    """The elements of a ``#token`` list (RFC 9110 §5.6.1), lower-case; None if one is no token.

    ``values`` are those of all field lines of the name, which count as one list (§5.3).
    """
    found = []
    for element in b",".join(values).split(b","):
        element = element.strip(OWS)
        if not element:
            continue  # §5.6.1.2: empty elements are read over
        if TOKEN.fullmatch(element) is None:
            return None
        found.append(element.lower())
    return found


# What some servers write into Connection beside its options: the parameters of Keep-Alive.
_PARAMETER = re.compile(_TCHAR + rb"+[\t ]*=[\t ]*" + _TCHAR + rb"+")


def connection_options(values: list[bytes]) -> tuple[frozenset[bytes], bool]:
    """The options that Connection fields name, lower-case, and whether they could all be read.

    Lenient, for what backends send: a semicolon separates as a comma does, and parameters
    (``keep-alive; timeout=5``) are read over. Nothing of it is forwarded.
    """
    found = set()
    sound = True
    for element in b",".join(values).replace(b";", b",").split(b","):
        element = element.strip(OWS)
        if TOKEN.fullmatch(element):
            found.add(element.lower())
        elif element and not _PARAMETER.fullmatch(element):
            sound = False
    return frozenset(found), sound


def split_authority(authority: bytes) -> tuple[bytes, int | None] | None:
    """Host and port of an authority, or None when it is malformed.

    The host is in the one spelling used for comparisons: lower case, no trailing dot, an IPv6
    address without brackets in the form of RFC 5952. The port is None when none is given.
    """
    match = AUTHORITY.fullmatch(authority)
    if match is None:
        return None
    name, address, digits = match.groups()
    port = int(digits) if digits else None
    if port is not None and port > _HIGHEST_PORT:
        return None
    if address is not None:
        try:
            return str(ipaddress.IPv6Address(address.decode("ascii"))).encode("ascii"), port
        except ValueError:
            return None
    if len(name) > _LONGEST_NAME:
        return None
    return name.lower(), port


# RFC 9110 §4.2.1, §4.2.2
DEFAULT_PORTS = {b"http": 80, b"https": 443}


def normalise_host(authority: bytes) -> bytes | None:
    """The host of an authority as `split_authority` spells it, or None when it is malformed."""
    parts = split_authority(authority)
    return None if parts is None else parts[0]
