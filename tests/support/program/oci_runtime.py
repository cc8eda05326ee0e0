#!/usr/bin/env python3
"""Stands between podman and runc where the machine's control groups are not what podman expects: in
a container, or with version 1. It has the name ``crun``, which podman lets run without them, and
takes out of each container's description what cannot be had here."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

RUNC = "/usr/sbin/runc"


def main(given: list[str]) -> None:
    words = []
    left = iter(given)
    for word in left:
        if word == "--cgroup-manager":
            next(left)
        elif not word.startswith("--cgroup-manager=") and word != "--systemd-cgroup":
            words.append(word)
    if "create" in words:
        path = Path(words[words.index("--bundle") + 1]) / "config.json"
        config = json.loads(path.read_text())
        config["mounts"] = [one for one in config["mounts"] if one["type"] != "cgroup"]
        config["process"]["rlimits"] = []
        config["linux"].pop("resources", None)
        config["linux"]["cgroupsPath"] = f"/th-{path.parent.parent.name}"
        path.write_text(json.dumps(config))
    if "exec" in words:
        path = Path(words[words.index("--process") + 1])
        path.write_text(json.dumps(json.loads(path.read_text()) | {"rlimits": []}))
    os.execv(RUNC, [RUNC, *words])


if __name__ == "__main__":
    main(sys.argv[1:])
