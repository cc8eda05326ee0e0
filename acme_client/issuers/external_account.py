"""Reads the key of an external account (RFC 8555 §7.3.4) as people paste it into a file.

CAs hand the key out in base64url. The usual decoders skip characters that they do not know: a key
with a quotation mark too many becomes another key, and the CA refuses it in words that do not name
the cause. So the key is read strictly here. No message repeats it.

Pure.
"""

from __future__ import annotations

import re

from ..errors import IssuanceError

_BASE64URL = re.compile(r"[A-Za-z0-9_-]+={0,2}")
# Of four characters one alone holds no byte: some are missing.
_GROUP = 4


def mac_key(text: str) -> str:
    """Return the key in a file's text; raises `IssuanceError` ("settings"), which says what is
    wrong with it."""
    found = text.strip()
    if not found:
        raise IssuanceError("settings", "it is empty, or cannot be read")
    if len(found.split()) > 1:
        raise IssuanceError("settings", "it holds more than the key (one word in base64url)")
    if re.search(r"[+/]", found):
        raise IssuanceError(
            "settings", "its key is in base64 and not in base64url (which has - for + and _ for /)"
        )
    if not _BASE64URL.fullmatch(found):
        strange = sorted({one for one in found if not re.match(r"[A-Za-z0-9_=-]", one)})
        said = f", which has no {' '.join(map(ascii, strange))}" if strange else ""
        raise IssuanceError("settings", f"its key is not in base64url{said}")
    bare = found.rstrip("=")
    if len(bare) % _GROUP == 1:
        raise IssuanceError(
            "settings", "its key is cut off: a character is missing, or there is one too many"
        )
    return bare
