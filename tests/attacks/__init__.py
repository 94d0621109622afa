"""What has been thrown at WebSocket servers, thrown at a running daemon, with a well-behaved client beside it.

`model` says what an attack is, `target` is the daemon that has to stand it and what is measured of it, `attempt` is
what an attack is played with, the groups hold the attacks, `page` writes them into docs/security.md.
"""
