"""A store on etcd, shared by several machines.

store       the contract on keys and transactions
sessions    locks, and what else vanishes with its writer
folders     how files lie under keys
operations  transactions, and what they are made of
watch       hears of changes, and misses none
place       where a machine has come to, for the next start
passage     how old at most what was written at a revision is
lease       what ends when its holder is gone
api         the calls, over the JSON gateway
figures     how long calls take, and how often a step was refused
sealing     nobody who has a copy of the engine's data can read or forge it
"""
