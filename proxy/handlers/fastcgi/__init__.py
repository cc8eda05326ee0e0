"""Scripts below a document root, run by a FastCGI server (PHP-FPM), and the files beside them.

handler  a request: a script, a file, or the front controller
scripts  which script a path names
pool     connections to a FastCGI server
"""
