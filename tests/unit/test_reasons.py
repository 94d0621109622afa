"""wsd/reasons.py: numbers that plugins ported from C rely on."""

from __future__ import annotations

import pytest

from wsd.reasons import CLOSE, OK, Reason


def test_the_two_answers_are_those_of_a_c_callback() -> None:
    assert (OK, CLOSE) == (0, -1)


# From `enum lws_callback_reasons` of libwebsockets 4.3.
@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("ESTABLISHED", 0),
        ("CLOSED", 4),
        ("CLOSED_HTTP", 5),
        ("RECEIVE", 6),
        ("RECEIVE_PONG", 7),
        ("SERVER_WRITEABLE", 11),
        ("HTTP", 12),
        ("HTTP_BODY", 13),
        ("HTTP_BODY_COMPLETION", 14),
        ("HTTP_WRITEABLE", 16),
        ("FILTER_NETWORK_CONNECTION", 17),
        ("FILTER_PROTOCOL_CONNECTION", 20),
        ("PROTOCOL_INIT", 27),
        ("PROTOCOL_DESTROY", 28),
        ("WS_PEER_INITIATED_CLOSE", 38),
        ("ADD_HEADERS", 53),
        ("EVENT_WAIT_CANCELLED", 71),
        ("TIMER", 73),
        ("USER", 1000),
    ],
)
def test_a_number_is_libwebsockets(name: str, number: int) -> None:
    assert Reason[name] == number


def test_no_number_means_two_things() -> None:
    assert len({reason.value for reason in Reason}) == len(Reason.__members__)
