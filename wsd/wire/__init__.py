"""RFC 6455, and the parts of RFC 9112 that it stands on, as functions of bytes.

Pure: nothing in here knows a socket, a selector, a clock, a source of randomness, a file or the log.
"""
