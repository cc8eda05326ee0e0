"""Certificates that people bring along, as the start will read them.

What `own_files` of `acme_client` says is said here with the key's place. A certificate that nothing
could be served with, or that covers none of its site's names, is a fault. What time or a CA has
done to it (expired, not valid yet, a chain with a gap, a name that is missing) is a notice: it is
served all the same, and other sites must not go down with it when the machine restarts.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator

from acme_client.names import covers
from acme_client.x509 import loadable
from acme_client.x509.keys import family
from acme_client.x509.own_files import Examined, examine_files

from ..schema.document import OwnCertificate, Site
from ..schema.parse import Parsed
from ..syntax.faults import Fault, Path
from .reader import Reader, typed


def check(parsed: Parsed, opener: Reader | None, notices: list[Fault]) -> Iterator[Fault]:
    for index, site in parsed.sites:
        kinds: dict[str, Path] = {}
        for number, certificate in enumerate(site.certificate):
            at: Path = ("sites", index, "certificate", number)
            examined = yield from _examined(parsed, at, site, certificate, opener, notices)
            if examined is None or examined.facts is None:
                continue
            kind = family(examined.facts.key_type)
            if kind in kinds:
                yield parsed.origins.fault(
                    (*at, "chain"),
                    f"this one and the one at {parsed.origins.at(kinds[kind])}: both are for "
                    f"{kind.upper()} keys",
                    "leave one out, or give one of each kind",
                )
            kinds.setdefault(kind, (*at, "chain"))


def _examined(
    parsed: Parsed,
    at: Path,
    site: Site,
    certificate: OwnCertificate,
    opener: Reader | None,
    notices: list[Fault],
) -> Generator[Fault, None, Examined | None]:
    contents: list[bytes] = []
    for key in ("chain", "key"):
        file = getattr(certificate, key)
        try:
            contents.append(file.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            yield parsed.origins.fault(
                (*at, key), f"{file} does not exist", "create it, or name the file that is meant"
            )
        except IsADirectoryError:
            yield parsed.origins.fault(
                (*at, key), f"{file} is not a file", "name the file that is meant"
            )
        except PermissionError:
            if opener is not None and opener.here:
                yield parsed.origins.fault(
                    (*at, key),
                    f"uid {opener.uid} may not read {file}",
                    f"start the server as root, which reads it before the privileges are dropped; "
                    f"or: sudo chgrp {opener.gid} {typed(file)} && sudo chmod g+r {typed(file)}",
                )
        except (OSError, ValueError) as error:
            yield parsed.origins.fault(
                (*at, key), f"{file} cannot be read: {error}", "name the file that is meant"
            )
    if len(contents) < 2:
        return None
    found = examine_files(
        contents[0],
        contents[1],
        site.names,
        time.time(),
        chain_path=str(certificate.chain),
        key_path=str(certificate.key),
    )
    yield from _told(parsed, at, site, certificate, found, notices)
    return found


def _told(
    parsed: Parsed,
    at: Path,
    site: Site,
    certificate: OwnCertificate,
    found: Examined,
    notices: list[Fault],
) -> Iterator[Fault]:
    for fault in found.faults:
        in_key = fault.text.startswith(f"{certificate.key}:")
        path = (*at, "key" if in_key and certificate.key != certificate.chain else "chain")
        told = parsed.origins.fault(path, fault.text, fault.remedy)
        useless = fault.kind == "names" and found.facts is not None and found.facts.names
        if fault.fatal or (useless and not _any_covered(site, found)):
            yield told
        else:
            notices.append(told)
    if found.pair is not None and (why := loadable.fault(found.pair)) is not None:
        yield parsed.origins.fault(
            (*at, "chain"),
            f"{certificate.chain}, {certificate.key}: {why}",
            loadable.remedy(why),
        )


def _any_covered(site: Site, found: Examined) -> bool:
    return found.facts is not None and any(covers(found.facts.names, one) for one in site.names)
