"""The state directory: made, and put right, before the privileges go.

It holds private keys, so it belongs to the server's user alone (0700), and so does all it contains
(nothing for group and others). What differs is corrected while still root; without root, and for
what no correction is safe for, the program refuses and names the command that mends it.

Root changes owners here, which is what makes it hard: whoever can write to the directory, or to one
on the way to it, may try to have root give away something else. Therefore

- the way there is walked component by component on descriptors, and a symbolic link is followed
  only where nobody but root can have put it;
- a directory is taken away from everybody (root, 0700) before its entries are looked at, so that
  what was looked at is what is changed; only then may hard links be counted;
- a file with a second name elsewhere, a symbolic link that leads out, a device or a pipe is
  refused, not changed;
- a directory that everybody shares, or that holds anything the server does not put there, is not
  taken over: `state: /etc` is a mistake to be reported, not a wish to be granted. What somebody
  has put into one that is the server's already, a copy or a note, is left as it is.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from acme_client.late_dataclass import dataclass
from acme_client.storage.store import FOLDERS

# The documented top level; a file on its way to one of these names begins with it.
_OURS = (*FOLDERS, "control.sock", "server.lock", "alerts.json", "alerts.version-")
_NOT_OURS_BUT_HARMLESS = ("lost+found",)  # the root of a file system of its own
_DEPTH = 8  # directories; the layout needs three
_LINKS = 40  # symbolic links on the way, as many as the kernel follows
_OTHERS = 0o077
_WALK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class StateUnusable(Exception):
    """The text says what is wrong and which command mends it."""


@dataclass(frozen=True, slots=True)
class _Owner:
    uid: int
    gid: int
    as_root: bool  # this process is root and acts for the owner

    def has(self, info: os.stat_result) -> bool:
        # The group has no access, so without root (which could change it) it does not matter.
        return info.st_uid == self.uid and (info.st_gid == self.gid or not self.as_root)

    def may_enter(self, info: os.stat_result) -> bool:
        if info.st_uid == self.uid:
            return bool(info.st_mode & stat.S_IXUSR)
        return bool(info.st_mode & (stat.S_IXGRP if info.st_gid == self.gid else stat.S_IXOTH))


def prepare(path: Path, uid: int, gid: int, *, touch: bool = True) -> list[str]:
    """Make the directory, or put it right, for this user; says what was done. Without root, for
    the user that we are. Without ``touch`` nothing is changed, and nothing said. Raises
    `StateUnusable`."""
    as_root = os.geteuid() == 0
    owner = _Owner(uid, gid, True) if as_root else _Owner(os.geteuid(), os.getegid(), False)
    path = Path(os.path.abspath(path))
    try:
        handle, created = _reach(path, owner, touch)
        if handle is None:
            return []
        try:
            if os.fstatvfs(handle).f_flag & os.ST_RDONLY:
                raise StateUnusable(f"{path}: mounted read-only; choose another: --state DIR")
            return _put_right(handle, path, owner, created, touch)
        finally:
            os.close(handle)
    except PermissionError as error:
        where = error.filename if isinstance(error.filename, str) else str(path)
        make = f"sudo install -d -m 0700 -o {owner.uid} -g {owner.gid} {path}"
        raise StateUnusable(
            f"{path}: permission denied at {where!r} (make it: {make}; or choose another: "
            "--state DIR)"
        ) from None
    except OSError as error:
        raise StateUnusable(f"{path}: {error.strerror}; choose another: --state DIR") from None


# The way there


def _reach(path: Path, owner: _Owner, touch: bool) -> tuple[int | None, bool]:
    """A descriptor of the directory, and whether it is new. What is missing is made; without
    ``touch`` there is no descriptor then."""
    at, created = os.open("/", _WALK), False
    walked, todo, links = "", list(reversed(path.parts[1:])), 0
    try:
        while todo:
            name = todo.pop()
            _require_entry(at, walked or "/", owner)
            try:
                info = os.stat(name, dir_fd=at, follow_symlinks=False)
            except FileNotFoundError:
                if not touch:
                    _require_writable(walked or "/", owner)
                    return None, False
                _make(at, name, 0o755 if todo and owner.as_root else 0o700)
                info, created = os.stat(name, dir_fd=at, follow_symlinks=False), True
            if stat.S_ISLNK(info.st_mode):
                links += 1
                if links > _LINKS or (owner.as_root and not _put_by_root(at, info)):
                    raise StateUnusable(
                        f"{walked}/{name}: a symbolic link that somebody else than root may have "
                        "made is not followed as root; name the directory it leads to"
                    )
                target = os.readlink(name, dir_fd=at)
                todo += reversed([part for part in target.split("/") if part])
                if target.startswith("/"):
                    at, walked = _step(at, "/"), ""
            else:
                at, walked = _step(at, name), f"{walked}/{name}"
        return os.open(".", _LIST, dir_fd=at), created
    except NotADirectoryError:
        raise StateUnusable(f"{walked}/{name}: not a directory") from None
    finally:
        os.close(at)


def _require_writable(directory: str, owner: _Owner) -> None:
    if os.statvfs(directory).f_flag & os.ST_RDONLY:
        raise StateUnusable(f"{directory}: mounted read-only; choose another: --state DIR")
    if not owner.as_root and not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), directory)


def _make(at: int, name: str, mode: int) -> None:
    # A chmod afterwards could hit something else by then.
    umask = os.umask(0)
    try:
        os.mkdir(name, mode, dir_fd=at)
    finally:
        os.umask(umask)


def _step(at: int, name: str) -> int:
    below = os.open(name, _WALK | os.O_DIRECTORY, dir_fd=at)
    os.close(at)
    return below


def _put_by_root(directory: int, link: os.stat_result) -> bool:
    info = os.fstat(directory)
    writable = info.st_mode & 0o022 and not info.st_mode & stat.S_ISVTX
    return link.st_uid == 0 and info.st_uid == 0 and not writable


def _require_entry(directory: int, shown: str, owner: _Owner) -> None:
    if owner.as_root and not owner.may_enter(os.fstat(directory)):
        raise StateUnusable(
            f"{shown}: uid {owner.uid} may not pass through it (sudo chmod o+x {shown}; or choose "
            "another: --state DIR)"
        )


# What is there


def _put_right(handle: int, path: Path, owner: _Owner, created: bool, touch: bool) -> list[str]:
    if created:
        if owner.as_root:
            os.fchown(handle, owner.uid, owner.gid)
        os.fchmod(handle, 0o700)
        return [f"made {path} for uid {owner.uid}, who alone may enter it"]
    info = os.fstat(handle)
    open_to_others = info.st_mode & 0o011
    wrong: list[_Wrong] = []
    _survey(handle, str(path), info, owner, _DEPTH, wrong)
    if owner.has(info) and stat.S_IMODE(info.st_mode) == 0o700:
        # Nobody but root and the server's user can have put anything there.
        wrong = [one for one in wrong if _is_ours(one.path.removeprefix(f"{path}/"))]
    if not wrong:
        return []
    if wrong[0].path == str(path):
        _require_ours(handle, path)
    _require_possible(wrong, path, owner)
    if not touch:
        return []
    _mend(handle, str(path), owner, _DEPTH)
    first = wrong[0]
    done = [
        f"{first.path} was uid {first.uid}, gid {first.gid}, mode {first.mode:04o}: corrected"
        + (f", and {len(wrong) - 1} more in {path}" if wrong[1:] else "")
    ]
    exposed = [
        one.path
        for one in wrong
        if one.is_file and (one.uid not in (0, owner.uid) or (open_to_others and one.mode & 0o044))
    ]
    if exposed:
        done.append(f"{exposed[0]} could be read by others until now: renew it if it is secret")
    return done


@dataclass(frozen=True, slots=True)
class _Wrong:
    path: str
    uid: int
    gid: int
    mode: int
    is_file: bool


def _survey(
    directory: int,
    shown: str,
    info: os.stat_result,
    owner: _Owner,
    depth: int,
    wrong: list[_Wrong],
) -> None:
    """Add to ``wrong`` the entries that need correction, the directory first. ``info``: how the
    directory is. Only a survey: nothing relies on it. Ten thousand certificates have a hundred
    thousand entries, so it does for each no more than it must."""
    if not owner.has(info) or stat.S_IMODE(info.st_mode) != 0o700:
        wrong.append(_describe(shown, info))
    for name in sorted(os.listdir(directory)):
        try:
            info = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if stat.S_ISDIR(info.st_mode):
                handle = os.open(name, _LIST, dir_fd=directory)
            else:
                if not owner.has(info) or not _is_fine(directory, name, info):
                    wrong.append(_describe(f"{shown}/{name}", info))
                continue
        except FileNotFoundError:
            continue  # a server that runs here has just renamed it
        except PermissionError:
            wrong.append(_describe(f"{shown}/{name}", info))
            continue
        try:
            if depth:
                _survey(handle, f"{shown}/{name}", info, owner, depth - 1, wrong)
        finally:
            os.close(handle)


def _is_fine(directory: int, name: str, info: os.stat_result) -> bool:
    if stat.S_ISLNK(info.st_mode):
        return _leads_below(directory, name)
    return stat.S_ISSOCK(info.st_mode) or (
        stat.S_ISREG(info.st_mode) and not info.st_mode & _OTHERS
    )


def _leads_below(directory: int, name: str) -> bool:
    """Whether a link is of the store's own kind, which names the version in use. Root never follows
    one."""
    parts = os.readlink(name, dir_fd=directory).split("/")
    return all(part not in ("", ".", "..") for part in parts)


def _describe(path: str, info: os.stat_result) -> _Wrong:
    mode = stat.S_IMODE(info.st_mode)
    return _Wrong(path, info.st_uid, info.st_gid, mode, stat.S_ISREG(info.st_mode))


def _require_possible(wrong: list[_Wrong], path: Path, owner: _Owner) -> None:
    if wrong[0].path == str(path) and wrong[0].mode & 0o002:
        raise StateUnusable(
            f"{path}: everybody may write to it, so it is not taken over (sudo chmod go= {path} if "
            "it is meant for the server alone; or choose another: --state DIR)"
        )
    foreign = [one for one in wrong if one.uid != owner.uid]
    if foreign and not owner.as_root:
        raise StateUnusable(
            f"{foreign[0].path}: belongs to uid {foreign[0].uid}, and this is uid {owner.uid} "
            f"(sudo chown -R {owner.uid}:{owner.gid} {path} && sudo chmod -R go= {path})"
        )


def _is_ours(name: str) -> bool:
    """Whether the server puts an entry of this name into the directory, or below it."""
    return name.startswith(_OURS) or name.partition("/")[0] in _NOT_OURS_BUT_HARMLESS


def _require_ours(handle: int, path: Path) -> None:
    for name in sorted(os.listdir(handle)):
        if not _is_ours(name):
            raise StateUnusable(
                f"{path}: holds {name!r}, which the server did not put there, and so its owner "
                "and mode are not touched; name an empty or a new directory: --state DIR"
            )


def _mend(directory: int, shown: str, owner: _Owner, depth: int) -> None:
    """Put the directory and all below right. Refuses in the middle rather than change what may
    not be the server's; the directory itself is the owner's in any case."""
    if depth == 0:
        raise StateUnusable(f"{shown}: deeper than anything the server makes; remove it")
    if owner.as_root:
        os.fchown(directory, 0, 0)
    os.fchmod(directory, 0o700)
    # From here on only root, or the owner without root, can change what is in it.
    try:
        for name in sorted(os.listdir(directory)):
            if depth == _DEPTH and not _is_ours(name):
                continue
            _mend_entry(directory, name, f"{shown}/{name}", owner, depth)
    finally:
        if owner.as_root:
            os.fchown(directory, owner.uid, owner.gid)


def _mend_entry(directory: int, name: str, shown: str, owner: _Owner, depth: int) -> None:
    info = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if stat.S_ISDIR(info.st_mode):
        if not owner.as_root:
            os.chmod(name, 0o700, dir_fd=directory)  # our own may lack what listing needs
        handle = os.open(name, _LIST, dir_fd=directory)
        try:
            _mend(handle, shown, owner, depth - 1)
        finally:
            os.close(handle)
        return
    if stat.S_ISLNK(info.st_mode) and _leads_below(directory, name):
        if owner.as_root:
            os.chown(name, owner.uid, owner.gid, dir_fd=directory, follow_symlinks=False)
        return
    if not (stat.S_ISREG(info.st_mode) or stat.S_ISSOCK(info.st_mode)):
        raise StateUnusable(f"{shown}: neither a file nor a directory; remove it: sudo rm {shown}")
    if info.st_nlink != 1:
        raise StateUnusable(
            f"{shown}: has a second name outside (a hard link), so it may be somebody else's; "
            f"replace it by a copy: sudo cp {shown} {shown}.copy && sudo mv {shown}.copy {shown}"
        )
    if owner.as_root:
        os.chown(name, owner.uid, owner.gid, dir_fd=directory, follow_symlinks=False)
    if info.st_mode & _OTHERS:
        os.chmod(name, 0o600, dir_fd=directory)
