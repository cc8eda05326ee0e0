"""The keys of ``providers``: who tells of sites beside the configuration's own files."""

import re
from typing import Annotated, ClassVar

from ..syntax.faults import Wrong, shown
from ..syntax.kinds import word
from ..syntax.sections import Before, Field, Section, alone, section


def _parse_engine(text: str) -> str:
    """Read where a Docker API is: a unix socket, or plain TCP of a proxy in front of one."""
    word_ = text.strip()
    if word_.startswith("/"):
        word_ = f"unix:{word_}"
    found = re.fullmatch(r"unix:(?://)?(/[^\0]+)", word_)
    if found is not None:
        return f"unix:{found[1]}"
    found = re.fullmatch(r"(?:tcp|http)://([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\]):(\d{1,5})/?", word_)
    if found is not None and 0 < int(found[2]) < 65536:
        return f"tcp://{found[1]}:{found[2]}"
    if word_.lower() in ("true", "on", "yes", "auto", "docker"):
        raise Wrong(f"{shown(text)} says not where", "write unix:/run/docker.sock")
    raise Wrong(
        f"{shown(text)} is no place of a Docker API",
        "write unix:/run/docker.sock, unix:/run/podman/podman.sock or tcp://HOST:PORT",
    )


@section
class Docker(Section):
    other_words: ClassVar = dict.fromkeys(
        ("endpoint", "socket", "host", "path"), "here that is url: unix:/run/docker.sock"
    )

    url: Annotated[str, word(_parse_engine)] = Field(
        description="Where Docker or Podman is asked: unix:/PATH, or tcp://HOST:PORT."
    )


DockerEntry = Annotated[Docker, Before(alone("url"), written_as=str | Docker)]


@section
class Providers(Section):
    other_words: ClassVar = dict.fromkeys(
        ("podman", "containers", "swarm"), "here that is docker: unix:/run/podman/podman.sock"
    )

    docker: DockerEntry | None = Field(
        default=None, description="Sites from labels of containers: unix:/run/docker.sock."
    )
