"""The control socket: commands from the command line, and the documents that answer them.

server           the socket, its requests and its replies
commands         what can be asked, and which part answers
board            the last hour, what needs attention, the last warnings: for top and the page
admin_questions  what the admin page asks, and what it may do
overview         what is known of the whole server
status           the same as the document of ``status --json``
probe_tokens     the doctor's nonce, shown on port 80 for a moment
"""
