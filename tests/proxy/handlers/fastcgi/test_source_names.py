"""Whatever people and programs call a copy of a script, it is none that is sent."""

from __future__ import annotations

import pytest

from proxy.handlers.fastcgi.source_names import source_names

IS_SOURCE = source_names([".php", ".cgi", ".HT"])


@pytest.mark.parametrize(
    "name",
    ["config.php", "CONFIG.PHP", "x.phtml", "x.pht", "x.php5", "x.phps", "x.phar", "x.cgi", "x.ht",
     "config.php.gz", "config.php.br", "config.php.zst", "config.php.tar.gz", "config.php.zip",
     "config.php.7z", "config.php.xz", "config.php.bak", "config.php.BAK", "config.php.bak.gz",
     "config.php.1", "config.php~", "config.php.~1~", "#config.php#", "config.php_", "config.php-old",
     "config.php.2024-05-01", "config.php-2024.05.01", "config.php (copy)", "config.php copy 2",
     "config.php.dpkg-dist", "config.php.rpmsave", "config.php.swo", "config.php.txt", "config.php.sql",
     "config.phpold", "config.php.new", "config.php.", "config.php;", "config.php,v", "x.cgi.orig",
     "x.cgi.gz", "a/b.d/config.php.gz", "config.php.png.gz", "x.php.phtml", "logo.png.php"],
)  # fmt: skip
def test_a_script_and_each_copy_of_it_is_source(name: str) -> None:
    assert IS_SOURCE(name.encode())


@pytest.mark.parametrize(
    "name",
    ["readme.txt", "style.css", "style.css.gz", "php.ini", "php", "phpinfo", "a.php/readme.txt",
     "index.php.html", "logo.php.png", "api.php.json", "map.php.js", "x.php.css",
     "manual.php.pdf", "film.php.mp4", "x.cgic", "x.html", "x.htm", "photo.phone", "backup.zip"],
)  # fmt: skip
def test_what_is_made_for_browsers_is_none(name: str) -> None:
    assert not IS_SOURCE(name.encode())


def test_an_ending_of_the_sites_own_decides_before_its_type() -> None:
    assert source_names([".html"])(b"index.html")
    assert not source_names([".html"])(b"index.png")
