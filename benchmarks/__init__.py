"""Side by side with nginx, HAProxy, Caddy and two Python servers: `make bench`.

    run        the order of things: rounds, peers alternated, figures to results.md and chart.svg
    peers      how each server is configured and started, equally
    scenarios  what is asked of them
    load       the load: wrk, and a client of our own for handshakes and idle connections
    processes  the CPU time and memory of a process tree, from /proc
    scale      from one site to ten thousand: `make scale` (`many_sites`, `scale_report`)
    pythons    Python x OpenSSL: `make bench-pythons`
    report     medians, spread, ratios; Markdown and SVG

It starts nothing that it does not stop, and sends nothing beyond the loopback interface.
"""
