"""Traefik: `documents` reads YAML, TOML and the labels of docker-compose files into one tree,
`rules` a router's rule, `middlewares` what stands before a service, `services` which backends it
has; `reader` makes the sites."""
