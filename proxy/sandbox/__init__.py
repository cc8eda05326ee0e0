"""What each process may still do, and the kernel that sees to it.

    policy        what a process may do, computed from the configuration; said to people
    confinement   a process confined to its policy, for good
    landlock      the kernel's own interface

A policy is a value: `treehouse-proxy sandbox` prints the very one that is enforced.
"""

from __future__ import annotations

from .confinement import Applied, SandboxUnavailable, apply, footing, prepared
from .policy import Grant, Policy, Port, Role, describe, policies, scratch

__all__ = (
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
