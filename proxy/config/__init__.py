"""Configuration: from YAML, flags and the file system to one validated, frozen value.

``model`` is what the program uses; everything else in this package only makes one.
"""
