"""Caddy: `tokens` reads a Caddyfile with its snippets and imports, `reader` makes sites of its
blocks, `blocks` and `directives` routes of what stands in them, `options` what holds for the whole
server; `adapted` reads what Caddy itself makes of a file."""
