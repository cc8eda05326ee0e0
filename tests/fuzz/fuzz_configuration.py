"""Coverage-guided fuzzing of configuration text: `make fuzz`.

Whatever it is, it is a configuration or it has faults, each on one line with its place; nothing
raises, and nothing takes for ever.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["proxy.config"]):
    from proxy.config.checks import consistency
    from proxy.config.schema.parse import validate
    from proxy.config.syntax.faults import ConfigurationFaults
    from proxy.config.syntax.yaml_reader import parse

PIECES = (
    b"sites:\n", b"  - names: [a.test]\n", b"    root: /srv\n", b"    backend: http://127.0.0.1:1\n",
    b"    routes:\n", b"      - {path: /*, root: /srv}\n", b"limits: {", b"header_timeout: 10s",
    b"connections: 1", b"}\n", b"listen: {http: [':80']}\n", b"acme: {directory: internal}\n", b"tls:\n",
    b"  min_version: '1.2'\n", b"&a ", b"*a", b"!!python/object:os.system ", b"<<: *a\n", b"- ", b"? ",
    b": ", b"[", b"]", b"{", b"|\n  ", b"\t", b"'", b'"', b"#", b"%YAML 1.1\n---\n", b"\xff", b"0x10",
    b"1e999", b"~", b"no", b"2001-01-01", b"rate_limit: [{rate: 10/s}]\n", b"workers: auto\n",
)  # fmt: skip


def look(data: bytes) -> None:
    """Even bytes choose a piece, odd ones stand for the byte behind them."""
    provider = atheris.FuzzedDataProvider(data)
    text = b""
    while provider.remaining_bytes():
        choice = provider.ConsumeIntInRange(0, 255)
        if choice < 4 * len(PIECES):
            text += PIECES[choice % len(PIECES)]
        else:
            text += provider.ConsumeBytes(3)
    document = parse(text.decode("utf-8", "surrogateescape"), "c.yaml")
    parsed, faults = validate(document.value, document.origins)
    faults = [*document.faults, *faults]
    if not faults:
        faults = list(consistency.check(parsed))
    if faults:
        for fault in ConfigurationFaults(faults).faults:
            said = str(fault)
            assert said.startswith("c.yaml:"), said
            assert "\n" not in said, said


if __name__ == "__main__":
    atheris.Setup(sys.argv, look)
    atheris.Fuzz()
