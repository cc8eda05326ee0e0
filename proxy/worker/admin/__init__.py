"""The admin listener: the page, what it is made of, and who may ask. Off unless configured.

    service   what is answered, path by path
    access    who may ask: hosts, other sites' pages, logins, the token of actions
    events    the stream that the page lives on
    link      questions to the supervisor
    assets    the page's files: page.html, page.css, page.js, icon.svg; the policy for browsers

A worker answers, and knows only itself: all else it asks of the supervisor, in documents that are
bounded however many sites there are. Nobody asks, nothing is done.
"""
