"""What is wrong with a configuration whose values are each well formed.

consistency  values that contradict each other   (pure)
files        files and folders that it names
mounts       where folders lie, by device and inode
descriptors  connections that the limit of open files has no room for   (pure)
accounts     users and groups that it names
"""
