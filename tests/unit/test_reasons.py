"""wsd/reasons.py: numbers that plugins ported from C rely on, and which hook each stands for."""

from __future__ import annotations

import pytest

from wsd.reasons import CLIENT_REASONS, CLOSE, FILE_REASONS, OK, REASONS, Reason


def test_the_two_answers_are_those_of_a_c_callback() -> None:
    assert (OK, CLOSE) == (0, -1)


# From `enum lws_callback_reasons` of libwebsockets 4.3.
@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("ESTABLISHED", 0),
        ("CLIENT_CONNECTION_ERROR", 1),
        ("CLIENT_FILTER_PRE_ESTABLISH", 2),
        ("CLIENT_ESTABLISHED", 3),
        ("CLOSED", 4),
        ("CLOSED_HTTP", 5),
        ("RECEIVE", 6),
        ("RECEIVE_PONG", 7),
        ("CLIENT_RECEIVE", 8),
        ("CLIENT_RECEIVE_PONG", 9),
        ("CLIENT_WRITEABLE", 10),
        ("SERVER_WRITEABLE", 11),
        ("HTTP", 12),
        ("HTTP_BODY", 13),
        ("HTTP_BODY_COMPLETION", 14),
        ("HTTP_WRITEABLE", 16),
        ("FILTER_NETWORK_CONNECTION", 17),
        ("FILTER_PROTOCOL_CONNECTION", 20),
        ("CLIENT_APPEND_HANDSHAKE_HEADER", 24),
        ("CONFIRM_EXTENSION_OKAY", 25),
        ("CLIENT_CONFIRM_EXTENSION_SUPPORTED", 26),
        ("PROTOCOL_INIT", 27),
        ("PROTOCOL_DESTROY", 28),
        ("ADD_POLL_FD", 32),
        ("DEL_POLL_FD", 33),
        ("WS_PEER_INITIATED_CLOSE", 38),
        ("ADD_HEADERS", 53),
        ("RAW_RX", 59),
        ("RAW_CLOSE", 60),
        ("RAW_WRITEABLE", 61),
        ("RAW_ADOPT", 62),
        ("RAW_ADOPT_FILE", 63),
        ("RAW_RX_FILE", 64),
        ("RAW_WRITEABLE_FILE", 65),
        ("RAW_CLOSE_FILE", 66),
        ("EVENT_WAIT_CANCELLED", 71),
        ("TIMER", 73),
        ("CLIENT_CLOSED", 75),
        ("RAW_CONNECTED", 101),
        ("VERIFY_BASIC_AUTHORIZATION", 102),
        ("USER", 1000),
    ],
)
def test_a_number_is_libwebsockets(name: str, number: int) -> None:
    assert Reason[name] == number


def test_no_number_means_two_things() -> None:
    assert len({reason.value for reason in Reason}) == len(Reason.__members__)


def test_each_reason_stands_for_one_hook() -> None:
    """Every reason but USER has a hook of its own, or is a hook's on a client connection or a descriptor."""
    given = [*REASONS.values(), *CLIENT_REASONS.values(), *FILE_REASONS.values()]
    assert len(given) == len(set(given))
    assert set(given) == set(Reason) - {Reason.USER}


def test_the_clients_reason_is_named_after_the_servers() -> None:
    for server, client in CLIENT_REASONS.items():
        if server != Reason.RAW_ADOPT:  # libwebsockets calls that one RAW_CONNECTED
            assert client.name == "CLIENT_" + server.name.removeprefix("SERVER_")


def test_a_descriptors_reason_is_named_after_the_sockets() -> None:
    for socket, descriptor in FILE_REASONS.items():
        assert descriptor.name == socket.name + "_FILE"


def test_what_libwebsockets_does_not_have_is_from_900() -> None:
    assert {reason.name for reason in Reason if 900 <= reason < Reason.USER} == {
        "SET_MODE_POLL_FD",
        "CLEAR_MODE_POLL_FD",
    }
