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
    CLIENT_CONNECTION_ERROR = 1
    CLIENT_FILTER_PRE_ESTABLISH = 2
    CLIENT_ESTABLISHED = 3
    CLOSED = 4
    CLOSED_HTTP = 5
    RECEIVE = 6
    RECEIVE_PONG = 7
    CLIENT_RECEIVE = 8
    CLIENT_RECEIVE_PONG = 9
    CLIENT_WRITEABLE = 10
    SERVER_WRITEABLE = 11
    HTTP = 12
    HTTP_BODY = 13
    HTTP_BODY_COMPLETION = 14
    HTTP_WRITEABLE = 16
    FILTER_NETWORK_CONNECTION = 17
    FILTER_PROTOCOL_CONNECTION = 20
    OPENSSL_PERFORM_CLIENT_CERT_VERIFICATION = 23
    CLIENT_APPEND_HANDSHAKE_HEADER = 24
    CONFIRM_EXTENSION_OKAY = 25
    CLIENT_CONFIRM_EXTENSION_SUPPORTED = 26
    PROTOCOL_INIT = 27
    PROTOCOL_DESTROY = 28
    ADD_POLL_FD = 32
    DEL_POLL_FD = 33
    WS_PEER_INITIATED_CLOSE = 38
    ADD_HEADERS = 53
    RAW_RX = 59
    RAW_CLOSE = 60
    RAW_WRITEABLE = 61
    RAW_ADOPT = 62
    RAW_ADOPT_FILE = 63
    RAW_RX_FILE = 64
    RAW_WRITEABLE_FILE = 65
    RAW_CLOSE_FILE = 66
    EVENT_WAIT_CANCELLED = 71
    TIMER = 73
    CLIENT_CLOSED = 75
    RAW_CONNECTED = 101
    VERIFY_BASIC_AUTHORIZATION = 102
    SET_MODE_POLL_FD = 900  # libwebsockets 1.2 had these two, as 27 and 28; today's has one reason in their place
    CLEAR_MODE_POLL_FD = 901
    USER = 1000


REASONS: Final = {
    "on_protocol_init": Reason.PROTOCOL_INIT,
    "on_protocol_destroy": Reason.PROTOCOL_DESTROY,
    "on_wakeup": Reason.EVENT_WAIT_CANCELLED,
    "on_filter_network_connection": Reason.FILTER_NETWORK_CONNECTION,
    "on_verify_client_certificate": Reason.OPENSSL_PERFORM_CLIENT_CERT_VERIFICATION,
    "on_verify_authorization": Reason.VERIFY_BASIC_AUTHORIZATION,
    "on_filter_protocol_connection": Reason.FILTER_PROTOCOL_CONNECTION,
    "on_confirm_extension": Reason.CONFIRM_EXTENSION_OKAY,
    "on_add_headers": Reason.ADD_HEADERS,
    "on_client_confirm_extension_supported": Reason.CLIENT_CONFIRM_EXTENSION_SUPPORTED,
    "on_client_append_handshake_header": Reason.CLIENT_APPEND_HANDSHAKE_HEADER,
    "on_client_filter_pre_establish": Reason.CLIENT_FILTER_PRE_ESTABLISH,
    "on_client_connection_error": Reason.CLIENT_CONNECTION_ERROR,
    "on_established": Reason.ESTABLISHED,
    "on_receive": Reason.RECEIVE,
    "on_writeable": Reason.SERVER_WRITEABLE,
    "on_pong": Reason.RECEIVE_PONG,
    "on_peer_close": Reason.WS_PEER_INITIATED_CLOSE,
    "on_closed": Reason.CLOSED,
    "on_timer": Reason.TIMER,
    "on_http": Reason.HTTP,
    "on_http_body": Reason.HTTP_BODY,
    "on_http_body_completion": Reason.HTTP_BODY_COMPLETION,
    "on_http_writeable": Reason.HTTP_WRITEABLE,
    "on_closed_http": Reason.CLOSED_HTTP,
    "on_raw_adopt": Reason.RAW_ADOPT,
    "on_raw_receive": Reason.RAW_RX,
    "on_raw_writeable": Reason.RAW_WRITEABLE,
    "on_raw_close": Reason.RAW_CLOSE,
    "on_add_poll_fd": Reason.ADD_POLL_FD,
    "on_del_poll_fd": Reason.DEL_POLL_FD,
    "on_set_mode_poll_fd": Reason.SET_MODE_POLL_FD,
    "on_clear_mode_poll_fd": Reason.CLEAR_MODE_POLL_FD,
}
"""The reason of each hook; `on_message` has none, as libwebsockets assembles nothing, `on_user` any from USER on."""

CLIENT_REASONS: Final = {
    Reason.ESTABLISHED: Reason.CLIENT_ESTABLISHED,
    Reason.RECEIVE: Reason.CLIENT_RECEIVE,
    Reason.SERVER_WRITEABLE: Reason.CLIENT_WRITEABLE,
    Reason.RECEIVE_PONG: Reason.CLIENT_RECEIVE_PONG,
    Reason.CLOSED: Reason.CLIENT_CLOSED,
    Reason.RAW_ADOPT: Reason.RAW_CONNECTED,
}
"""The reasons that are others on a connection that we opened."""

FILE_REASONS: Final = {
    Reason.RAW_ADOPT: Reason.RAW_ADOPT_FILE,
    Reason.RAW_RX: Reason.RAW_RX_FILE,
    Reason.RAW_WRITEABLE: Reason.RAW_WRITEABLE_FILE,
    Reason.RAW_CLOSE: Reason.RAW_CLOSE_FILE,
}
"""The reasons that are others for a descriptor that was adopted."""
