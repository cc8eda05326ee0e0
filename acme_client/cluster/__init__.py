"""Several machines, one set of certificates: one orders them, the others take them.

settings      which cluster, which node, and how the engine is reached
node          who orders certificates, and when they move
replica       certificates between the engine and the local disk
company       which machines are there
challenges    every machine answers them before the CA is told to look
recollection  what was known of the others before a start
faults        why the engine cannot be asked, told once
"""
