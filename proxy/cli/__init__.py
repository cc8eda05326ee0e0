"""The command line: commands that people type, and their output.

    main                  the commands, and what is done without one; an exit status out
    certs                 the commands below ``certs``
    options, asking       what several commands share: options, asking the running server
    words, next_steps     other programs' words for ours; advice as it has to be typed
    table                 tables that cut nothing
    status_table          ``status``
    drill                 ``drill``: plays what may go wrong
    drill_report          tells what it has shown
    top                   ``top``: a page that renews itself
    trust                 ``trust``: the built-in CA in trust stores
    export                ``certs export``
    import_certificates   ``certs import``

A command asks the running server (`ipc.control_client`), or reads the disk where no server has to
run. Each command imports its parts when it is called, so that none waits for another's.
"""
