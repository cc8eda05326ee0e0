"""Transactions of etcd, and what they are made of: conditions and operations, as its JSON has them.

Names of fields are those of etcdserverpb.Compare and RequestOp.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from typing import Any

from .api import Answer, EtcdApi, below, encoded

# Operations that a transaction may have by the engine's default, `--max-txn-ops`.
_MOST = 128

Operation = Mapping[str, Any]


def none_later(start: str, revision: int) -> Operation:
    """The condition that no key which begins so was written after this revision."""
    return {
        **below(start),
        "target": "MOD",
        "result": "LESS",
        "mod_revision": str(revision + 1),
    }


def created_at(key: str, revision: int) -> Operation:
    """The condition that a key was created at this revision; 0: that there is no such key."""
    return {
        "key": encoded(key),
        "target": "CREATE",
        "result": "EQUAL",
        "create_revision": str(revision),
    }


def has_value(key: str, value: bytes) -> Operation:
    """The condition that a key has this value."""
    return {"key": encoded(key), "target": "VALUE", "result": "EQUAL", "value": encoded(value)}


def changed_at(key: str, revision: int) -> Operation:
    """The condition that a key was written last at this revision."""
    return {"key": encoded(key), "target": "MOD", "result": "EQUAL", "mod_revision": str(revision)}


def has_lease(key: str, lease: int) -> Operation:
    """The condition that a key ends with this lease."""
    return {"key": encoded(key), "target": "LEASE", "result": "EQUAL", "lease": str(lease)}


def reading(key: str) -> Operation:
    """Read a key."""
    return {"request_range": {"key": encoded(key)}}


def writing(key: str, value: bytes, **options: object) -> Operation:
    """Write a key; ``options`` are further fields of etcd's PutRequest, such as ``lease``."""
    return {"request_put": {"key": encoded(key), "value": encoded(value), **options}}


def removal(key: str) -> Operation:
    """Delete a key, if it is there."""
    return {"request_delete_range": {"key": encoded(key)}}


def transact(
    api: EtcdApi,
    compares: Sequence[Operation],
    operations: Sequence[Operation],
    otherwise: Sequence[Operation] = (),
) -> Answer:
    """Have the engine carry out operations in one step if all conditions hold, and ``otherwise``
    others. Raises OSError."""
    if max(len(compares), len(operations)) > _MOST:
        raise OSError(errno.E2BIG, f"more than {_MOST} keys change in one step")
    return api.call(
        "/v3/kv/txn", {"compare": compares, "success": operations, "failure": otherwise}
    )
