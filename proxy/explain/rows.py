"""The lines of a page, and how a value of the configuration is spelt there. Pure."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ..config.schema.own_filters import FilterUse
from ..config.schema.rules import UNLIMITED, BasicAuth
from ..config.values import ServiceUrl
from ..filters.code import FilterName


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the page. ``place``: where the configuration says so; "" for what is a default
    or follows from the request."""

    title: str
    text: str
    place: str = ""


def shown(value: object) -> str:
    """Spell a value as the configuration has it."""
    if isinstance(value, ServiceUrl | BasicAuth):
        return str(value)
    if value is None:
        return "null"
    if value == UNLIMITED:
        return "unlimited"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, FilterName):
        return str(value)
    if isinstance(value, FilterUse):  # what it is made of may be secret
        return f"{{use: {value.use}, timeout: {value.timeout:g}s}}"
    if hasattr(value, "__dataclass_fields__"):
        parts = ((one.name, getattr(value, one.name)) for one in fields(value))  # type: ignore[arg-type] # checked above
        return "{" + ", ".join(f"{name}: {shown(part)}" for name, part in parts) + "}"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(shown, value)) + "]"
    return str(value)
