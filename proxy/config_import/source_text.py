"""Reads a file of another program's configuration, which may be anything at all, as text."""

from __future__ import annotations

from .draft import CannotRead

_LARGEST = 4 << 20


def read_text(
    path: str, *, encoding: str = "utf-8-sig", errors: str = "strict", largest: int = _LARGEST
) -> str:
    """Read a whole file of at most ``largest`` bytes; an editor's byte order mark is no part of it.
    Raises `CannotRead`."""
    try:
        with open(path, "rb") as file:
            data = file.read(largest + 1)
        text = data.decode(encoding, errors)
    except FileNotFoundError:
        raise CannotRead(f"{path}: there is no such file") from None
    except OSError as error:
        raise CannotRead(f"{path}: it cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise CannotRead(f"{path}: it cannot be read ({error})") from None
    if len(data) > largest:
        raise CannotRead(f"{path}: it is larger than {largest >> 20} MiB")
    return text
