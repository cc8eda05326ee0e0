"""Who may do what: a login service that is asked about each request, and other sites' scripts.

The rules on addresses and passwords stand in `rules`, which has these keys with all others.
"""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal, Protocol

from ..syntax import cross_origin, field_rules
from ..syntax.faults import Fault, Origins, Path, Wrong, shown
from ..syntax.kinds import File, Switch, duration, word
from ..syntax.names import parse_name
from ..syntax.sections import Before, Field, Many, Section, already_read, section
from ..syntax.service_urls import parse_service_url
from ..values import ServiceUrl

# What a login service's answer may give to the client beside what it says of the user.
_OF_ANSWERS = frozenset({"set-cookie"})


def _parse_copied(text: str) -> str:
    """A field of the service's answer, in small letters."""
    if text.strip().lower() in _OF_ANSWERS:
        return text.strip().lower()
    name = field_rules.request_name(text)
    if name in ("cookie", "range") or name.startswith("if-"):
        raise Wrong(f"{shown(text)} does not say who the user is", "leave it out")
    return name.replace("_", "-")


def off_is_none(given: object) -> object:
    """``off`` at an inner level takes away what an outer one asks for."""
    return None if str(given).lower() in ("off", "false", "no", "none") else given


@section
class ServiceTls(Section):
    ca_file: File | None = Field(
        default=None, description="PEM bundle to trust instead of the system's."
    )
    insecure: Switch = Field(default=False, description="Take any certificate whatever.")
    server_name: Annotated[str, word(parse_name)] | None = Field(
        default=None, description="The name to ask for and to verify, when it is not the URL's."
    )


@section
class ForwardAuth(Section):
    """A login service that is asked about each request."""

    other_words: ClassVar = {
        **dict.fromkeys(("address", "uri", "endpoint", "server", "backend"), "here that is url:"),
        **dict.fromkeys(
            ("copy_headers", "authResponseHeaders", "response_headers", "headers"),
            "here that is copy: [Remote-User, Remote-Groups]",
        ),
    }

    url: Annotated[ServiceUrl, word(parse_service_url)] = Field(
        description="Asked with GET: http://, https://, h2c://, or unix:/SOCKET:/PATH; 2xx lets in."
    )
    copy: Many[Annotated[str, word(_parse_copied)]] = Field(
        default=(),
        description="Fields of its answer that the request gets, like Remote-User; a client's own "
        "are taken away. Set-Cookie goes to the client.",
    )
    trust_redirects: Switch = Field(
        default=True, description="Pass its redirects on wherever they lead; false: to this host."
    )
    timeout: Annotated[float, duration("100ms", "5m")] = Field(
        default=5.0, description="Until its answer; then the request ends with 504."
    )
    cache: Annotated[float, duration("0s", "1h")] = Field(
        default=0.0,
        description="How long it is not asked again about the very same request that it let in.",
    )
    preserve_host: Switch = Field(
        default=True, description="Host is the one that the client asked for; false: of the URL."
    )
    tls: ServiceTls = Field(
        default=already_read(ServiceTls), description="For a service over https."
    )


@section
class Cors(Section):
    """What scripts of other origins may do (the Fetch standard, CORS protocol)."""

    other_words: ClassVar = {
        **dict.fromkeys(
            ("allow_origin", "allow_origins", "allowed_origins", "allowed_origin", "origin"),
            "here that is origins: [https://app.example.org]",
        ),
        **dict.fromkeys(("allow_methods", "allowed_methods"), "here that is methods: [GET, PUT]"),
        **dict.fromkeys(
            ("allow_headers", "allowed_headers"), "here that is headers: [Content-Type]"
        ),
        **dict.fromkeys(
            ("allow_credentials", "allowed_credentials"), "here that is credentials: true"
        ),
        **dict.fromkeys(("exposed_headers", "expose_headers"), "here that is expose: [ETag]"),
    }  # fmt: skip

    origins: Many[Annotated[str, word(cross_origin.origin)]] = Field(
        description="https://app.example.org, https://*.example.org, or * for all."
    )
    methods: Many[Annotated[str, word(cross_origin.method)]] = Field(
        default=("GET", "HEAD", "POST"), description="Methods that scripts may use; * for all."
    )
    headers: Many[Annotated[str, word(cross_origin.field_name)]] = Field(
        default=(),
        description="Fields of requests that scripts may set beside the harmless ones; * for all.",
    )
    expose: Many[Annotated[str, word(cross_origin.field_name)]] = Field(
        default=(), description="Fields of answers that scripts may read beside the usual ones."
    )
    credentials: Switch = Field(
        default=False, description="With cookies and logins; not for every origin."
    )
    max_age: Annotated[float, duration("0s", "1d")] = Field(
        default=600.0, description="How long a browser remembers the answer to a preflight."
    )


ForwardAuthEntry = Annotated[
    ForwardAuth | None,
    Before(off_is_none, written_as=ForwardAuth | Literal["off"] | None),
]
CorsEntry = Annotated[Cors | None, Before(off_is_none, written_as=Cors | Literal["off"] | None)]


class AccessRules(Protocol):
    """The rules of this module, as one level of the document has them."""

    @property
    def cors(self) -> Cors | None: ...

    @property
    def forward_auth(self) -> ForwardAuth | None: ...


def check(rules: AccessRules, at: Path, origins: Origins) -> Iterator[Fault]:
    """Check the keys of one level against each other; ``at`` is where the level stands."""
    if rules.cors is not None:
        yield from _check_cors(rules.cors, (*at, "cors"), origins)
    service = rules.forward_auth
    if service is not None and service.tls.given and service.url.backend.scheme != "https":
        yield origins.fault(
            (*at, "forward_auth", "tls"),
            "the service is not asked over https",
            "write https://, or leave it out",
        )


def _check_cors(cors: Cors, at: Path, origins: Origins) -> Iterator[Fault]:
    if not cors.origins:
        yield origins.fault(
            (*at, "origins"), "nobody is allowed", "name an origin, or leave it out"
        )
    everybody = sorted({"*", "null"} & set(cors.origins))
    if cors.credentials and everybody:
        yield origins.fault(
            (*at, "credentials"),
            f"with credentials, and origins of {everybody[0]}, any page could act as its visitors",
            "list the origins, or leave credentials out",
        )
