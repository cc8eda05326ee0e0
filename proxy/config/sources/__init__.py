"""Where a configuration comes from, beside its YAML file.

flags             the command line
include           more files, which the main one names
sites_dir         treehouse mode: a folder of sites
containers        labels of containers, which become sites
known_containers  the containers that the server knew last
"""
