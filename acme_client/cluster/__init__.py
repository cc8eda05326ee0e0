"""Several machines, one set of certificates: one orders them, the others take them.

settings    which cluster, which node, and how the engine is reached
node        the life of this machine in the cluster: who orders, who is there, what is told
replica     certificates between the engine and the local disk
challenges  every machine answers them before the CA is told to look
"""
