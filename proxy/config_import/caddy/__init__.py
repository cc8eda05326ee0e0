"""Caddy: `tokens` reads a Caddyfile with its snippets and imports, `caddyfile` makes sites of its
blocks, `directives` routes of what stands in them; `adapted` reads what ``caddy adapt`` prints."""
