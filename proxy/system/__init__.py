"""What the operating system gives and takes.

privileges         becoming another user, for good, and the proof of it
listeners          listening sockets
port_owner         which process has a port
state_directory    the state directory, made and mended
state_lock         one server for each state directory
process_title      what ps and top show
systemd            sockets, readiness and watchdog
preload            what is imported before privileges are dropped
config_process     reads the configuration, and ends
certificate_files  certificates that operators bring
certificate_reading   the same, read and examined
"""
