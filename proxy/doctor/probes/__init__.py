"""Facts for the doctor, each gathered within a bound of time.

machine       this machine: clock, memory, limits
dns           the DNS of names
reachability  whether names lead to this server, from outside in
cas           whether CAs answer
state         the state directory
server        the running server
"""
