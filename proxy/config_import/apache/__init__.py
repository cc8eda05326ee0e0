"""Apache: `directives` reads the files with their sections and includes, `redirects` and
`rewriting` what is answered first, `proxying` which backends there are, `access` who is let in,
`sections` what holds for a folder or a location, `fields` what stands beside an answer; `reader`
makes sites."""
