"""Which names are those of scripts' sources, and of copies of them. Pure.

A script is run; its text holds passwords, and is for nobody to read. People and programs leave
copies beside a script, and the web server that is asked for a copy knows no script by that name:
config.php~ (editors), config.php.bak, config.php-2024-05-01, config.php.dpkg-old, config.php.gz
(whoever compresses a folder beforehand), config.php.zip. nginx and Caddy send all of them. No list
of such suffixes is ever complete, so the rule is the other way round: what has the ending of a
script within its name is source, unless the name ends as a page, a picture or the like does
(index.php.html, logo.php.png), which browsers show as that and which no copy is called.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from ..files.media_types import content_type

# Endings of source that no server shows (Debian's mod_php: "ph(ar|p|tml)" and "phps"), whatever
# the site's scripts are called, and whatever follows: .php5, .phps, .phpold.
_ALWAYS = rb"php|phtml|pht|phar"
# Types of what is made for browsers: a file of these is no copy of a script. Plain text is what a
# copy looks like (wp-config.php.txt), and archives hold one.
_SHOWN = re.compile(
    rb"(?:image|audio|video|font)/|text/(?:html|css|javascript|markdown|csv|xml|vtt)(?:;|\Z)"
    rb"|application/(?:json|pdf|wasm|xhtml\+xml|rss\+xml|atom\+xml)\Z"
)


def source_names(endings: Sequence[str]) -> Callable[[bytes], bool]:
    """Return the test of whether a file's name, without or with its folders, is one of a source or
    of a copy. ``endings`` are those of the site's scripts, like ``.php``."""
    own = b"|".join(re.escape(ending[1:].encode()) for ending in endings)
    # Of the site's own ending nothing may be a mere beginning: .h is not .html.
    script = re.compile(rb"\.(?:(?:%b)|(?:%b)(?![A-Za-z0-9]))" % (_ALWAYS, own), re.IGNORECASE)
    script_at_end = re.compile(rb"\.(?:%b|%b)\Z" % (_ALWAYS, own), re.IGNORECASE)

    def is_source(name: bytes) -> bool:
        last = name.rpartition(b"/")[2]
        if script.search(last) is None:
            return False
        return script_at_end.search(last) is not None or not _SHOWN.match(content_type(last))

    return is_source
