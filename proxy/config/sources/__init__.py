"""Where a configuration comes from, beside its YAML file.

flags      the command line
sites_dir  treehouse mode: a folder of sites
"""
