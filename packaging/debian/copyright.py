"""The copyright file of the package: the program's licence, and those of all that it carries.

python copyright.py SITE-PACKAGES LICENSE
"""

from __future__ import annotations

import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

_HEAD = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: treehouse-proxy
Comment:
 Below /usr/lib/treehouse-proxy lies the program with the Python packages that it
 needs, as they are on PyPI. The texts of their licences are beside each of them,
 in its .dist-info folder; that of the Apache License 2.0 is also in
 /usr/share/common-licenses/Apache-2.0.

Files: *
Copyright: {holder}
License: Expat
{text}
"""


def indented(text: str) -> str:
    return "\n".join(f" {line}" if line.strip() else " ." for line in text.strip().splitlines())


def licence(one: Distribution) -> str:
    """Return the licence as the package's metadata tell it: an expression, a class, or a word."""
    metadata = one.metadata
    classes = [
        word.split(" :: ")[-1]
        for word in metadata.get_all("Classifier") or []
        if word.startswith("License :: ") and word.count(" :: ") > 1
    ]
    word = (metadata.get("License") or "").strip()
    short = word if word and "\n" not in word and len(word) < 60 else ""
    return metadata.get("License-Expression") or short or ", ".join(classes) or "see its folder"


def author(one: Distribution) -> str:
    metadata = one.metadata
    for key in ("Author", "Author-email", "Maintainer", "Maintainer-email"):
        if metadata.get(key):
            return " ".join(metadata[key].split())
    return f"the authors of {metadata['Name']}"


def paragraphs(packages: Path, text: str) -> str:
    found = {one.metadata["Name"].lower(): one for one in distributions(path=[str(packages)])}
    found.pop("treehouse-proxy", None)
    holder = next(line for line in text.splitlines() if line.startswith("Copyright"))
    said = [
        _HEAD.format(holder=holder.removeprefix("Copyright (c) "), text=indented(_permission(text)))
    ]
    for _name, one in sorted(found.items()):
        folders = sorted({name.parts[0] for name in one.files or () if name.parts[0] != ".."})
        files = " ".join(f"usr/lib/treehouse-proxy/lib/*/site-packages/{name}" for name in folders)
        said.append(
            f"Files: {files}\nCopyright: {author(one)}\nLicense: {_short(licence(one))}\n"
            f" {licence(one)}; version {one.version}\n"
        )
    return "\n".join(said)


def _short(text: str) -> str:
    """Return the licence as one word, which is what the field's first line may have."""
    return text.replace(" OR ", " or ").replace(" AND ", " and ").replace(",", "")


def _permission(text: str) -> str:
    return text.split("\n\n", 2)[2] if text.count("\n\n") > 1 else text


def main() -> None:
    packages, text = Path(sys.argv[1]), Path(sys.argv[2]).read_text()
    sys.stdout.write(paragraphs(packages, text))


if __name__ == "__main__":
    main()
