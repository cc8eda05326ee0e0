"""One call at a provider's interface: set a record, or remove it. Runs in a child of `api_process`.

lexicon's command line guesses the zone from a list of public suffixes, which it fetches; here the
zone is known, so its provider classes are used directly. Both actions are idempotent and are about
one value: other values at the same name belong to another certificate, or to somebody else.
"""

from __future__ import annotations

import base64
import http.client
import importlib
import json
import logging
import os
import ssl
from urllib.parse import urlsplit

from ..errors import plainly
from ..late_dataclass import dataclass
from ..link import DnsApi
from . import api_catalog
from .api_catalog import LexiconProvider

# Where distributions keep all trusted CAs in one file: Debian and Alpine, Fedora, openSUSE.
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
)
_STEP = 30.0  # seconds, for each step on the network
_SAID = 300  # bytes of somebody's refusal


@dataclass(frozen=True, slots=True)
class Request:
    """A record to set or to remove. ``api`` is the number of the provider among those that
    `api_process` was started with."""

    api: int
    action: str  # present or cleanup
    zone: str
    domain: str
    name: str
    value: str
    token: str
    key_authorization: str


class Refused(Exception):
    """Raised where a provider has not done what was asked; the text says why. ``certain``: the
    record is as it was."""

    def __init__(self, text: str, *, certain: bool) -> None:
        super().__init__(text)
        self.certain = certain


def load(provider: str) -> str | None:
    """Import what the provider needs, before the process is confined; returns what is missing,
    None for nothing."""
    if provider == api_catalog.HTTPREQ:
        return None
    try:
        api_catalog.options(provider)
        importlib.import_module("lexicon.config")
        importlib.import_module("lexicon.exceptions")
    except api_catalog.NotInstalled as error:
        return f"{error} ({error.remedy})"
    except KeyError:
        return "dns-lexicon knows no such provider"
    except ImportError as error:
        return f"it cannot be loaded: {error}"
    return None


def perform(api: DnsApi, request: Request) -> None:
    """Set or remove the record at the provider. Raises `Refused`, or whatever lexicon raises."""
    given: dict[str, str] = {}
    for one in api.credentials:
        if one.value is None:
            raise Refused(f"{one.file}, which holds {one.name}, cannot be read", certain=True)
        given[one.name] = one.value
    if api.provider == api_catalog.HTTPREQ:
        _httpreq(given, request)
    else:
        _lexicon(api, given, request)


# lexicon


def _lexicon(api: DnsApi, given: dict[str, str], request: Request) -> None:
    _trust_the_system()
    resolver = importlib.import_module("lexicon.config").ConfigResolver
    settings = {
        "provider_name": api.provider,
        "domain": request.zone,
        "delegated": request.zone,
        "ttl": max(api.ttl, api_catalog.LEAST_TTL.get(api.provider, 0)),
        api.provider: {"domain": request.zone, **given},  # where `ddns` looks for it
    }
    try:
        made = api_catalog.load(api.provider)(resolver().with_dict(settings))
        made.authenticate()
    except Exception as error:  # each of lexicon's classes raises what it likes
        raise Refused(_words(error, request.zone), certain=True) from None
    name = f"{request.name}."
    told = _Told()
    logger = logging.getLogger("lexicon")
    logger.addHandler(told)
    try:
        if request.action == "present":
            done = made.create_record("TXT", name, request.value)
        else:
            done = _removed(made, name, request.value)
    except Exception as error:  # as above
        raise Refused(_words(error, request.zone), certain=False) from None
    finally:
        logger.removeHandler(told)
        made.cleanup()
    if not done:
        raise Refused(told.text or "it does not say that it is done", certain=False)


def _removed(made: LexiconProvider, name: str, value: str) -> bool:
    """Remove a value; returns whether it is gone. Some of lexicon's classes raise, whatever they
    like, where the value is not there."""
    try:
        return made.delete_record(None, "TXT", name, value)
    except Exception:  # raised once more, if the value is there
        if made.list_records("TXT", name, value):
            raise
        return True


class _Told(logging.Handler):
    """Keeps the last error that lexicon logs: some of its classes say only there why they have
    done nothing."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()


def _trust_the_system() -> None:
    """Have requests and boto3 trust the system's CAs: those of certifi may lie where only root can
    read, and know nothing of a company's own."""
    paths = ssl.get_default_verify_paths()
    found = paths.cafile or next(filter(os.path.exists, _BUNDLES), None) or paths.capath
    if found is not None:
        os.environ["REQUESTS_CA_BUNDLE"] = os.environ["AWS_CA_BUNDLE"] = found


def _words(error: Exception, zone: str) -> str:
    """Put an exception of lexicon's into words, with the body of the provider's answer where the
    exception has one."""
    text = str(error) or type(error).__name__
    # A class of lexicon's may have raised ``error`` in the place of the one with the answer.
    inner = error.__cause__ or error.__context__
    response = getattr(error, "response", None)
    if response is None and inner is not None and hasattr(inner, "response"):
        response = inner.response
        text += f": {inner}"
    body = getattr(response, "text", "")
    if isinstance(body, str) and body.strip():
        text += f": {body[:_SAID]}"
    if type(error).__name__ == "AuthenticationError":
        text += f" (does the account have the zone {zone}, and may this key see it?)"
    return text


# lego's httpreq


def _httpreq(given: dict[str, str], request: Request) -> None:
    """POST to ENDPOINT/present or /cleanup, as lego's documentation of httpreq has it."""
    url = urlsplit(given["endpoint"])
    if url.hostname is None:
        raise Refused("the endpoint is no URL", certain=True)
    if given.get("mode", "").upper() == "RAW":
        body = {
            "domain": request.domain,
            "token": request.token,
            "keyAuth": request.key_authorization,
        }
    else:
        body = {"fqdn": f"{request.name}.", "value": request.value}
    fields = {"Content-Type": "application/json", "Accept": "application/json"}
    if "username" in given:
        pair = f"{given['username']}:{given.get('password', '')}".encode()
        fields["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
    connection: http.client.HTTPConnection
    if url.scheme == "https":
        connection = http.client.HTTPSConnection(url.hostname, url.port, timeout=_STEP)
    else:
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=_STEP)
    target = f"{url.path.rstrip('/')}/{request.action}"
    try:
        connection.request("POST", target, json.dumps(body), fields)
        answer = connection.getresponse()
        said = answer.read(_SAID).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException) as error:
        raise Refused(f"{url.hostname} cannot be asked: {plainly(error)}", certain=False) from None
    finally:
        connection.close()
    if not 200 <= answer.status < 300:
        raise Refused(f"{url.hostname} answers {answer.status}: {said}".rstrip(": "), certain=False)
