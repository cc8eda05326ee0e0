"""Files that survive a crash.

store      files that change together or not at all; locks; changes made by others
atomic     the one way that a file is written
documents  JSON documents with a version                      (pure)
"""
