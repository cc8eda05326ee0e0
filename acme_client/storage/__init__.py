"""Files that survive a crash.

store      the contract: files that change together or not at all; locks, fenced; notes
directory  a store on a local disk
lease      the lock of a folder on a local disk
sessions   which processes with a store live
byte_lock  locks that the kernel lets go of when their holder ends
atomic     the one way that a file is written
shared_sync  waits for the disk, for many threads at once
documents  JSON documents with a version                      (pure)
newer_documents  those of a newer version, kept in the store
"""
