"""The key `fastcgi`: a FastCGI server (PHP-FPM) that runs the scripts below `root`."""

import re
from typing import Annotated, Any, ClassVar

from ..syntax.addresses import parse_fastcgi
from ..syntax.faults import Wrong, shown
from ..syntax.kinds import Switch, count, pairs, word
from ..syntax.sections import Before, Field, Many, Section, section
from ..values import Backend

FastCgiUrl = Annotated[Backend, word(parse_fastcgi)]

# What tells scripts of the request, which nobody may tell otherwise.
_OF_THE_REQUEST = re.compile(
    "CONTENT_(LENGTH|TYPE)|DOCUMENT_URI|PATH_(INFO|TRANSLATED)|QUERY_STRING|REMOTE_(ADDR|USER)"
    "|REQUEST_(METHOD|URI)|SCRIPT_(FILENAME|NAME)|HTTP_.*"
)


def _parse_ending(text: str) -> str:
    if not re.fullmatch(r"\.[A-Za-z0-9]{1,16}", text):
        raise Wrong(f"{shown(text)} is no ending of a file's name", "write it like .php")
    return text


def _parse_index(text: str) -> str:
    if not re.fullmatch(r"[^./\0][^/\0]{0,100}", text) or not text.isprintable():
        raise Wrong(f"{shown(text)} is no name of a script in a folder", "write it like index.php")
    return text


def _parse_script_root(text: str) -> str:
    if not text.startswith("/") or not text.isprintable():
        raise Wrong(f"{shown(text)} is no absolute path", "write it like /var/www/html")
    return text


def _parse_parameter(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,127}", text):
        raise Wrong(f"{shown(text)} is no name of a parameter", "write it like APP_ENV")
    if _OF_THE_REQUEST.fullmatch(text.upper()):
        raise Wrong(f"{shown(text)} tells scripts of the request", "choose another name")
    return text


def _parse_parameter_value(text: str) -> str:
    if "\0" in text or len(text) > 8192:
        raise Wrong("the value holds a NUL or is longer than 8192 bytes", "shorten it")
    return text


@section
class FastCgi(Section):
    other_words: ClassVar = dict.fromkeys(
        ("host", "port", "address", "server", "socket", "to", "pass", "upstream", "backend"),
        "write url: unix:/run/php/php-fpm.sock, or tcp://127.0.0.1:9000",
    )

    url: Many[FastCgiUrl] = Field(
        description="unix:/PATH or tcp://HOST:PORT of a FastCGI server; or a list of them."
    )
    index: Annotated[str, word(_parse_index)] = Field(
        default="index.php", description="The script that takes requests for a folder."
    )
    front_controller: Switch = Field(
        default=True,
        description="The root's index script takes what is neither a script nor a file.",
    )
    endings: Many[Annotated[str, word(_parse_ending)]] = Field(
        default=(".php",), description="How names of scripts end."
    )
    script_root: Annotated[str, word(_parse_script_root)] | None = Field(
        default=None,
        description="Where the FastCGI server sees root, if that is elsewhere (a container).",
    )
    params: Annotated[
        tuple[tuple[str, str], ...], pairs(_parse_parameter, _parse_parameter_value)
    ] = Field(default=(), description="More for the scripts: {APP_ENV: production}.")
    keep: Annotated[int, count(0, 10_000)] | None = Field(
        default=None,
        description="Idle connections that a worker keeps; each occupies a process of PHP-FPM. "
        "Left out: none, unless the server says that it takes several requests on one.",
    )


def _url_alone(given: Any) -> Any:
    return {"url": given} if isinstance(given, str | list) else given


FastCgiEntry = Annotated[FastCgi, Before(_url_alone, written_as=str | list[str] | FastCgi)]
