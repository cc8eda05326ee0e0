"""FastCGI, as a web server speaks it with PHP-FPM and its like.

records     the records on a connection                         (pure)
parameters  what a script is told of its request, as CGI has it  (pure)
head        the head of a script's answer                       (pure)
client      one connection to a FastCGI server
"""
