"""What processes share: messages, descriptors and memory.

channel              messages and descriptors over a socket pair
control_client       commands to a running server
connection_counters  connections of all workers, counted in shared memory
rate_buckets         rate limits of all workers, in shared memory
"""
