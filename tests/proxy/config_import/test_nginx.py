"""What becomes of nginx's directives, in the text alone; tests/e2e/test_migration.py serves it."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config_import.draft import CannotRead

from .conftest import Import

SERVER = "server {{ listen 443 ssl; server_name a.test; {} }}"


def routes(imported: Import, text: str, more: str = "") -> dict[str, dict[str, object]]:
    return imported("nginx", f"{more}\n{SERVER.format(text)}").routes()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("location / { proxy_pass http://127.0.0.1:1; proxy_set_header Host $host; }",
         {"/*": {"backend": "http://127.0.0.1:1"}}),
        ("location / { proxy_pass http://127.0.0.1:1; proxy_set_header Host app.internal:81; }",
         {"/*": {"backend": "http://127.0.0.1:1", "request_headers": {"host": "app.internal:81"}}}),
        ("location / { proxy_pass http://127.0.0.1:1; }",
         {"/*": {"backend": "http://127.0.0.1:1", "preserve_host": False}}),
        ("location / { proxy_pass http://127.0.0.1:1/v1; proxy_set_header Host $http_host; }",
         {"/*": {"backend": "http://127.0.0.1:1/v1"}}),
        ("location = /x { proxy_pass http://unix:/run/a.sock:/y; proxy_set_header Host $host; }",
         {"/x": {"backend": "unix:/run/a.sock", "rewrite": "/y"}}),
        ("location / { set $up http://127.0.0.1:1; proxy_pass $up; proxy_set_header Host $host; }",
         {"/*": {"backend": "http://127.0.0.1:1"}}),
        ("location / { grpc_pass grpc://127.0.0.1:1; }", {"/*": {"backend": "h2c://127.0.0.1:1"}}),
        ("root /www; location /s/ { alias /files/; }",
         {"/s/*": {"root": "/files"}, "/*": {"root": "/www"}}),
        ("root /www; location /s/ { try_files $uri /index.html; }",
         {"/s/*": {"root": "/www", "rewrite": "/s/{rest}", "fallback": "/index.html"},
          "/*": {"root": "/www"}}),
        ("root /www; location /s/ { try_files $uri /s/index.html; }",
         {"/s/*": {"root": "/www/s", "fallback": "/index.html"}, "/*": {"root": "/www"}}),
        ("return 410;", {"/*": {"respond": {"status": 410}}}),
        ('return 200 "a\\nb";',
         {"/*": {"respond": {"status": 200, "body": "a\nb", "content_type": "text/plain"}}}),
        ("return 301 https://b.test$request_uri;",
         {"/*": {"redirect": "https://b.test{path}", "status": 301}}),
        ("root /www; rewrite ^/a/(.*)$ /b/$1 permanent;",
         {"/a/*": {"redirect": "/b/{rest}", "status": 301}, "/*": {"root": "/www"}}),
        ("root /www; rewrite ^/a/(.*)$ /b/$1 last;",
         {"/a/*": {"rewrite": "/b/{rest}", "root": "/www"}, "/*": {"root": "/www"}}),
        ("root /www; location ~ ^/(a|b)/ { return 403; }",
         {"/a/*": {"respond": {"status": 403}}, "/b/*": {"respond": {"status": 403}},
          "/*": {"root": "/www"}}),
        (r"root /www; location ~* \.(jpe?g|css)$ { expires 1h; }",
         {"/*": {"root": "/www", "cache_control": {"*.jpeg,*.jpg,*.css": "max-age=3600"}}}),
        ("root /www; allow 10.0.0.0/8; deny all;", {"/*": {"root": "/www", "allow": ["10.0.0.0/8"]}}),
        ("root /www; deny all;", {"/*": {"root": "/www", "deny": ["0.0.0.0/0", "::/0"]}}),
        ("root /www; deny 10.1.0.0/16; allow 10.0.0.0/8; deny all;",
         {"/*": {"root": "/www", "allow": ["10.0.0.0/8"], "deny": ["10.1.0.0/16"]}}),
        ("root /www; gzip off;", {"/*": {"root": "/www", "compress": False}}),
        ("root /www; error_page 404 =200 /index.html;",
         {"/*": {"root": "/www", "fallback": "/index.html"}}),
    ],
)  # fmt: skip
def test_a_directive_and_what_it_becomes(
    text: str, expected: dict[str, object], imported: Import
) -> None:
    assert routes(imported, text) == expected


@pytest.mark.parametrize(
    ("servers", "expected"),
    [
        ("server 127.0.0.1:1; server 127.0.0.1:2 weight=3;",
         {"backend": ["http://127.0.0.1:1", {"url": "http://127.0.0.1:2", "weight": 3}]}),
        ("ip_hash; server 127.0.0.1:1; server 127.0.0.1:2 down;",
         {"backend": "http://127.0.0.1:1", "balance": "hash"}),
        ("hash $http_x_user consistent; server 127.0.0.1:1;",
         {"backend": "http://127.0.0.1:1", "balance": "hash", "hash_by": "header:x-user"}),
        ("least_conn; server unix:/run/a.sock; keepalive 8;",
         {"backend": "unix:/run/a.sock", "balance": "least_conn"}),
    ],
)  # fmt: skip
def test_an_upstream(servers: str, expected: dict[str, object], imported: Import) -> None:
    text = "location / { proxy_pass http://up; proxy_set_header Host $host; }"
    assert routes(imported, text, f"upstream up {{ {servers} }}") == {"/*": expected}


def test_a_location_without_slash_is_two_routes_and_what_it_took_more_is_told(
    imported: Import,
) -> None:
    made = imported("nginx", SERVER.format(
        "location /adm { proxy_pass http://127.0.0.1:1; auth_basic x; auth_basic_user_file /p; }"
    ))  # fmt: skip
    assert {one["path"] for one in made.site("a.test")["routes"]} == {"/adm", "/adm/*"}
    assert any("/adm took /admxyz as well" in one for one in made.left)


@pytest.mark.parametrize(
    "guard",
    [
        "auth_basic x;",  # no file
        "auth_request /none;",
        "allow 10.0.0.0/8; deny office; deny all;",
        "ssl_verify_client on;",
    ],
)
def test_what_was_guarded_is_closed_where_the_guard_is_left_out(
    guard: str, imported: Import
) -> None:
    made = imported("nginx", SERVER.format(f"root /www; {guard}"))
    assert made.site("a.test")["deny"] == ["0.0.0.0/0", "::/0"]
    assert "closed to everybody" in made.left[0]


def test_a_guard_of_an_expression_closes_the_folder_that_it_names(imported: Import) -> None:
    made = imported("nginx", SERVER.format(
        r"root /www; location ~ ^/staff/[0-9]+\.html$ { auth_basic x; auth_basic_user_file /p; }"
    ))  # fmt: skip
    assert made.route("/staff/*")["respond"] == {"status": 403}
    assert "location ~ ^/staff/" in made.left[0]


def test_other_methods_than_the_allowed_do_not_try_on(imported: Import) -> None:
    """A route that takes only some methods would hand the others to the next one."""
    found = imported("nginx", SERVER.format(
        "location / { proxy_pass http://127.0.0.1:1; }"
        "location /ro/ { limit_except GET { deny all; } proxy_pass http://127.0.0.1:1; }"
    )).site("a.test")["routes"]  # fmt: skip
    mine = [one for one in found if one["path"] == "/ro/*"]
    assert mine[0]["methods"] == ["GET", "HEAD"]
    assert mine[1]["respond"] == {"status": 403}
    assert "methods" not in mine[1]


def test_a_stricter_reading_where_deny_came_behind_allow(imported: Import) -> None:
    made = imported(
        "nginx", SERVER.format("root /www; allow 10.0.0.5; deny 10.0.0.0/8; allow all;")
    )
    assert made.site("a.test")["deny"] == ["10.0.0.0/8"]
    assert "here deny wins" in made.left[0]


@pytest.mark.parametrize(
    ("directive", "group"),
    [("user www-data;", "www-data"), ("user www-data web;", "web"), ("user root;", None)],
)
def test_of_the_user_the_group_alone_is_taken_over(
    directive: str, group: str | None, imported: Import
) -> None:
    """PHP runs as that user. It never could read nginx's keys, which stayed root's."""
    made = imported("nginx", f"{directive}\nhttp {{ {SERVER.format('root /www;')} }}")
    assert "user" not in made.tree
    assert made.tree.get("group") == group
    assert ("they would read the keys" in made.text) is (group is not None)


def test_port_80_that_leads_to_https_needs_nothing(imported: Import) -> None:
    text = (
        "server { listen 80; server_name a.test; "
        "location /.well-known/acme-challenge/ { root /w; } location / { return 301 https://$host$request_uri; } }"
    )
    made = imported("nginx", f"{text}\n{SERVER.format('root /www;')}")
    assert [one["names"] for one in made.tree["sites"]] == [["a.test"]]
    assert not made.left


def test_certbots_certificates_are_ordered_anew_and_others_are_kept(imported: Import) -> None:
    one = "ssl_certificate /etc/letsencrypt/live/a/fullchain.pem; ssl_certificate_key /etc/letsencrypt/live/a/privkey.pem;"
    made = imported("nginx", SERVER.format(f"root /www; {one}"))
    assert "certificate" not in made.site("a.test")
    assert "certs import certbot" in made.text
    one = "ssl_certificate own.pem; ssl_certificate_key own.key;"
    made = imported("nginx", SERVER.format(f"root /www; {one}"))
    folder = str(made.draft.place).rpartition("/")[0]
    assert made.site("a.test")["certificate"] == {
        "chain": f"{folder}/own.pem", "key": f"{folder}/own.key",
    }  # fmt: skip


def test_places_are_those_of_the_included_file(imported: Import) -> None:
    made = imported(
        "nginx",
        "http { include sites/*.conf; }",
        **{"sites__a.conf": "\n\n" + SERVER.format("\nroot /www;\nproxy_cache on;")},
    )
    assert made.left == ["sites/a.conf:5: proxy_cache on: answers of backends are not kept here"]
    assert "root: /www  # sites/a.conf:4" in made.text


def test_includes_in_a_circle_end(imported: Import) -> None:
    with pytest.raises(CannotRead, match="circle"):
        imported("nginx", "include main.conf;")


def test_a_subrequest_becomes_a_login_service(imported: Import) -> None:
    made = imported("nginx", SERVER.format("""
        location = /auth { internal; proxy_pass http://127.0.0.1:9091/api/verify; }
        location / {
            auth_request /auth;
            auth_request_set $user $upstream_http_remote_user;
            proxy_set_header Remote-User $user;
            proxy_set_header Host $host;
            proxy_pass http://127.0.0.1:1;
        }
    """))  # fmt: skip
    assert made.site("a.test")["forward_auth"] == {
        "url": "http://127.0.0.1:9091/api/verify", "copy": ["Remote-User"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ('if ($http_x_token != "s3cret") { return 403; }', {"header": {"x-token": "s3cret"}}),
        ("if ($remote_addr != 192.0.2.1) { return 403; }", {"from": ["192.0.2.1"]}),
        ("if ($arg_key !~ ^k[0-9]+$) { return 403; }", {"query": {"key": "re:^k[0-9]+$"}}),
    ],
)
@pytest.mark.parametrize("place", ["server", "location"])
def test_a_condition_that_refuses_all_others(
    condition: str, expected: dict[str, object], place: str, imported: Import
) -> None:
    """Of both routes that a location without slash becomes."""
    inside, beside = (condition, "") if place == "location" else ("", condition)
    made = imported("nginx", SERVER.format(
        f"{beside} location /x {{ {inside} proxy_pass http://127.0.0.1:1; }}"
    ))  # fmt: skip
    for path in ("/x", "/x/*"):
        mine = [one for one in made.site("a.test")["routes"] if one["path"] == path]
        assert [one.get("match") for one in mine] == [expected, None]
        assert mine[1]["respond"] == {"status": 403}


def test_a_method_that_is_refused_is_so_at_both_routes_of_a_location(imported: Import) -> None:
    made = imported("nginx", SERVER.format(
        "location /x { if ($request_method !~ ^(GET|HEAD)$) { return 405; } "
        "proxy_pass http://127.0.0.1:1; }"
    ))  # fmt: skip
    for path in ("/x", "/x/*"):
        mine = [one for one in made.site("a.test")["routes"] if one["path"] == path]
        assert mine[0]["methods"] == ["GET", "HEAD"]
        assert mine[1]["respond"] == {"status": 405}


def test_dots_are_denied_for_files_and_told_for_backends(imported: Import) -> None:
    rule = r"location ~ /\. { deny all; }"
    made = imported("nginx", SERVER.format(f"root /www; {rule}"))
    assert not made.left
    made = imported(
        "nginx", SERVER.format(f"{rule} location / {{ proxy_pass http://127.0.0.1:1; }}")
    )
    assert "a backend is asked for them" in made.left[0]


def test_scripts_beside_a_backend_are_told(imported: Import) -> None:
    scripts = "location ~ \\.php$ { fastcgi_pass unix:/run/php.sock; }"
    text = "location / { proxy_pass http://127.0.0.1:1; }\n" + scripts
    made = imported("nginx", SERVER.format(text))
    (line,) = made.left
    assert "fastcgi_pass unix:/run/php.sock" in line
    assert "what no other route takes is a backend's" in line
    text = (
        "location / { root /srv; }\nlocation /api/ { proxy_pass http://127.0.0.1:1; }\n" + scripts
    )
    assert not imported("nginx", SERVER.format(text)).left


def test_files_go_before_a_backend_as_they_lie_there(imported: Import, tmp_path: Path) -> None:
    text = SERVER.format(
        f"root {tmp_path}/www; try_files $uri @app; "
        "location @app { proxy_pass http://127.0.0.1:1; proxy_set_header Host $host; }"
    )
    made = imported("nginx", text, www__assets__app_js="x", www__robots="y", **{"www__.env": "z"})
    assert {one["path"]: one.get("root") for one in made.site("a.test")["routes"]} == {
        "/assets/*": f"{tmp_path}/www/assets", "/robots": f"{tmp_path}/www", "/*": None,
    }  # fmt: skip


def test_a_sites_own_file_finds_what_lies_beside_nginx_conf(imported: Import) -> None:
    made = imported(
        "nginx", SERVER.format(
            "include snippets/x.conf; include fastcgi_params;"
            "location /x/ { include proxy_params; proxy_pass http://127.0.0.1:1; }"
        ),
        "sites__site.conf".replace("__", "-"),
        **{"nginx.conf": "", "snippets__x.conf": "root /www;"},
    )  # fmt: skip
    assert made.route("/*")["root"] == "/www"
    assert made.route("/x/*") == {"path": "/x/*", "backend": "http://127.0.0.1:1"}
    assert not made.left


def test_a_rewrite_comes_before_a_return_behind_it(imported: Import) -> None:
    found = routes(imported, "location /old { rewrite ^/old/(.*)$ /new/$1 redirect; return 403; }")
    assert found["/old/*"] == {"redirect": "/new/{rest}", "status": 302}
    assert found["/old"] == {"respond": {"status": 403}}


def test_a_condition_that_asks_for_a_client_certificate(imported: Import) -> None:
    asked = "if ($ssl_client_verify != SUCCESS) { return 403; }"
    optional = "ssl_client_certificate /ca.pem; ssl_verify_client optional; root /www;"
    whole = imported("nginx", SERVER.format(f"{optional} {asked}"))
    assert whole.site("a.test")["tls"]["client_auth"]["mode"] == "require"
    part = imported("nginx", SERVER.format(f"{optional} location /x/ {{ {asked} }}"))
    assert part.route("/x/*")["deny"] == ["0.0.0.0/0", "::/0"]
    assert part.site("a.test")["tls"]["client_auth"]["mode"] == "request"


IMAGES = r"location ~* \.(png|jpe?g)$ {{ {} }} "
PROXIED = "location / { proxy_pass http://127.0.0.1:1; proxy_set_header Host $host; }"


def test_images_from_the_disk_beside_a_backend_get_routes(imported: Import, tmp_path: Path) -> None:
    for name in ("logo.PNG", "page.html", "img/a.jpeg", "img/deep/b.png", "mixed/a.png"):
        (tmp_path / "www" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "www" / name).touch()
    (tmp_path / "www/mixed/page.html").touch()
    root = tmp_path / "www"
    text = IMAGES.format(f"root {root}; expires 1h;") + PROXIED
    made = imported("nginx", SERVER.format(text))
    kept = {"*.png,*.jpeg,*.jpg": "max-age=3600"}
    assert made.routes() == {
        "/*": {"backend": "http://127.0.0.1:1"},
        "/img/*": {"root": f"{root}/img", "cache_control": kept},
        "/logo.PNG": {"root": str(root), "cache_control": kept},
    }
    assert len(made.left) == 1
    assert f"{{path: /mixed/*, root: {root}/mixed}}" in made.left[0]
    assert "new ones need one" in made.text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (IMAGES.format("root /none;") + PROXIED, "{path: /images/*, root: /none/images}"),
        (IMAGES.format("root /none; expires 1h;") + PROXIED, "{path: /images/*, root: /none/images}"),
        ("root /none; " + IMAGES.format("") + PROXIED, "{path: /images/*, root: /none/images}"),
        (IMAGES.format("root /none; try_files $uri @app;")
         + "location @app { proxy_pass http://127.0.0.1:1; } " + PROXIED, "/none/images}"),
        (IMAGES.format("proxy_pass http://127.0.0.1:2;") + PROXIED, "for each folder that is meant"),
        (IMAGES.format("alias /none;") + PROXIED, "for each folder that is meant"),
        (r"location ~ ^/img/.*\.png$ { root /none; } " + PROXIED, "{path: /img/*, root: /none/img}"),
        ("location /app/ { proxy_pass http://127.0.0.1:1; " + IMAGES.format("root /none;") + "} "
         "location / { root /www; }", "{path: /app/*, root: /none/app}"),
    ],
)  # fmt: skip
def test_images_that_have_no_route_are_told_in_one_line(
    text: str, told: str, imported: Import
) -> None:
    made = imported("nginx", SERVER.format(text))
    assert len(made.left) == 1
    assert told in made.left[0]


def test_images_within_a_location_of_files_need_nothing(imported: Import) -> None:
    text = "root /www; location /m/ { location ~ \\.mp4$ { expires 1h; } } " + PROXIED
    made = imported("nginx", SERVER.format(text))
    assert made.left == []
    assert made.routes()["/m/*"]["root"] == "/www/m"
