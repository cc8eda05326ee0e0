"""A `SimulatedCa` whose certificates are two lines of JSON instead of ASN.1, for simulations of years.

`cheap_read` takes the place of `verify.read`. A module that imports `cheap` has that in all of its
tests.
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Iterator

import pytest

from acme_client.certificates import record, recovery
from acme_client.drill.simulated_ca import HOUR, SimulatedCa
from acme_client.x509 import loadable, verify
from acme_client.x509.keys import DEFAULT
from acme_client.x509.verify import CertificateAndKey, CertificateInfo


def cheap_read(pair: CertificateAndKey) -> tuple[CertificateAndKey, CertificateInfo]:
    return pair, facts_of(pair.chain_pem)


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the program read such certificates, read a record once for all machines that hear of it,
    and log nothing: a simulation of years would fill the log with millions of lines."""
    monkeypatch.setattr(record, "from_json", functools.lru_cache(maxsize=1024)(record.from_json))
    monkeypatch.setattr(verify, "read", cheap_read)
    monkeypatch.setattr(recovery, "read", cheap_read)
    monkeypatch.setattr(loadable, "fault", lambda _pair: None)
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@functools.lru_cache(maxsize=8192)
def facts_of(chain_pem: bytes) -> CertificateInfo:
    said = json.loads(chain_pem)
    return CertificateInfo(
        tuple(said["names"]),
        said["serial"],
        said["not_before"],
        said["not_after"],
        said.get("key_type", DEFAULT),
    )


class CheapCa(SimulatedCa):
    def certificate(self, names: tuple[str, ...], key_type: str) -> CertificateAndKey:
        self.serial += 1
        serial = f"{self.serial:x}"
        said = {"names": names, "serial": serial, "not_before": self.now - HOUR}
        said["key_type"] = key_type
        said["not_after"] = self.now - HOUR + self.lifetime
        return CertificateAndKey(json.dumps(said).encode(), f"key {serial}".encode())

    def with_key(self, pair: CertificateAndKey, key: bytes) -> CertificateAndKey:
        return CertificateAndKey(pair.chain_pem, key)

    def facts(self, chain_pem: bytes) -> CertificateInfo:
        return facts_of(chain_pem)
