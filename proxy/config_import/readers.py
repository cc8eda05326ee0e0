"""Finds the reader of a program, and loads that one alone: nginx's needs crossplane."""

from __future__ import annotations

from .draft import CannotRead, Draft, Reader


def reader(name: str) -> Reader:
    """Return the reader of a program. Raises ValueError for a program that has none."""
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
    """Read a program's configuration. Raises `draft.CannotRead`."""
    chosen = reader(name)
    try:
        return chosen(path)
    except RecursionError:
        raise CannotRead(f"{path}: its blocks are nested too deep") from None
