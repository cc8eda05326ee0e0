"""Takes secrets out of a text that goes to the log. Pure.

What a program or library says about a failure may repeat what it was given: a URL with a token in
its query, a line with a key. A secret is found as it is, and as a URL or JSON spells it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

# Shorter ones are no secrets ("true", a zone's number) and would make holes in every text.
_SHORTEST = 6
_HIDDEN = "[secret]"


def redacted(text: str, secrets: Iterable[str]) -> str:
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) < _SHORTEST:
            continue
        for spelt in dict.fromkeys(
            (secret, quote(secret, ""), quote(secret), quote_plus(secret), json.dumps(secret)[1:-1])
        ):
            text = text.replace(spelt, _HIDDEN)
    return text
