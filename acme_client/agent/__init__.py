"""The certifier's process: one loop that decides, and a few threads that speak to CAs.

agent       what is wanted, what is at hand, what is under way
scheduler   which attempts begin now                           (pure)
pace        how fast renewals begin: in small batches          (pure)
executors   threads for speaking to CAs, so many for each
attempt     one attempt at a certificate, from the lock to the proof
commands    what people ask of the certifier
replies     answers to people, once for two certificates of a name
"""
