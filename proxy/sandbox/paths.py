"""Where this machine keeps what every process of ours needs: the interpreter, our code, trusted
CAs, the dynamic linker. Looked for at import: later, as nobody, some of it may be out of sight."""

from __future__ import annotations

import importlib.util
import ssl
import sys
from pathlib import Path

from acme_client.late_dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where the interpreter, our code and the machine's trusted CAs are."""

    interpreter: tuple[Path, ...]
    code: tuple[Path, ...]
    trust: tuple[Path, ...]
    program: tuple[Path, ...]  # what executing this program again takes

    @classmethod
    def here(cls) -> Surroundings:
        ours = filter(None, map(importlib.util.find_spec, ("proxy", "acme_client")))
        trust = ssl.get_default_verify_paths()
        folder = Path(sys.prefix) / "bin"
        return cls(
            interpreter=tuple(
                dict.fromkeys((Path(sys.prefix), Path(sys.base_prefix), *_libraries()))
            ),
            code=tuple(Path(one.origin).resolve().parent for one in ours if one.origin),
            trust=tuple(
                Path(path) for path in (trust.openssl_cafile, trust.openssl_capath) if path
            ),
            program=tuple(
                dict.fromkeys((folder, Path(sys.executable).resolve().parent, *_loaders()))
            ),
        )


def _libraries() -> list[Path]:
    """Where the packages that we use are, which PYTHONPATH may have put out of any prefix: the
    certifier imports `acme` when it has something to order, long after it has been confined."""
    found = importlib.util.find_spec("acme")
    folders = found.submodule_search_locations if found is not None else None
    packages = [Path(folder).resolve().parent for folder in folders or ()]
    prefixes = (Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve())
    return [one for one in packages if not any(one.is_relative_to(each) for each in prefixes)]


def _loaders() -> list[Path]:
    """Where the dynamic linker is, which executing any program executes as well."""
    return [
        found.resolve().parent
        for folder in ("/lib64", "/lib")
        for pattern in ("ld-linux*.so.*", "ld-musl-*.so.1")
        for found in sorted(Path(folder).glob(pattern))
    ]


HERE = Surroundings.here()
LOADERS = tuple(_loaders())
