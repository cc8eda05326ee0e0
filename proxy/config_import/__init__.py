"""``config import``: a configuration of ours from another program's, as far as it goes.

Each program has a reader (`nginx`, `caddy`, `traefik`, `apache`), which makes a `draft.Draft`:
sites and routes in our own keys, each with the file and line that it comes from, and a list of what
could not be taken over. `proofreading` has the text checked by the very code of ``check`` and takes
out what that refuses; `writer` writes the text.

Nothing here runs while serving. Nothing is guessed: what a reader does not know is left out and
told. What would let people in who were kept out is never left out quietly: a rule that guarded a
path and cannot be taken over closes that path (`draft.Level.close`).
"""
