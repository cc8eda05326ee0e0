"""Apache: `directives` reads the files with their sections and includes, `rewriting` RewriteRules,
`access` who is let in, `sections` what holds for a folder or a location; `reader` makes sites."""
