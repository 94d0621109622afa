"""The options about who may come in.

Owns those tables.  Must not know who asks, nor how it is verified.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from wsd.kinds import FilePath
from wsd.problems import Allowed
from wsd.table import Table

Realm = Annotated[
    str, Field(pattern=r"^[ !#-\[\]-~]+$"), Allowed('text of ASCII characters without " and \\, at least one')
]
ArgumentName = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9._~\-]*$"),
    Allowed("the name of a URL argument: letters, digits and -._~, or empty"),
]


class Auth(Table):
    """Who may come in on the listener above, plain HTTP requests included: whoever has a password or a token from one
    of the files.  With neither file, everybody, unless a plugin verifies by itself (on_verify_authorization).

    Others get 401 before any plugin hears of the request.  Passwords are checked beside the loop, so that nobody waits
    for it; too many at once get 503.  Use it with TLS, or behind a proxy that has it: passwords and tokens travel as
    they are.
    """

    password_file: FilePath = Field("", examples=["/etc/wsd/passwords"])
    """Names and hashed passwords, for HTTP Basic (RFC 7617), as `wsd password NAME FILE` writes them.  A file that
    everybody can read is refused: root:GROUP and 0640 is right.  Changes hold from the next second on."""

    token_file: FilePath = Field("", examples=["/etc/wsd/tokens"])
    """Names and hashed bearer tokens (RFC 6750), as `wsd token NAME FILE` writes them.  A name may have several, so
    that a new one can be handed out before the old one is taken away."""

    realm: Realm = "wsd"
    """What the passwords are for; browsers show it to who is asked for one, and remember it by this."""

    token_argument: ArgumentName = Field("", examples=["access_token"])
    """A URL argument in which a token may stand in place of the Authorization header, which pages cannot set on a
    WebSocket: wss://example.com/?access_token=...  Its value never reaches the log or a plugin, but browsers and
    proxies may keep it, so hand out such tokens for a short time.  Empty: there is none."""


class ProtocolAuth(Table):
    """Who may use one protocol, in place of what the listener's [listen.auth] says; "" takes a file away."""

    password_file: FilePath | None = Field(None, examples=["/etc/wsd/chat-passwords"])
    """See [listen.auth]."""

    token_file: FilePath | None = Field(None, examples=["/etc/wsd/chat-tokens"])
    """See [listen.auth]."""

    realm: Realm | None = Field(None, examples=["chat"])
    """See [listen.auth]."""

    token_argument: ArgumentName | None = Field(None, examples=["access_token"])
    """See [listen.auth]."""

    def over(self, base: Auth) -> Auth:
        """What holds where the listener says `base`."""
        return base.model_copy(update=self.given)
