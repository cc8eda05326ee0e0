"""Rehearsing what may go wrong: the real certifier against a CA, a disk and a clock of our own.

    life           the certifier, with a clock that leaps from event to event
    simulated_ca   a CA without a network: limits, outages, incidents, its own clock
    memory_store   a store in memory, which may fail or crash at any operation

``treehouse-proxy drill`` plays the configuration and the state of a server with it, and the tests
play years. What decides and what attempts is the code that runs in production; only what lies
beyond it (network, disk, time) is ours.
"""
