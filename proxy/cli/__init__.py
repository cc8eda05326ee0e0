"""The command line: what people type, and what they get to see.

    program        every command and flag; an exit status out
    status_table   ``status``
    why            ``certs why``: one page on one certificate
    export         ``certs export``
    moving_in      ``certs import``

A command asks the server that runs (`control`), or reads the disk itself where none has to. Each
imports what it needs when it is called, so that none waits for the parts of another.
"""
