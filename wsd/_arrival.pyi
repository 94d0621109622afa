# What `wsd/accepting.py` and `wsd/wire/ordinary.py` say of their functions holds of these.

from wsd.accepting import Address

def accept(fd: int, wants_local: bool, /) -> tuple[int, Address | None, Address | None]: ...
def read_upgrade(
    data: bytes, max_head_bytes: int, max_headers: int, max_uri_bytes: int, /
) -> tuple[int, str, str, str, str | None, str | None, str | None] | None: ...
