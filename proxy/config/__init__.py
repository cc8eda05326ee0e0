"""Configuration: from YAML, flags and the file system to one validated, frozen value.

model             the value that the program uses
load              all of it, or everything that is wrong with it
sources/          where keys come from: the command line, treehouse mode
resolve           from parsed keys to the model: defaults, inheritance, paths
checks/           faults of configurations whose values are each well formed
schema/           every key, its type and its default
syntax/           YAML with positions; sizes, durations, addresses, names
unchanged         what two configurations have in common is kept once
referenced_files  files that the configuration names, for those who watch them
"""
