"""What exceptions of the system and of libraries become in lines that people read."""

from __future__ import annotations

import ssl

import pytest

from acme_client.errors import plainly


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (PermissionError(13, "Permission denied", "/srv/x"), "Permission denied: /srv/x"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (
            TimeoutError("_ssl.c:975: The handshake operation timed out"),
            "The handshake operation timed out",
        ),
        (
            ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1000)"),
            "wrong version number",
        ),
        (
            ssl.SSLEOFError(8, "EOF occurred in violation of protocol (_ssl.c:1006)"),
            "EOF occurred in violation of protocol",
        ),
        (TimeoutError(), "TimeoutError"),
        (OSError(5, None), "OSError"),
        (ValueError(""), "ValueError"),
    ],
)
def test_it_is_said_without_what_only_programmers_read(error: Exception, text: str) -> None:
    assert plainly(error) == text
