"""What values look like in a configuration.

yaml_reader  YAML with the position of every value
faults       what is wrong, and where
kinds        kinds of values: sizes, durations, addresses, …
units        sizes and durations
addresses    addresses to listen on, and of backends
names        names of sites
patterns     patterns of paths
expressions  regular expressions that take a bounded time
"""
