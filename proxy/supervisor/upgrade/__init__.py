"""An upgrade: the program that is on disk now takes over from this process.

upgrade      an upgrade step by step
handoff      starting the new program with the listening sockets
succession   which of the two serves, and which waits for the other
"""
