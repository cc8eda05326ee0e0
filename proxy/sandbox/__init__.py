"""What each process may do once it is confined, and how the kernel is told.

    policy        what a process may do, computed from the configuration
    grants        the values that a policy is made of, and how they read
    paths         where the interpreter, our code and trusted CAs are on this machine
    confinement   a process confined to its policy, for good
    landlock      the kernel's own interface

A policy is a value: `treehouse-proxy sandbox` prints the very one that is enforced.
"""

from __future__ import annotations

from .confinement import Applied, SandboxUnavailable, apply, footing, prepared
from .grants import NOTHING, Grant, Policy, Port, Role, describe
from .policy import policies, scratch

__all__ = (
    "NOTHING",
    "Applied",
    "Grant",
    "Policy",
    "Port",
    "Role",
    "SandboxUnavailable",
    "apply",
    "describe",
    "footing",
    "policies",
    "prepared",
    "scratch",
)
