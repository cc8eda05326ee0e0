"""Which certifier a configuration needs: none, one that may rest, another than the one there is.

The supervisor asks; what the certifier is to do (`settings`) is the certifier's own to work out.
"""

from __future__ import annotations

from ..config.model import Config
from ..config.referenced_files import mark, referred


def has_any(config: Config) -> bool:
    """Whether there may be certificates in the state directory that workers are to serve."""
    return any(not one.certificates or one.on_demand for one in config.sites)


def may_rest(config: Config) -> bool:
    """Whether the certifier may end while no question waits for it: every site brings its own
    certificates, and this machine is in no cluster."""
    return config.cluster is None and not has_any(config)


def needs(config: Config) -> object:
    """All that `settings.settings` is made from, except the content of files. As long as it is
    equal, no other certifier is needed."""
    sites = [
        (one.names, one.internal, one.certificates, one.key_types, one.on_demand)
        for one in config.sites
    ]
    files = {path: mark(path) for path in referred((config.acme, config.cluster))}
    return config.state, config.acme, config.cluster, sites, files
