"""Treehouse mode, on real directories and real links."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config.sources.sites_dir import scan, signature
from proxy.config.syntax.faults import Wrong


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A few sound sites, and files of somebody's own beside the directory."""
    sites = tmp_path / "sites"
    (sites / "example.org").mkdir(parents=True)
    (sites / "www.example.org").symlink_to("example.org")
    (tmp_path / "public").mkdir()
    return sites


def sites_of(directory: Path, https_port: int = 443) -> dict[str, dict]:
    entries, faults = scan(directory, https_port)
    assert not faults, faults
    return {entry.site["names"][0]: entry.site for entry in entries}


def told(directory: Path) -> list[str]:
    return [str(fault) for fault in scan(directory)[1]]


def test_a_directory_is_a_document_root(tree):
    assert sites_of(tree)["example.org"] == {
        "names": ["example.org"],
        "root": str(tree / "example.org"),
    }


@pytest.mark.parametrize("target", ["example.org", "./example.org", "example.org/", "../sites/example.org", "{tree}/example.org"])  # fmt: skip
def test_a_link_to_a_neighbour_redirects_there_however_it_is_written(tree, target):
    (tree / "old.example").symlink_to(target.format(tree=tree))
    assert sites_of(tree)["old.example"]["redirect"] == "https://example.org{path}"


def test_a_neighbour_is_known_by_inode_and_not_by_name(tree):
    (tree.parent / "alias").symlink_to(tree)
    (tree / "old.example").symlink_to("../alias/example.org")
    assert "redirect" in sites_of(tree)["old.example"]


@pytest.mark.parametrize(
    ("port", "address"),
    [(443, "https://example.org{path}"), (0, "https://example.org{path}"), (8443, "https://example.org:8443{path}")],
)  # fmt: skip
def test_a_redirect_names_the_port_where_it_must(tree, port, address):
    assert sites_of(tree, port)["www.example.org"]["redirect"] == address


def test_an_ipv6_neighbour_gets_its_brackets(tree):
    (tree / "2001:db8::1").mkdir()
    (tree / "v6.example").symlink_to("2001:db8::1")
    assert sites_of(tree)["v6.example"]["redirect"] == "https://[2001:db8::1]{path}"


@pytest.mark.parametrize("target", ["http://127.0.0.1:3000", "https://10.0.0.1", "unix:/run/app.sock"])  # fmt: skip
def test_a_link_to_an_address_is_a_proxied_site(tree, target):
    (tree / "app.example").symlink_to(target)
    assert sites_of(tree)["app.example"] == {"names": ["app.example"], "backend": [target]}


def test_a_link_to_a_directory_elsewhere_is_a_document_root_and_is_followed_now(tree):
    (tree.parent / "current").symlink_to("public")
    (tree / "shop.example").symlink_to("../current")
    assert sites_of(tree)["shop.example"]["root"] == str(tree.parent / "public")


def test_redirects_may_go_in_steps(tree):
    (tree / "a.example").symlink_to("www.example.org")
    assert sites_of(tree)["a.example"]["redirect"] == "https://www.example.org{path}"


def test_names_are_read_like_any_other(tree):
    (tree / "BÜCHER.example").mkdir()
    (tree / "*.example.org").mkdir()
    (tree / "localhost").mkdir()
    assert {"xn--bcher-kva.example", "*.example.org", "localhost"} <= set(sites_of(tree))


@pytest.mark.parametrize("name", [".git", ".example.org", "lost+found"])
def test_what_is_hidden_or_the_file_systems_own_is_nobodys_site(tree, name):
    (tree / name).mkdir()
    assert set(sites_of(tree)) == {"example.org", "www.example.org"}


def test_nor_is_a_file(tree):
    (tree / "README").write_text("what this is")
    (tree / "example.net").write_text("not even under a domain's name")
    assert set(sites_of(tree)) == {"example.org", "www.example.org"}


@pytest.mark.parametrize(
    ("name", "target", "said"),
    [
        ("loop.example", "loop.example", "leads back to itself by way of loop.example"),
        ("a.example", "nobody.example", 'there is no "nobody.example" here'),
        ("a.example", "../nowhere", "is not a directory"),
        ("a.example", "/etc/hostname", "is not a directory"),
        ("a.example", "htp://x", "is not a directory"),
        ("a b.example", "example.org", "rename it to the domain"),
        ("backup", "example.org", "is one word and not a domain"),
        ("a.example", "README", "is one word and not a domain"),
    ],
)
def test_a_slip_is_told_at_its_entry(tree, name, target, said):
    (tree / "README").write_text("")
    (tree / name).symlink_to(target)
    (line,) = told(tree)
    assert line.startswith(f"{tree / name}: ")
    assert said in line


def test_a_circle_is_told_at_every_entry_of_it(tree):
    for name, target in (("a.example", "b.example"), ("b.example", "c.example"), ("c.example", "a.example")):  # fmt: skip
        (tree / name).symlink_to(target)
    (tree / "d.example").symlink_to("a.example")  # leads into it
    assert len([line for line in told(tree) if "leads back to itself" in line]) == 3


def test_the_sound_entries_are_found_beside_the_slips(tree):
    (tree / "a_b").mkdir()
    entries, faults = scan(tree)
    assert (len(entries), len(faults)) == (2, 1)


@pytest.mark.parametrize("what", ["missing", "a file"])
def test_the_directory_itself_must_be_one(tmp_path, what):
    (tmp_path / "a file").write_text("")
    with pytest.raises(Wrong, match="cannot be read"):
        scan(tmp_path / what)


# Whether there is anything new


def test_the_signature_is_that_of_the_entries_and_not_of_what_lies_in_them(tree):
    before = signature(tree)
    (tree / "example.org" / "index.html").write_text("new")
    assert signature(tree) == before


def test_it_tells_an_entry_that_came_went_or_leads_elsewhere(tree):
    seen = [signature(tree)]
    (tree / "new.example").mkdir()
    seen.append(signature(tree))
    (tree / "new.example").rmdir()
    assert signature(tree) == seen[0]
    (tree / "www.example.org").unlink()
    (tree / "www.example.org").symlink_to("../public")
    seen.append(signature(tree))
    (tree / "example.org").rename(tree / "example.net")
    seen.append(signature(tree))
    assert len(set(seen)) == len(seen)


def test_a_directory_that_is_gone_has_a_signature_too(tree):
    before = signature(tree)
    tree.rename(tree.parent / "away")
    assert signature(tree) != before
    assert signature(tree) == signature(tree)
