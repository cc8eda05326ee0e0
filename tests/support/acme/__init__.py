"""CAs, their faults, and what other ACME clients leave on the disk."""
