"""`wsd.upgrade`: from a request for a WebSocket to its 101, on a wsi that only notes what is done to it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.role import FAILED, GET, Echo, Site, Wsi, upgrade, wsi_with
from wsd import log
from wsd.config import Compression, Limits, ProtocolCompression, ProtocolTable, Timeouts
from wsd.errors import Reject
from wsd.protocol import Protocol
from wsd.reasons import CLOSE
from wsd.wire.extensions import Agreement, Settings


def test_an_upgrade_asks_the_hooks_in_order_and_hands_over_what_followed() -> None:
    echo = Echo()
    echo.headers = [("X-Hello", "you")]
    site = Site()
    wsi = wsi_with(site, echo)
    wsi.role.receive(upgrade("Sec-WebSocket-Protocol: no, echo") + b"\x81\x80abcd")
    assert wsi.upgraded is not None
    binding, request, subprotocol, head, leftover, agreement, settings = wsi.upgraded
    assert binding.protocol is echo
    assert wsi.binding is binding
    assert (request.path, subprotocol, leftover) == ("/chat", "echo", b"\x81\x80abcd")
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert b"\r\nX-Hello: you\r\n" in head
    assert (agreement, settings) == (None, None)
    assert echo.calls == ["filter /chat {} echo", "headers"]
    assert (wsi.session, wsi.out, wsi.ends) == ({}, b"", [])
    wsi.role.closed()
    assert site.closed == 0


def test_a_protocol_without_any_hook() -> None:
    class Bare(Protocol):
        name = "bare"

    wsi = wsi_with(Site(), Bare())
    wsi.role.receive(upgrade(OFFER))
    assert wsi.upgraded is not None
    assert (wsi.upgraded[0].protocol.name, wsi.session) == ("bare", None)
    assert agreed(wsi)[0] is not None


def test_who_asks_for_none_gets_the_paths_protocol_or_the_default() -> None:
    echo, site = Echo(), Site()
    wsi = wsi_with(site, echo)
    wsi.role.receive(upgrade())
    assert wsi.upgraded is not None
    assert wsi.upgraded[2] is None
    assert b"Sec-WebSocket-Protocol" not in wsi.upgraded[3]
    wsi = wsi_with(site, echo)
    wsi.menu.default = None
    wsi.menu.paths = {"/chat": wsi.menu.bindings["echo"]}
    wsi.role.receive(upgrade())
    assert wsi.upgraded is not None
    wsi = wsi_with(site, echo)
    wsi.menu.default = None
    assert wsi.feed(upgrade())[0][0] == 400


def raising(status: int, *arguments: Any) -> Callable[[Any], Any]:
    def reject(wsi: Any) -> None:
        raise Reject(status, *arguments)

    return reject


@pytest.mark.parametrize(
    ("filter_", "start"),
    [
        pytest.param(raising(401, "who?", [("WWW-Authenticate", "Basic")]), b"HTTP/1.1 401 ", id="Reject"),
        pytest.param(raising(302, "", [("Location", "/x")]), b"HTTP/1.1 302 ", id="redirect"),
        pytest.param(lambda wsi: CLOSE, b"HTTP/1.1 403 ", id="CLOSE"),
        pytest.param(lambda wsi: 1 / 0, b"HTTP/1.1 500 ", id="exception"),
        pytest.param(lambda wsi: FAILED, b"HTTP/1.1 500 ", id="no answer"),
        pytest.param(raising(99), b"HTTP/1.1 500 ", id="no status"),
        pytest.param(raising(401, "", [("X", "a\r\nb")]), b"HTTP/1.1 500 ", id="splitting"),
        pytest.param(lambda wsi: wsi.close() or None, b"", id="close()"),
    ],
)
def test_a_filter_that_refuses(filter_: Callable[[Any], Any], start: bytes) -> None:
    echo = Echo()
    echo.filter = filter_
    wsi = wsi_with(Site(), echo)
    wsi.role.receive(upgrade() + GET)
    assert wsi.upgraded is None
    assert wsi.out.startswith(start)
    assert (b"Connection: close" in wsi.out) == bool(start)
    assert wsi.ends == ["finish"]
    assert wsi.binding.protocol.name == "site"
    assert wsi.out.count(b"HTTP/1.1") == bool(start)


def test_a_reject_carries_its_headers() -> None:
    echo = Echo()
    echo.filter = raising(401, "who are <you>?", [("WWW-Authenticate", "Basic")])
    wsi = wsi_with(Site(), echo)
    wsi.role.receive(upgrade())
    assert b"\r\nWWW-Authenticate: Basic\r\n" in wsi.out
    assert b"who are &lt;you&gt;?" in wsi.out


@pytest.mark.parametrize("header", [("X", "a\r\nb"), ("Upgrade", "x"), ("Sec-WebSocket-Accept", "x")])
def test_bad_headers_for_the_101(header: tuple[str, str]) -> None:
    echo = Echo()
    echo.headers = [header]
    wsi = wsi_with(Site(), echo)
    assert wsi.feed(upgrade())[0][0] == 500
    assert wsi.upgraded is None


def test_a_session_that_cannot_be_made() -> None:
    class Broken(Echo):
        Session = staticmethod(lambda: 1 / 0)  # type: ignore[assignment]

    echo = Broken()
    wsi = wsi_with(Site(), echo)
    assert wsi.feed(upgrade())[0][0] == 500
    assert echo.calls == []


@pytest.mark.parametrize(
    ("request_", "status", "header"),
    [
        (upgrade("Origin: http://evil.example"), 403, b""),
        (upgrade("Origin: null"), 403, b""),
        (upgrade("Sec-WebSocket-Protocol: no"), 400, b""),
        (upgrade(without="Sec-WebSocket-Version"), 400, b"Sec-WebSocket-Version: 13"),
        (upgrade("Sec-WebSocket-Version: 8", without="Sec-WebSocket-Version"), 426, b"Connection: Upgrade, close"),
        (upgrade().replace(b"GET", b"PUT"), 405, b"Allow: GET"),
        (upgrade("Content-Length: 5") + b"GET /", 400, b""),
        (upgrade("Transfer-Encoding: chunked"), 400, b""),
        (upgrade("Sec-WebSocket-Extensions: permessage-deflate; ="), 400, b""),
        (upgrade("Sec-WebSocket-Extensions: permessage-deflate", "Sec-WebSocket-Extensions: a b"), 400, b""),
    ],
)
def test_refused_upgrades(request_: bytes, status: int, header: bytes) -> None:
    echo = Echo()
    wsi = wsi_with(Site(), echo)
    wsi.role.receive(request_)
    assert wsi.out.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\n" + header in wsi.out
    assert b"</html>" in wsi.out
    assert (echo.calls, wsi.upgraded, wsi.ends) == ([], None, ["finish"])
    assert wsi.context.counters.refused == 1


def test_the_log_names_the_option_that_would_allow_an_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(log, "info", lambda text, *arguments: lines.append(text % arguments))
    wsi = wsi_with(Site(), Echo())
    wsi.role.receive(upgrade("Origin: https://evil.example"))
    assert any("allowed_origins" in line and "https://evil.example" in line for line in lines)
    assert all(line.startswith("test#1: ") for line in lines)
    wsi = wsi_with(Site(), Echo())
    wsi.menu.allowed_origins = ("https://evil.example",)
    wsi.role.receive(upgrade("Origin: https://evil.example"))
    assert wsi.upgraded is not None


# -- extensions -------------------------------------------------------------------------------------------------------

OFFER = "Sec-WebSocket-Extensions: permessage-deflate"


def agreed(wsi: Wsi) -> tuple[str | None, Agreement | None, Settings | None]:
    """The header in the 101, and what the wsi is told."""
    assert wsi.upgraded is not None
    head, agreement, settings = wsi.upgraded[3], *wsi.upgraded[5:]
    found = re.findall(r"\r\nSec-WebSocket-Extensions: (.*)\r\n", head.decode())
    assert len(found) <= 1
    return (found[0] if found else None), agreement, settings


@pytest.mark.parametrize(
    ("offers", "answer"),
    [
        ([OFFER], "permessage-deflate; server_max_window_bits=10"),
        (
            [f"{OFFER}; client_max_window_bits"],
            "permessage-deflate; server_max_window_bits=10; client_max_window_bits=10",
        ),
        ([f"{OFFER}; server_max_window_bits=9"], "permessage-deflate; server_max_window_bits=9"),
        # What cannot be accepted is declined, and the next one is looked at (RFC 7692 7): several in one line, in two.
        (
            [f"{OFFER}; unknown, permessage-deflate; client_no_context_takeover"],
            "permessage-deflate; client_no_context_takeover; server_max_window_bits=10",
        ),
        (
            [f"{OFFER}; server_max_window_bits=99", "Sec-WebSocket-Extensions: x-webkit-deflate-frame", OFFER],
            "permessage-deflate; server_max_window_bits=10",
        ),
        ([f"{OFFER}; server_max_window_bits=99"], None),
        ([f"{OFFER}; server_no_context_takeover=1"], None),
        ([f"{OFFER}; client_max_window_bits; client_max_window_bits"], None),
        (["Sec-WebSocket-Extensions: permessage-bzip2, Permessage-Deflate"], None),
        (["Sec-WebSocket-Extensions: "], None),
        ([], None),
    ],
)
def test_an_offer_is_answered_and_the_wsi_told(offers: list[str], answer: str | None) -> None:
    wsi = wsi_with(Site(), Echo())
    wsi.menu.config.compression = Compression(level=2, window_bits=10, min_bytes=3)
    wsi.role.receive(upgrade(*offers))
    header, agreement, settings = agreed(wsi)
    assert header == answer
    if answer is None:
        assert (agreement, settings) == (None, None)
    else:
        assert settings is not None
        assert agreement is not None
        assert (settings.level, settings.window_bits, settings.min_bytes) == (2, 10, 3)
        assert agreement.header == answer


def test_without_context_takeover_on_our_side() -> None:
    wsi = wsi_with(Site(), Echo())
    wsi.menu.config.compression = Compression(context_takeover=False, window_bits=15)
    wsi.role.receive(upgrade(OFFER))
    assert agreed(wsi)[0] == "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


def test_off_for_the_listener_and_on_for_the_protocol_and_the_other_way_round() -> None:
    for listener in (True, False):
        wsi = wsi_with(Site(), Echo())
        wsi.menu.config.compression = Compression(enabled=listener)
        own = ProtocolTable(compression=ProtocolCompression(enabled=not listener))
        wsi.menu.bindings["echo"].apply(Limits(), Timeouts(), own)
        wsi.role.receive(upgrade(OFFER))
        header, agreement, settings = agreed(wsi)
        assert (header is None, agreement is None, settings is None) == (listener,) * 3


@pytest.mark.parametrize("enabled", [True, False])
def test_a_malformed_header_is_refused_whether_it_would_be_used_or_not(enabled: bool) -> None:
    """RFC 6455 9.1: "the recipient of such malformed data MUST immediately _Fail the WebSocket Connection_"."""
    wsi = wsi_with(Site(), Echo())
    wsi.menu.config.compression = Compression(enabled=enabled)
    assert wsi.feed(upgrade('Sec-WebSocket-Extensions: permessage-deflate; x="a b"'))[0][0] == 400


def test_the_protocol_is_asked_between_filter_and_headers() -> None:
    echo = Echo()
    wsi = wsi_with(Site(), echo)
    wsi.menu.config.compression = Compression(window_bits=10)
    wsi.role.receive(upgrade(f"{OFFER}; client_no_context_takeover"))
    params = {"client_no_context_takeover": None, "server_max_window_bits": "10"}
    assert echo.calls == ["filter /chat {} echo", f"confirm permessage-deflate {params}", "headers"]


def test_the_protocol_is_not_asked_where_nothing_would_be_agreed() -> None:
    echo = Echo()
    wsi = wsi_with(Site(), echo)
    wsi.role.receive(upgrade(f"{OFFER}; unknown"))
    assert echo.calls == ["filter /chat {} echo", "headers"]


@pytest.mark.parametrize(
    ("answer", "is_used"), [(lambda wsi: None, True), (lambda wsi: 0, True), (lambda wsi: CLOSE, False)]
)
def test_the_protocol_decides_for_each_connection(answer: Callable[[Any], Any], is_used: bool) -> None:
    echo = Echo()
    echo.confirm = answer
    wsi = wsi_with(Site(), echo)
    wsi.role.receive(upgrade(OFFER))
    header, agreement, settings = agreed(wsi)
    assert (header is not None, agreement is not None, settings is not None) == (is_used,) * 3
    assert echo.calls[-1] == "headers"


@pytest.mark.parametrize(
    ("answer", "start"),
    [
        pytest.param(lambda wsi: 1 / 0, b"HTTP/1.1 500 ", id="exception"),
        pytest.param(lambda wsi: FAILED, b"HTTP/1.1 500 ", id="no answer"),
        pytest.param(lambda wsi: wsi.close() or None, b"", id="close()"),
    ],
)
def test_a_protocol_that_fails_over_it(answer: Callable[[Any], Any], start: bytes) -> None:
    echo = Echo()
    echo.confirm = answer
    wsi = wsi_with(Site(), echo)
    wsi.role.receive(upgrade(OFFER))
    assert wsi.upgraded is None
    assert wsi.out.startswith(start)
    assert (wsi.ends, wsi.binding.protocol.name) == (["finish"], "site")


def test_the_log_tells_what_was_offered_and_agreed(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(log, "ext", lambda text, *arguments: lines.append(text % arguments))
    for offer in (f"{OFFER}, x-other", f"{OFFER}; unknown"):
        wsi = wsi_with(Site(), Echo())
        wsi.menu.config.compression = Compression(window_bits=15)
        wsi.role.receive(upgrade(offer))
    wsi_with(Site(), Echo()).role.receive(upgrade())
    assert lines == [
        "test#1: offered permessage-deflate, x-other; agreed: permessage-deflate",
        "test#1: offered permessage-deflate; agreed: none",
    ]
