"""The command line: commands that people type, and their output.

    main                  every command and option; an exit status out
    status_table          ``status``
    why                   ``why``: one page on one certificate
    explain               ``explain``: what a request would meet
    export                ``certs export``
    import_certificates   ``certs import``

A command asks the running server (`ipc.control_client`), or reads the disk where no server has to
run. Each command imports its parts when it is called, so that none waits for another's.
"""
