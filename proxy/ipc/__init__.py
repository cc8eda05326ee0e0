"""What processes share: messages, descriptors and memory.

messages             every message between two processes, one union for each direction
handoff_messages     messages between a supervisor and its successor
documents            the JSON objects that messages and the control socket carry
codec                messages to JSON and back, checked against their definition
channel              messages and descriptors over a socket pair
reserve              descriptors kept back, so that those of others can be taken
control_client       commands to a running server
connection_counters  connections of all workers, counted in shared memory
rate_buckets         rate limits of all workers, in shared memory
"""
