"""What is counted, by whom, and how it is shown at ``/metrics``.

    figures           a worker's counts, and how those of several are added up
    process_figures   what the kernel counts of each process
    renewals          the certifier's, from what it reports
    exposition        all of it in Prometheus' text format

Workers send their counts with each heartbeat; the supervisor adds them up and keeps those of
workers that have ended, so that no counter ever goes back.
"""
