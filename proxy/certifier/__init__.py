"""The certifier's process: ``acme_client`` at our end of a channel.

process   settings from the configuration; the link to the supervisor; the loop
"""
