"""What is counted, in which process, and how it is shown at ``/metrics``.

    counters       a worker's counts, and how those of several workers are added up
    history        the last hour of them, by site and backend, in bounded memory (pure)
    handed_history the same from one program to the next, at an upgrade         (pure)
    process_stats  what the kernel counts of each process
    renewals       the certifier's counts, from its reports                      (pure)
    exposition     all of it in Prometheus' text format

Workers send their counts with each heartbeat. The supervisor adds them up and keeps the counts of
workers that have ended, so that no counter ever goes back.
"""
