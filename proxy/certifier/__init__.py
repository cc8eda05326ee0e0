"""The certifier's process: ``acme_client`` at our end of a channel.

process   its life: confined, at work, ended
needs     which certifier a configuration needs, if any
settings  what it is to do, from the configuration
link      what it says to the supervisor, and hears from it
"""
