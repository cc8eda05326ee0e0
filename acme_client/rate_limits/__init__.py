"""What CAs allow, counted ahead of them.

published  the limits that CAs publish, and public suffixes   (pure)
buckets    what was asked of one CA, against its limits       (pure)
ledger     the buckets of all CAs, on the disk
"""
