"""What becomes of Apache's directives, in the text alone; tests/e2e/test_migration.py serves it."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Import

HOST = "<VirtualHost *:443>\nServerName a.test\n{}\n</VirtualHost>"


def routes(imported: Import, text: str) -> dict[str, dict[str, object]]:
    return imported("apache", HOST.format(text)).routes()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ProxyPreserveHost On\nProxyPass / http://127.0.0.1:1/",
         {"/*": {"backend": "http://127.0.0.1:1"}}),
        ("ProxyPass / http://127.0.0.1:1/v1/",
         {"/*": {"backend": "http://127.0.0.1:1/v1", "preserve_host": False}}),
        ("ProxyPreserveHost On\nProxyPass / unix:/run/a.sock|http://localhost/",
         {"/*": {"backend": "unix:/run/a.sock"}}),
        ("DocumentRoot /www\nRedirect permanent /a https://b.test/x",
         {"/a": {"redirect": "https://b.test/x", "status": 301},
          "/a/*": {"redirect": "https://b.test/x/{rest}", "status": 301},
          "/*": {"root": "/www"}}),
        ("DocumentRoot /www\nRewriteEngine On\nRewriteRule ^/a/(.*)$ /b/$1 [R=301,L]",
         {"/a/*": {"redirect": "/b/{rest}", "status": 301}, "/*": {"root": "/www"}}),
        ("DocumentRoot /www\nRewriteEngine On\nRewriteRule ^/a/(.*)$ /b/$1 [L]",
         {"/a/*": {"rewrite": "/b/{rest}", "root": "/www"}, "/*": {"root": "/www"}}),
        ("DocumentRoot /www\n<Directory /www/x>\nRequire ip 10 192.168.1\n</Directory>",
         {"/x/*": {"root": "/www/x", "allow": ["10.0.0.0/8", "192.168.1.0/24"]},
          "/*": {"root": "/www"}}),
        ("DocumentRoot /www\n<Location /x>\nRequire all denied\n</Location>",
         {"/x": {"root": "/www", "deny": ["0.0.0.0/0", "::/0"]},
          "/x/*": {"root": "/www/x", "deny": ["0.0.0.0/0", "::/0"]}, "/*": {"root": "/www"}}),
        ("DocumentRoot /www\n<Location />\nOrder deny,allow\nDeny from all\nAllow from 10.0.0.0/8\n</Location>",
         {"/*": {"root": "/www", "allow": ["10.0.0.0/8"]}}),
        ('DocumentRoot /www\nExpiresActive On\nExpiresByType text/css "access plus 1 month"\nExpiresDefault A60',
         {"/*": {"root": "/www", "cache_control": {"*.css": "max-age=2592000", "*": "max-age=60"}}}),
        ("DocumentRoot /www\n<Directory /www>\nOptions Indexes\n</Directory>",
         {"/*": {"root": "/www", "listing": True}}),
        ("DocumentRoot /www\n<IfModule !mod_x.c>\nRedirect / https://b.test/\n</IfModule>",
         {"/*": {"root": "/www"}}),
    ],
)  # fmt: skip
def test_directives_and_what_they_become(
    text: str, expected: dict[str, object], imported: Import
) -> None:
    assert routes(imported, text) == expected


@pytest.mark.parametrize(
    "guard",
    [
        "Require user alice",
        "Require host office.test",
        "AuthType Digest\nAuthName x\nAuthUserFile /p\nRequire valid-user",
        "AuthType Basic\nRequire valid-user",
        "<RequireAny>\nRequire ip 10.0.0.0/8\n<RequireAll>\nRequire valid-user\n</RequireAll>\n</RequireAny>",
    ],
)
def test_what_was_guarded_is_closed_where_the_guard_is_left_out(
    guard: str, imported: Import
) -> None:
    made = imported("apache", HOST.format(f"DocumentRoot /www\n<Location />\n{guard}\n</Location>"))
    assert made.site("a.test")["deny"] == ["0.0.0.0/0", "::/0"]
    assert any("closed to everybody" in one for one in made.left)


def test_an_address_or_a_password_becomes_both(imported: Import) -> None:
    guard = "AuthType Basic\nAuthName x\nAuthUserFile /p\nRequire ip 10.0.0.0/8\nRequire valid-user"
    made = imported("apache", HOST.format(f"DocumentRoot /www\n<Location />\n{guard}\n</Location>"))
    found = made.site("a.test")
    assert (found["allow"], found["basic_auth"]["users_file"]) == (["10.0.0.0/8"], "/p")
    assert "an address or a password was enough" in made.left[0]


def test_a_htaccess_file_is_read_where_it_counts(imported: Import, tmp_path: Path) -> None:
    text = HOST.format(
        f"DocumentRoot {tmp_path}/www\n<Directory {tmp_path}/www>\nAllowOverride All\n</Directory>"
    )
    rule = "RewriteEngine On\nRewriteRule ^old/(.*)$ /new/$1 [R=301,L]\n"
    made = imported("apache", text, www__x="", **{"www__.htaccess": rule})
    assert made.route("/old/*")["redirect"] == "/new/{rest}"
    made = imported("apache", text.replace("All", "None"), **{"www__.htaccess": rule})
    assert "routes" not in made.site("a.test")


def test_names_that_are_sent_to_another_name_are_a_site_of_their_own(imported: Import) -> None:
    made = imported("apache", HOST.format("""ServerAlias www.a.test
DocumentRoot /www
RewriteEngine On
RewriteCond %{HTTP_HOST} ^www\\. [NC]
RewriteRule ^ https://a.test%{REQUEST_URI} [R=301,L]"""))  # fmt: skip
    assert made.site("www.a.test") == {
        "names": ["www.a.test"], "redirect": "https://a.test{path}", "status": 301,
    }  # fmt: skip


def test_methods_that_are_denied_are_refused(imported: Import) -> None:
    made = imported("apache", HOST.format("""DocumentRoot /www
<Location /x>
<LimitExcept GET POST>
Require all denied
</LimitExcept>
</Location>"""))  # fmt: skip
    mine = [one for one in made.site("a.test")["routes"] if one["path"] == "/x/*"]
    assert mine[0]["methods"] == ["GET", "POST", "HEAD"]
    assert mine[1]["respond"] == {"status": 403}


def test_a_section_that_nobody_knows_is_told_first_where_it_guards(imported: Import) -> None:
    made = imported("apache", HOST.format("""DocumentRoot /www
Substitute "s/a/b/"
<If "%{HTTP_USER_AGENT} =~ /bot/">
Require all denied
</If>"""))  # fmt: skip
    assert "<If" in made.left[0]
    assert made.draft.all_left()[0].guard


def test_a_guard_of_all_backends(imported: Import) -> None:
    made = imported("apache", HOST.format("""ProxyPass / http://127.0.0.1:1/
<Proxy *>
Require ip 10.0.0.0/8
</Proxy>"""))  # fmt: skip
    assert made.site("a.test")["allow"] == ["10.0.0.0/8"]
    assert not made.left


def test_no_script_is_run_where_scripts_are_denied(imported: Import) -> None:
    made = imported("apache", HOST.format("""DocumentRoot /www
<FilesMatch \\.php$>
SetHandler "proxy:unix:/run/php.sock|fcgi://localhost"
</FilesMatch>
<Directory /www/uploads>
<FilesMatch "\\.php$">
Require all denied
</FilesMatch>
</Directory>
<Files xmlrpc.php>
Require all denied
</Files>"""))  # fmt: skip
    assert "fastcgi" in made.route("/*")
    assert made.route("/uploads/*") == {"path": "/uploads/*", "root": "/www/uploads"}
    assert made.route("/xmlrpc.php")["respond"] == {"status": 403}


def test_a_refusal_by_field_and_method(imported: Import) -> None:
    made = imported("apache", HOST.format("""ProxyPass / http://127.0.0.1:1/
RewriteEngine On
RewriteCond %{HTTP_USER_AGENT} (bot|scraper) [NC]
RewriteRule .* - [F]
RewriteCond %{REQUEST_METHOD} ^(TRACE|TRACK)
RewriteRule .* - [F]"""))  # fmt: skip
    one, two, three = made.site("a.test")["routes"]
    assert one["match"] == {"header": {"User-Agent": "re:(?i)(bot|scraper)"}}
    assert (two["methods"], two["respond"]) == (["TRACE", "TRACK"], {"status": 403})
    assert three["backend"] == "http://127.0.0.1:1"


def test_of_the_user_the_group_alone_is_taken_over(imported: Import) -> None:
    made = imported("apache", f"User www-data\nGroup web\n{HOST.format('DocumentRoot /www')}")
    assert "user" not in made.tree
    assert made.tree["group"] == "web"
    assert "they would read the keys" in made.text
    made = imported("apache", f"User ${{APACHE_RUN_USER}}\n{HOST.format('DocumentRoot /www')}")
    assert not {"user", "group"} & set(made.tree)
