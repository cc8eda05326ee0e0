"""Telling somebody: when certificates fail, run short, or nobody looks after them any more.

    attention   what whoever looks should look at first              (pure)
    incidents   what is to be told, once and again when it is over   (pure)
    notices     an incident as a document, and as a mail              (pure)
    messenger   a process that delivers one message one way, and ends
    policy      what a messenger may do

The certifier may be the one that is silent, so it is the supervisor that notices
(`supervisor.alerting`); and since that one speaks to nobody on the network, a messenger goes.
"""
