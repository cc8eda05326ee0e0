"""The certifier's process: a scheduler that decides, and threads that do what it has decided.

agent        the mailbox, the clock and the threads: performs what the scheduler decides
scheduler    what is done next, and when                        (pure)
tasks        the scheduler's actions, and the events it is told (pure)
agenda       when time alone changes something                (pure)
attempt_queue  which attempts begin now                       (pure)
commands     what people ask of the certifier                   (pure)
replies      one answer for the two certificates of a name
pace         how fast renewals begin: in small batches          (pure)
batches      loads and serves many certificates at a time
executors    threads for CAs, for the store, for the workers
keeper       takes certificates from the store, has them served, writes them
attempt      one attempt at a certificate, from the lock to the proof
stored_note  what an attempt notes about its order, and takes up
ca_requests  when to renew, revocations, account keys
"""
