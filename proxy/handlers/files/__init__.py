"""Files of a document root, opened beneath it and never outside.

handler        a request for a file
document_root  opening a path beneath a folder
file_cache     opened files and their response heads
precompressed  compressed neighbours of a file
conditional    If-None-Match and its like (RFC 9110 section 13)  (pure)
ranges         Range (RFC 9110 section 14)                       (pure)
partial        responses with parts of a file
media_types    Content-Type by a file's name                     (pure)
cache_control  Cache-Control by a file's name                    (pure)
accept         what a client wants to read, by Accept            (pure)
quality        the weights in Accept and Accept-Encoding         (pure)
listing        what a folder holds
folder_pages   the response that says so
pieces         bytes that are handed out in pieces               (pure)
listing_page   a listing as a page or as JSON                    (pure)
threads        for what takes longer than the event loop may wait
"""
