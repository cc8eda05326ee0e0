"""Whether a password fits a hash. Blocks for some time.

argon2id (RFC 9106) is what `hash-password` makes; bcrypt and yescrypt are what htpasswd files and
/etc/shadow have. Verifying is slow by design, so it belongs into a thread. Every verification does
the work of a hash, for an unknown user as well: how long it takes tells nobody which users there
are.
"""

from __future__ import annotations

import ctypes
import threading

import argon2
import bcrypt

# OWASP's recommendation for argon2id: 19 MiB, two passes, one lane. A login costs some 20 ms.
_HASHER = argon2.PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
# What the password of an unknown user is compared with.
_DUMMY = (
    "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA"
    "$hBHiVOvdrZ2TmPIOUnIRKGmXV3v0qqm5hS0pf1UMmDY"
)

_crypt_lock = threading.Lock()  # crypt(3) has one buffer for its answer


def hashed(password: str | bytes) -> str:
    """A new argon2id line for a password."""
    return _HASHER.hash(password)


def fits(line: str | None, password: bytes) -> bool:
    """Whether a password is the one of a hash; never of None, which costs as much."""
    if line is None:
        _argon2_fits(_DUMMY, password)
        return False
    if line.startswith("$argon2id$"):
        return _argon2_fits(line, password)
    if line.startswith("$2"):
        # bcrypt looks at 72 bytes; the library refuses more.
        return bcrypt.checkpw(password[:72], line.replace("$2y$", "$2b$", 1).encode())
    return _crypt_fits(line, password)


def _argon2_fits(line: str, password: bytes) -> bool:
    try:
        return _HASHER.verify(line, password)
    except (argon2.exceptions.VerifyMismatchError, argon2.exceptions.VerificationError):
        return False
    except argon2.exceptions.InvalidHash:
        return False


def _crypt_fits(line: str, password: bytes) -> bool:
    """By the system's crypt(3), which knows yescrypt and SHA-512."""
    if b"\0" in password:
        return False
    with _crypt_lock:
        answer: bytes | None = _libcrypt().crypt(password, line.encode())
    return answer is not None and answer == line.encode()


def _libcrypt() -> ctypes.CDLL:
    global _library
    if _library is None:
        _library = ctypes.CDLL("libcrypt.so.1")
        _library.crypt.restype = ctypes.c_char_p
        _library.crypt.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
    return _library


_library: ctypes.CDLL | None = None


def preload() -> None:
    """Load what later, in the sandbox, may be out of reach."""
    try:
        _libcrypt()
    except OSError:
        return  # a system without it has no such hashes either
