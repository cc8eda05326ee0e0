"""Files and scripts: ``file_server`` and ``php_fastcgi``, below the ``root`` that holds there."""

from __future__ import annotations

from ..word_lists import words
from .blocks import State
from .tokens import Directive

_PHP_NEEDLESS = words(
    """
    try_files split resolve_root_symlink capture_stderr dial_timeout read_timeout write_timeout
    index
    """
)


def _folder(state: State, one: Directive) -> bool:
    """Say which folder the files of a shape lie in."""
    route = state.route
    for each in one.inner("root"):
        state.root = (each.args[0] if each.args else "", each.place)
    if state.root is None:
        route.leave(one.place, str(one), "no root says in which folder the files are")
        return False
    folder, place = state.root
    if "{" in folder:
        route.leave(place, f"root {folder}", "a folder has a name without placeholders")
        return False
    folder = folder.rstrip("/") or "/"
    if not folder.startswith("/"):
        route.leave(place, f"root {folder}", "the folder is named in full here")
        return False
    path = route.path
    if "rewrite" in route.keys:
        pass  # by its new path a file is looked for below the whole root
    elif path.endswith("/*") and path != "/*" and state.stripped != path[:-2]:
        below = path[:-2].removeprefix(state.stripped) if state.stripped else path[:-2]
        folder = f"{folder.rstrip('/')}{below}"
    route.put("root", folder, place)
    beneath = route.value("_whole")
    if beneath:
        del route.keys["_whole"]
        if folder.endswith(beneath) and not state.stripped:
            route.serve_whole(folder.removesuffix(beneath), place)
    return True


def file_server(one: Directive, args: list[str], state: State) -> None:
    if not _folder(state, one):
        return
    route = state.route
    if "browse" in args or one.inner("browse"):
        route.put("listing", True, one.place)
    for each in one.block or ():
        match each.name:
            case (
                "root"
                | "browse"
                | "precompressed"
                | "disable_canonical_uris"
                | "etag_file_extensions"
            ):
                pass
            case "index":
                route.put("index", each.args, each.place)
            case "hide":
                names = [name for name in each.args if not name.rpartition("/")[2].startswith(".")]
                if names:
                    said = f"hide {' '.join(names)}"
                    route.leave(each.place, said, "what lies in root is sent", guard=True)
            case _:
                route.leave(each.place, str(each), "it has no counterpart here")


def php_fastcgi(one: Directive, args: list[str], state: State) -> None:
    route = state.route
    if not args or not _folder(state, one):
        return
    address = args[0]
    where = (
        f"unix:{address.removeprefix('unix/')}"
        if address.startswith("unix/")
        else f"tcp://{address}"
    )
    if len(args) > 1:
        route.leave(one.place, str(one), "scripts are run in one place")
    controller = "/index.php" if route.path == "/*" or state.stripped else ""
    params: dict[str, str] = {}
    for each in one.block or ():
        if each.name == "index" and each.args[:1] == ["off"]:
            controller = ""
        elif each.name == "index" and each.args[:1] not in ([], ["index.php"]):
            controller = f"/{each.args[0]}"
        elif each.name == "env" and len(each.args) == 2 and "{" not in each.args[1]:
            params[each.args[0]] = each.args[1]
        elif each.name == "env":
            why = "what is told to scripts beside CGI's parameters has no placeholders"
            route.leave(each.place, str(each), why)
        elif each.name not in _PHP_NEEDLESS:
            route.leave(each.place, str(each), "it has no counterpart here")
    route.run_scripts(where, one.place, controller, params)
