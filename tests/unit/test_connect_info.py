"""What a connect is asked for: what can never work is told at once, and no hook hears of it."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.outgoing import Outgoing
from wsd.config import Compression, ProtocolCompression, ProtocolTable
from wsd.connect_info import ConnectInfo, Proxy, make_connect_info, parse_proxy
from wsd.context import Context
from wsd.errors import ConnectError
from wsd.protocol import Protocol
from wsd.web import Http


class Other(Protocol):
    name = "other"


@pytest.fixture
def context() -> Iterator[Context]:
    with Context([Outgoing(), Other()]) as context:
        yield context


def info(context: Context, url: str = "ws://host.test/", **options: Any) -> ConnectInfo:
    defaults: dict[str, Any] = {
        "protocol": None,
        "subprotocols": None,
        "headers": (),
        "origin": None,
        "timeout_seconds": 5,
        "interface": "",
        "proxy": "",
        "compression": None,
        "session": None,
        "tls": None,
    }
    return make_connect_info(context, url, **{**defaults, **options})


class TestProtocol:
    def test_none_is_the_first(self, context: Context) -> None:
        assert info(context).binding.protocol is context.protocols[0]

    def test_by_name_and_itself(self, context: Context) -> None:
        other = context.protocols[1]
        assert info(context, protocol="other").binding.protocol is other
        assert info(context, protocol=other).binding.protocol is other

    def test_of_two_of_one_name_the_newer(self, context: Context) -> None:
        """While a reload swaps one for the other, there are both."""
        newer = Other()
        context.add_protocol(newer)
        assert info(context, protocol="other").binding.protocol is newer

    def test_the_built_in_one_is_never_the_first(self) -> None:
        with Context([Http()]) as context, pytest.raises(ValueError, match=r"this context serves no protocol$"):
            info(context)

    @pytest.mark.parametrize("protocol", ["nobody", Outgoing()])
    def test_one_of_nobody_here(self, context: Context, protocol: Any) -> None:
        name = protocol if isinstance(protocol, str) else protocol.name
        with pytest.raises(ValueError, match=f"this context serves no protocol {name}"):
            info(context, protocol=protocol)

    def test_one_that_was_replaced(self, context: Context) -> None:
        other = context.protocols[1]
        context.retire_protocol(other)
        with pytest.raises(ValueError, match="no protocol other"):
            info(context, protocol=other)


class TestSubprotocols:
    def test_none_is_the_name_of_the_protocol(self, context: Context) -> None:
        assert info(context, protocol="other").subprotocols == ("other",)

    def test_as_told(self, context: Context) -> None:
        assert info(context, subprotocols=()).subprotocols == ()
        assert info(context, subprotocols=["b", "a"]).subprotocols == ("b", "a")

    def test_the_letters_of_a_name_are_no_list_of_names(self, context: Context) -> None:
        with pytest.raises(TypeError, match="sequence of names"):
            info(context, subprotocols="echo")


class TestHeaders:
    @pytest.mark.parametrize(
        "headers", [{"X": "1", "Y": "2"}, [("X", "1"), ("Y", "2")], iter([("X", "1"), ("Y", "2")])]
    )
    def test_a_mapping_or_pairs(self, context: Context, headers: Any) -> None:
        assert info(context, headers=headers).headers == (("X", "1"), ("Y", "2"))


class TestCompression:
    def test_none_is_the_default(self, context: Context) -> None:
        settings = info(context).settings
        assert settings is not None
        assert settings.window_bits == Compression().window_bits

    def test_as_told(self, context: Context) -> None:
        assert info(context, compression=Compression(enabled=False)).settings is None
        settings = info(context, compression=Compression(window_bits=9)).settings
        assert settings is not None
        assert settings.window_bits == 9

    def test_what_the_operator_wrote_for_the_protocol_wins(self, context: Context) -> None:
        own = Other()
        context.add_protocol(own, table=ProtocolTable(compression=ProtocolCompression(enabled=False)))
        assert info(context, protocol=own).settings is None


class TestRaw:
    """tcp:// opens a connection without a handshake, and so without what only a handshake could say."""

    def test_what_is_left(self, context: Context) -> None:
        made = info(context, "tcp://host.test:25")
        assert (made.is_raw, made.target.host, made.target.port) == (True, "host.test", 25)
        assert (made.subprotocols, made.headers, made.settings) == ((), (), None)
        assert not info(context).is_raw

    @pytest.mark.parametrize(
        "options",
        [
            {"subprotocols": ["a"]},
            {"headers": {"X": "1"}},
            {"headers": iter([("X", "1")])},
            {"origin": "https://a.test"},
            {"compression": Compression()},
        ],
        ids=lambda options: next(iter(options)),
    )
    def test_what_could_not_be_said(self, context: Context, options: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=f"^{next(iter(options))}: a tcp:// or tls:// URL"):
            info(context, "tcp://host.test:25", **options)

    def test_nothing_is_nothing(self, context: Context) -> None:
        assert info(context, "tcp://host.test:25", subprotocols=(), headers={}, origin=None).is_raw


class TestInterface:
    @pytest.mark.parametrize("interface", ["", "127.0.0.1", "::1", "fe80::1%eth0", "eth0", "br-12345678", "eth0.100"])
    def test_an_address_or_a_device(self, context: Context, interface: str) -> None:
        assert info(context, interface=interface).interface == interface

    @pytest.mark.parametrize("interface", ["sixteen-letters-", "a/b", "a b", "\ud800", "é"])
    def test_what_can_be_neither(self, context: Context, interface: str) -> None:
        with pytest.raises(ValueError, match="neither an IP address nor a device"):
            info(context, interface=interface)


class TestProxy:
    @pytest.mark.parametrize(
        ("url", "host", "port", "login"),
        [
            ("http://proxy.test:3128", "proxy.test", 3128, None),
            ("http://proxy.test:3128/", "proxy.test", 3128, None),
            ("http://PROXY.test", "proxy.test", 80, None),
            ("http://[::1]:8080", "::1", 8080, None),
            ("http://me:secret@10.0.0.1:1", "10.0.0.1", 1, "me:secret"),
            ("http://me@proxy.test:1", "proxy.test", 1, "me:"),
            ("http://m%40e:a%3Ab:c@proxy.test:1", "proxy.test", 1, "m@e:a:b:c"),
            ("http://us%C3%A9r:%2F@proxy.test:1", "proxy.test", 1, "usér:/"),
        ],
    )
    def test_where_it_is_and_who_we_are(self, url: str, host: str, port: int, login: str | None) -> None:
        value = None if login is None else "Basic " + base64.b64encode(login.encode()).decode()
        assert parse_proxy(url) == Proxy(host, port, value)

    @pytest.mark.parametrize(
        "url",
        [
            "proxy.test:3128",
            "https://proxy.test:3128",
            "socks5://proxy.test:1080",
            "http://proxy.test:3128/path",
            "http://proxy.test:3128?x",
            "http://proxy.test:3128#x",
            "http://proxy.test:99999",
            "http://proxy.test:port",
            "http://:3128",
            "http://[::1:3128",
            "http://a%3Ab:c@proxy.test:3128",
            "http://",
        ],
    )
    def test_what_is_none(self, url: str) -> None:
        with pytest.raises(ValueError, match=r"^proxy: "):
            parse_proxy(url)

    def test_a_password_is_not_repeated(self) -> None:
        with pytest.raises(ValueError, match=r"^proxy: ") as caught:
            parse_proxy("http://me:secret@proxy.test:3128/path")
        assert "secret" not in str(caught.value)

    @given(st.text())
    def test_any_text_is_a_proxy_or_a_value_error(self, text: str) -> None:
        for url in (text, f"http://{text}"):
            try:
                found = parse_proxy(url)
            except ValueError:
                continue
            assert 1 <= found.port <= 65535
            assert found.host


@pytest.mark.parametrize(
    ("url", "options", "text"),
    [
        ("http://a/", {}, "begins with ws://"),
        ("ws://a/#b", {}, "no fragment"),
        ("ws://a/", {"tls": object()}, "tls: nothing is encrypted"),
        ("tcp://a:1", {"tls": object()}, "tls: nothing is encrypted"),
        ("ws://a/", {"protocol": "nobody"}, "serves no protocol nobody"),
        ("ws://a/", {"subprotocols": ["a b"]}, "not a subprotocol"),
        ("ws://a/", {"subprotocols": ["a", "a"]}, "twice"),
        ("ws://a/", {"headers": {"Host": "b"}}, "Host"),
        ("ws://a/", {"headers": [("X", "a\r\nb")]}, "control"),
        ("ws://a/", {"origin": "https://a/path"}, "origin"),
        ("ws://a/", {"timeout_seconds": 0}, "timeout_seconds"),
        ("ws://a/", {"timeout_seconds": float("inf")}, "timeout_seconds"),
        ("ws://a/", {"timeout_seconds": float("nan")}, "timeout_seconds"),
        ("ws://a/", {"interface": "much-too-long-a-name"}, "interface"),
        ("ws://a/", {"proxy": "socks5://a:1"}, "proxy"),
    ],
)
def test_a_mistake_is_told_to_who_makes_it(url: str, options: dict[str, Any], text: str) -> None:
    protocol = Outgoing()
    with Context([protocol]) as context:
        with pytest.raises(ValueError, match=re.escape(text)):
            context.client_connect(url, **options)
        assert context.wsi_count == 0
    assert protocol.calls == []


def test_a_context_that_stops_connects_nowhere() -> None:
    with Context([Other()]) as context:
        context.stop()
        with pytest.raises(ConnectError) as caught:
            context.client_connect("ws://a/")
        assert caught.value.cause == "closed"
