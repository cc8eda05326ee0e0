"""`trust` where the built-in CA's root is not there any more."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.cli import trust
from proxy.cli.trust import CannotTrust, Store


def said(state: Path, *, remove: bool) -> str:
    with pytest.raises(CannotTrust) as error:
        list(trust.trust(state, remove=remove))
    return str(error.value)


def test_who_has_deleted_the_state_first_is_told_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store", ("update-ca-certificates",))
    monkeypatch.setattr(trust, "STORES", (Store(tmp_path / "none", ("x",)), store))
    store.folder.mkdir()
    state = tmp_path / "state"
    assert said(state, remove=True).endswith("; the system trusts no root of ours")
    (store.folder / "of-somebody.crt").touch()
    root = store.folder / "treehouse-internal-ca-0123456789abcdef.crt"
    root.touch()
    left = (
        f"; the system still trusts {root}: delete what is not wanted, then update-ca-certificates"
    )
    assert said(state, remove=True).endswith(left)
    assert root.exists()
    assert "still trusts" not in said(state, remove=False)


def test_debians_store_is_read_anew_without_what_is_gone() -> None:
    assert trust._reading(trust.STORES[0], remove=True) == ["update-ca-certificates", "--fresh"]
    assert trust._reading(trust.STORES[0], remove=False) == ["update-ca-certificates"]
