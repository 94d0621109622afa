"""docs/lifecycle.md: what it says of how a WebSocket comes in and lives is what happens; and of the page."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.integration import (
    test_lifecycle_connect,
    test_lifecycle_connected,
    test_lifecycle_context,
    test_lifecycle_end,
    test_lifecycle_http,
    test_lifecycle_raw,
    test_lifecycle_tls,
)
from tests.support.client import CONTINUATION, PING, PONG, TEXT, Client, Frame, frame, upgrade_request
from tests.support.lifecycle import PAGE, rows
from tests.support.plays import (
    HELLO,
    SHORT,
    Plays,
    Stage,
    answering,
    ask_and_hold,
    close,
    end,
    fail,
    is_answer,
    left,
    only,
    reject,
    status,
)
from tests.support.secrets import basic, bearer, password_file, token_file
from tests.support.timing import wait_until
from wsd.config import Auth, Keepalive, Timeouts
from wsd.protocol import HOOKS

DEFLATE = [("Sec-WebSocket-Extensions", "permessage-deflate")]

plays = Plays("A WebSocket that comes in: ways to begin", "A WebSocket that comes in: its life")


# -- ways to begin ----------------------------------------------------------------------------------------------------


@plays.of("it is opened, and closed by the client")
def open_and_close(stage: Stage) -> str:
    return f"101, {left(stage.open(), 1000, 'bye')}"


@plays.of("the client offers compression")
def offer(stage: Stage) -> str:
    return compressed(stage)


@plays.of("`on_confirm_extension` answers CLOSE")
def refuse_extension(stage: Stage) -> str:
    stage.does("on_confirm_extension", close)
    return compressed(stage)


def compressed(stage: Stage) -> str:
    client = stage.client()
    agreed = client.upgrade(headers=DEFLATE).header("Sec-WebSocket-Extensions")
    return f"101 {'with' if agreed else 'without'} compression, {left(client)}"


@plays.of("`on_confirm_extension` raises")
def raise_in_extension(stage: Stage) -> str:
    stage.does("on_confirm_extension", fail)
    return status(stage.client(), upgrade_request(headers=DEFLATE))


@plays.of("`on_filter_network_connection` answers CLOSE")
def refuse_peer(stage: Stage) -> str:
    stage.does("on_filter_network_connection", close)
    return end(stage.client())


@plays.of("`on_filter_network_connection` raises")
def raise_on_peer(stage: Stage) -> str:
    stage.does("on_filter_network_connection", fail)
    return end(stage.client())


@plays.of("`Session` raises", session=fail)
def raise_in_session(stage: Stage) -> str:
    return status(stage.client())


def refusal(hook: str, deed: Callable[..., Any]) -> Callable[[Stage], str]:
    def act(stage: Stage) -> str:
        stage.does(hook, deed)
        return status(stage.client())

    return act


for _hook in ("on_filter_protocol_connection", "on_add_headers"):
    plays.of(f"`{_hook}` answers CLOSE")(refusal(_hook, close))
    plays.of(f"`{_hook}` raises `Reject(451)`")(refusal(_hook, reject))
    plays.of(f"`{_hook}` raises")(refusal(_hook, fail))


@plays.of("`wsi.close()` in `on_filter_protocol_connection`")
def close_in_filter(stage: Stage) -> str:
    stage.does("on_filter_protocol_connection", lambda wsi, request: wsi.close() and None)
    client = stage.client()
    client.send(upgrade_request())
    return end(client)


VERIFYING = ["verifying", "callback"]


def guarded(stage: Stage) -> Client:
    """A client of a listener that lets in who has a token or a password."""
    folder = Path(stage.stack.enter_context(TemporaryDirectory()))
    tokens = token_file(folder / "tokens", {"token": "bob"})
    passwords = password_file(folder / "passwords", {"alice": "secret"}, log2_n=14, lanes=5)
    auth = Auth(token_file=str(tokens), password_file=str(passwords))
    plugin = stage.context.protocol_0.protocol
    listener = stage.served.call(lambda: stage.context.listen(port=0, protocols=[plugin], auth=auth))
    return stage.stack.enter_context(Client(listener.port))


@plays.of("it shows a token of the listener's `token_file`", styles=VERIFYING)
def show_token(stage: Stage) -> str:
    client = guarded(stage)
    client.upgrade(headers=[bearer("token")])
    return f"101, {left(client)}"


@plays.of("it shows another token", styles=VERIFYING)
def show_another(stage: Stage) -> str:
    return status(guarded(stage), upgrade_request(headers=[bearer("other")]))


@plays.of("it shows none", styles=VERIFYING)
def show_none(stage: Stage) -> str:
    return status(guarded(stage))


@plays.of("it hangs up while its password is compared", styles=VERIFYING)
def hang_up_meanwhile(stage: Stage) -> str:
    client, request = guarded(stage), upgrade_request(headers=[basic("alice", "secret")])
    client.send(request)
    wait_until(lambda: stage.context.counters.bytes_received == len(request))
    client.reset()
    return "-"


def verdict(deed: Callable[..., Any]) -> Callable[[Stage], str]:
    def act(stage: Stage) -> str:
        stage.does("on_verify_authorization", deed)
        return status(guarded(stage), upgrade_request(headers=[bearer("token")]))

    return act


plays.of("`on_verify_authorization` answers CLOSE", styles=VERIFYING)(verdict(close))
plays.of("`on_verify_authorization` raises `Reject(451)`", styles=VERIFYING)(verdict(reject))
plays.of("`on_verify_authorization` raises", styles=VERIFYING)(verdict(fail))


@plays.of("the client asks for a subprotocol that is not served")
def unknown_subprotocol(stage: Stage) -> str:
    return status(stage.client(), upgrade_request(protocols="other"))


@plays.of("the client speaks another version")
def other_version(stage: Stage) -> str:
    return status(stage.client(), upgrade_request(headers=[("Sec-WebSocket-Version", "8")]))


@plays.of("a page of another origin asks")
def foreign_page(stage: Stage) -> str:
    return status(stage.client(), upgrade_request(headers=[("Origin", "http://elsewhere.example")]))


@plays.of("what the client says is no HTTP")
def no_http(stage: Stage) -> str:
    return status(stage.client(), b"\x16\x03\x01\x02\0\x01\0\r\n\r\n")


@plays.of("the client says nothing for `handshake_seconds`", timeouts=Timeouts(handshake_seconds=SHORT))
def say_nothing(stage: Stage) -> str:
    return end(stage.client())


@plays.of("its request is not whole after `handshake_seconds`", timeouts=Timeouts(handshake_seconds=SHORT))
def say_too_little(stage: Stage) -> str:
    return status(stage.client(), b"GET / HTTP/1.1\r\n")


@plays.of("the client hangs up before it asks")
def hang_up_first(stage: Stage) -> str:
    client = stage.client()
    client.shut_down_writing()
    return end(client)


@plays.of("reset before it asks")
def reset_first(stage: Stage) -> str:
    client = stage.client()
    stage.notes.wait_for("on_filter_network_connection")
    client.reset()
    return "-"


@plays.of("reset in the middle of its request")
def reset_in_request(stage: Stage) -> str:
    client = stage.client()
    ask_for_less(stage, client)
    client.reset()
    return "-"


def ask_for_less(stage: Stage, client: Client) -> None:
    """Send the first bytes of a request, and see that they are read."""
    client.send(b"GET / HT")
    wait_until(lambda: stage.context.counters.bytes_received == 8)


@plays.of("reset while `on_filter_protocol_connection` runs")
def reset_in_filter(stage: Stage) -> str:
    client = stage.client()
    stage.does("on_filter_protocol_connection", lambda wsi, request: client.reset())
    client.send(upgrade_request())
    return "-"


@plays.of("the context stops before it asks")
def stop_first(stage: Stage) -> str:
    client = stage.client()
    stage.notes.wait_for("on_filter_network_connection")
    stage.served.call(stage.context.stop)
    return end(client)


@plays.of("the context stops in the middle of its request")
def stop_in_request(stage: Stage) -> str:
    client = stage.client()
    request = upgrade_request()
    client.send(request[:8])
    wait_until(lambda: stage.context.counters.bytes_received == 8)
    stage.served.call(stage.context.stop)
    return status(client, request[8:])


# -- its life ---------------------------------------------------------------------------------------------------------


@plays.of("a message comes and is answered")
def message(stage: Stage) -> str:
    answering(stage)
    client = stage.open()
    client.send_text("hello")
    return only(client, is_answer(client))


def say(*frames: bytes) -> Callable[[Stage], str]:
    """The client sends these, and gets nothing."""

    def act(stage: Stage) -> str:
        client = stage.open()
        client.send(*frames)
        return only(client)

    return act


IN_TWO = (frame(TEXT, "hel", final=False), frame(CONTINUATION, "lo"))
plays.of("a message comes, and the class has `on_message`", styles=["whole"])(say(HELLO))
plays.of("a message comes in two fragments")(say(*IN_TWO))
plays.of("the same, and the class has `on_message`", styles=["whole"])(say(*IN_TWO))
plays.of("an empty message comes")(say(frame(TEXT, "")))
plays.of("a Pong comes")(say(frame(PONG, b"mark")))


@plays.of("a message comes in the same packet as the request")
def message_at_once(stage: Stage) -> str:
    client = stage.client()
    client.send(upgrade_request(), HELLO)
    assert client.receive_response().status == 101
    return only(client)


@plays.of("a Ping comes")
def ping(stage: Stage) -> str:
    client = stage.open()
    client.send(frame(PING, b"mark"))
    assert client.receive_frame() == Frame(PONG, b"mark")
    return only(client, "a Pong")


@plays.of("the client answers a Ping of the plugin")
def pong(stage: Stage) -> str:
    client = stage.open()
    stage.do(lambda wsi: wsi.ping(b"mark"))
    answer_ping(client)
    return only(client, "the Ping")


@plays.of("the client answers a Ping of `ping_seconds`", keepalive=Keepalive(ping_seconds=SHORT))
def keepalive_pong(stage: Stage) -> str:
    client = stage.open()
    answer_ping(client)
    left(client)  # perhaps behind another Ping
    return "the Ping"


def answer_ping(client: Client) -> None:
    got = client.receive_frame()
    assert got.opcode == PING
    client.send(frame(PONG, got.payload))


@plays.of("`wsi.callback_on_writable()` three times")
def ask_thrice(stage: Stage) -> str:
    client = stage.open()
    stage.do(lambda wsi: [wsi.callback_on_writable() for _ in range(3)])
    stage.notes.wait_for("on_writeable")
    return only(client)


@plays.of("`wsi.send()`")
def send(stage: Stage) -> str:
    client = stage.open()
    stage.do(lambda wsi: wsi.send("hello"))
    assert client.receive_message() == "hello"
    return only(client, "the message")


@plays.of("`context.callback_on_writable_all_protocol()`")
def ask_all(stage: Stage) -> str:
    client = stage.open()
    stage.do(lambda wsi: stage.context.callback_on_writable_all_protocol(wsi.protocol))
    stage.notes.wait_for("on_writeable")
    return only(client)


@plays.of("`context.callback_all_protocol(protocol, 1007, 'news')`")
def call_all(stage: Stage) -> str:
    client = stage.open()
    stage.do(lambda wsi: stage.context.callback_all_protocol(wsi.protocol, 1007, "news"))
    stage.notes.wait_for("on_user")
    return only(client)


@plays.of("`wsi.set_timer()`")
def timer(stage: Stage) -> str:
    client = stage.open()
    stage.do(lambda wsi: wsi.set_timer(0))
    stage.notes.wait_for("on_timer")
    return only(client)


@plays.of("`wsi.set_timer()`, taken back")
def no_timer(stage: Stage) -> str:
    client = stage.open()
    stage.do(lambda wsi: [wsi.set_timer(0), wsi.set_timer(None)])
    return only(client)


def hold_and(go_on: Callable[[Stage, Any], Any]) -> Callable[[Stage], str]:
    """A message comes while the input is held back, and `on_writeable` before it."""

    def act(stage: Stage) -> str:
        client = stage.open()
        stage.do(lambda wsi: [wsi.rx_flow_control(False), wsi.callback_on_writable()])
        stage.notes.wait_for("on_writeable")
        client.send(HELLO)
        stage.do(lambda wsi: go_on(stage, wsi))
        return only(client)

    return act


@plays.of(
    "`wsi.callback_on_writable()` and `wsi.rx_flow_control(False)` in `on_filter_protocol_connection`, a message,"
    " and `True`"
)
def hold_before(stage: Stage) -> str:
    stage.does("on_filter_protocol_connection", ask_and_hold)
    client = stage.open()
    stage.notes.wait_for("on_writeable")
    client.send(HELLO)
    stage.do(lambda wsi: wsi.rx_flow_control(True))
    return only(client)


plays.of("`wsi.rx_flow_control(False)`, a message, and `True`")(hold_and(lambda _, wsi: wsi.rx_flow_control(True)))
plays.of("the same, and `context.rx_flow_allow_all_protocol()`")(
    hold_and(lambda stage, wsi: stage.context.rx_flow_allow_all_protocol(wsi.protocol))
)


# -- as the page has it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("what", "style"), plays.cases())
def test_it_is_as_the_page_says(what: str, style: str) -> None:
    plays.check(what, style)


def test_each_row_is_played() -> None:
    assert plays.keys() == plays.rows.keys()


# -- the page ---------------------------------------------------------------------------------------------------------

ELSEWHERE = [
    test_lifecycle_end,
    test_lifecycle_http,
    test_lifecycle_connect,
    test_lifecycle_connected,
    test_lifecycle_raw,
    test_lifecycle_tls,
]
SECTIONS = [
    *plays.sections,
    *test_lifecycle_context.SECTIONS,
    *(one for each in ELSEWHERE for one in each.plays.sections),
]


def test_each_table_is_played() -> None:
    assert sorted({row.section for row in rows()}) == sorted(SECTIONS)


def test_each_hook_is_in_a_table() -> None:
    called = {call.partition("(")[0] for row in rows() for call in row.calls}
    assert called == set(HOOKS)


def test_what_has_begun_ends_once_in_every_row() -> None:
    for row in rows():
        names = [call.partition("(")[0] for call in row.calls]
        assert names.count("on_established") == names.count("on_closed"), row
        assert names.count("on_raw_adopt") == names.count("on_raw_close"), row
        is_http_to_the_end = "on_http" in names and "on_established" not in names
        assert names.count("on_closed_http") == is_http_to_the_end, row


def test_each_call_that_the_page_names_is_one_of_a_hook() -> None:
    named = re.findall(r"`(on_\w+)", PAGE.read_text())
    assert set(named) <= set(HOOKS)
