"""Which cluster this machine belongs to, and how its engine is reached."""

from __future__ import annotations

import ssl
from dataclasses import field

from ..certificates import ranks
from ..late_dataclass import dataclass
from ..storage.etcd.api import EtcdApi, Login
from ..storage.etcd.sealing import Seals, read_secrets
from ..storage.etcd.store import EtcdStore

VERSION = 1  # of the documents in the engine, and of the cluster's format


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """``order``: whether this node orders certificates, as the others do; while it is cut off,
    those of whose life less than this is left (``order_below``). ``thumbprint``: whether a node
    that is cut off answers challenges which it does not know. ``secret``: what the
    file with the cluster's secrets has. ``fault``: why the engine cannot be asked at all; what is
    on the disk is served all the same. ``client_ends``: when the certificate in ``tls`` does,
    Unix seconds. ``host``: what tells this machine's host from others (`identity`)."""

    name: str
    node: str
    endpoints: tuple[str, ...]
    secret: str = field(repr=False)
    order: bool = True
    order_below: float = ranks.ALONE_BELOW
    thumbprint: bool = True
    login: Login | None = None
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    client_ends: float | None = None
    version: str = ""
    host: str = ""
    fault: str = ""

    @property
    def prefix(self) -> str:
        return f"/treehouse/{self.name}/"

    def api(self) -> EtcdApi:
        return EtcdApi(self.endpoints, self.tls, self.login, client_ends=self.client_ends)

    def store(self) -> EtcdStore:
        """Return the store that the machines share. Raises `sealing.SecretFault`."""
        return EtcdStore(self.api(), self.prefix, Seals(read_secrets(self.secret)))
