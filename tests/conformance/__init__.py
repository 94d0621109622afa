"""RFC 6455 and RFC 7692 as numbered cases, the same ones for wsd as a server and as a client.

`group_*.py` are the cases, as data; `model.py` says what a case is, `peer.py` is the other end of the connection, and
`stand.py` brings case, peer and wsd together.  `make conformance` runs all of it and writes docs/conformance.md.
"""
