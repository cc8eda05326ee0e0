"""The programs whose configurations can be read, and what a reader needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .draft import Draft, Reader

NAMES = ("nginx", "caddy", "traefik", "apache")


def reader(name: str) -> Reader:
    """The reader of a program; only its own module is loaded."""
    match name:
        case "nginx":
            from .nginx.servers import import_nginx

            return import_nginx
        case "caddy":
            from .caddy.reader import import_caddy

            return import_caddy
        case "traefik":
            from .traefik.reader import import_traefik

            return import_traefik
        case "apache":
            from .apache.reader import import_apache

            return import_apache
    raise ValueError(name)


def read(name: str, path: str) -> Draft:
    """Raises `draft.CannotRead`."""
    return reader(name)(path)
