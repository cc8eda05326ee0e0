"""Several machines, one set of certificates: each orders some of them, or takes all.

settings      which cluster, which node, and how the engine is reached
node          this machine among the others, and whether the engine can be asked
reporter      what is new of it is told, and nothing twice
gate          the engine as the lifecycle of certificates asks it
accounts      accounts with CAs and the built-in root, made once
shared_names  names on demand, each asked about once
spare         this machine's disk, and memory for what it does not take
replica       certificates for a machine that orders none
others        the other machines as the scheduler is told of them, and as they are noted
company       which machines are there
members       what each says of itself: its wishes, its clock
clocks        whether this machine's clock is right, by those of the others
identity      which machine this is, whatever it is called
namesake      whether another machine has its name
challenges    every machine answers them before the CA is told to look
unheard       what is answered for challenges that this machine has not heard of
recollection  what was known of the others before a start
bookmark      where this machine had come to before a start
echo          whether a machine hears what it writes
faults        why the engine cannot be asked, told once
"""
