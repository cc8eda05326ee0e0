"""What a look at a backend means, in words that name the next step."""

from __future__ import annotations

import pytest

from proxy.doctor.rules.backends import BackendVisit, Language, Reached, findings


@pytest.mark.parametrize(
    ("reached", "language", "said", "step"),
    [
        ("refused", None, "connection refused", "start the app"),
        ("missing", None, "there is no socket /run/app.sock", "start the app"),
        ("forbidden", None, "uid 65534", "chmod o+rw /run/app.sock"),
        ("silent", None, "does not answer in time", "busy"),
        ("unresolved", None, "its name has no address", "the name"),
        ("untrusted", None, "not believed: certificate has expired", "backend_tls"),
        ("no_tls", None, "TLS handshake failed", "http://"),
        ("unreachable", None, "cannot be reached", "firewalls"),
        ("no_http", None, "not HTTP/1.1", "look at the app"),
        ("no_http", "fastcgi", "speaks FastCGI", "HTTP"),
        ("no_http", "h2c", "HTTP/2 only", "HTTP/1.1"),
        ("no_http", "tls", "speaks TLS on this port", "https://127.0.0.1:3000"),
    ],
)  # fmt: skip
def test_each_failure_has_its_words(
    reached: Reached, language: Language | None, said: str, step: str
) -> None:
    error = "certificate has expired" if reached == "untrusted" else "why"
    visit = BackendVisit(
        "http://127.0.0.1:3000", ("a.test", "b.test"), reached, error=error, language=language,
        socket="/run/app.sock",
    )  # fmt: skip
    (found,) = findings(visit)
    assert found.sign == "wrong"
    assert said in found.text
    assert "needed by a.test, b.test" in found.text
    assert step in (found.step or "")


@pytest.mark.parametrize(
    ("status", "sign"),
    [(200, "ok"), (302, "ok"), (401, "ok"), (404, "ok"), (400, "attention"), (421, "attention"),
     (500, "wrong"), (503, "wrong")],
)  # fmt: skip
def test_an_answer_says_how_the_app_is(status: int, sign: str) -> None:
    (found,) = findings(BackendVisit("http://x:1", ("a.test",), "answer", "/hc", status))
    assert found.sign == sign
    assert f"GET /hc with {status}" in found.text
