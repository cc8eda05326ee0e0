"""Where the supervisor stands between its start and its end: one value that its parts share.

It serves; it is *starting* while balancers are to send nobody yet, because the certifier has not
heard from its cluster which challenges are to be answered; it is *upgrading* while a successor has
been started and is not ready; it has *retired* when the successor serves and the workers here
finish what they have; it is *draining* while it serves and balancers are told to send nobody,
before it ends; it is *stopping* when all of it ends.
"""

from __future__ import annotations

from acme_client.late_dataclass import dataclass


@dataclass(slots=True)
class Lifecycle:
    starting: bool = False
    draining: bool = False
    stopping: bool = False
    upgrading: bool = False
    retired: bool = False

    @property
    def wants_clients(self) -> bool:
        """Whether balancers are to send clients here."""
        return not (self.starting or self.draining or self.stopping)

    @property
    def certifies(self) -> bool:
        """Whether certificates are this program's business, and not its successor's."""
        return not (self.upgrading or self.retired)
