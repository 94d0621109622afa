"""Why a plugin is called, as numbers, for the callback style; and the two answers.

Owns names and numbers only.  The numbers are libwebsockets' (v5 `enum lws_callback_reasons`), wsd's own start at 900.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

OK: Final = 0
CLOSE: Final = -1


class Reason(IntEnum):
    """`LWS_CALLBACK_*` without the prefix."""

    ESTABLISHED = 0
    CLOSED = 4
    CLOSED_HTTP = 5
    RECEIVE = 6
    RECEIVE_PONG = 7
    SERVER_WRITEABLE = 11
    HTTP = 12
    HTTP_BODY = 13
    HTTP_BODY_COMPLETION = 14
    HTTP_WRITEABLE = 16
    FILTER_NETWORK_CONNECTION = 17
    FILTER_PROTOCOL_CONNECTION = 20
    PROTOCOL_INIT = 27
    PROTOCOL_DESTROY = 28
    WS_PEER_INITIATED_CLOSE = 38
    ADD_HEADERS = 53
    EVENT_WAIT_CANCELLED = 71
    TIMER = 73
    USER = 1000
