"""wsd/binding.py: what becomes of a protocol's hooks, and what is said about one that is written wrong."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from wsd.binding import Binding, bind_hooks
from wsd.errors import PluginError
from wsd.options import Compression, ProtocolCompression, ProtocolTable
from wsd.options_limits import Limits, Timeouts
from wsd.protocol import HOOKS, CallbackProtocol, Peer, Protocol, callback_protocol
from wsd.reasons import REASONS, Reason
from wsd.wire.extensions import Settings

HERE = str(Path(__file__))


class Empty(Protocol):
    name = "empty"


def make(**members: Any) -> Protocol:
    """An instance of a protocol class with these members."""
    made: Protocol = type("Made", (Protocol,), {"name": "made", **members})()
    return made


def refuse(protocol: Protocol, match: str) -> PluginError:
    with pytest.raises(PluginError, match=match) as caught:
        bind_hooks(protocol)
    return caught.value


class TestClassStyle:
    def test_a_hook_that_is_not_there_is_none(self) -> None:
        hooks = bind_hooks(Empty())
        assert [name for name in HOOKS if getattr(hooks, name) is not None] == []

    def test_a_hook_is_a_bound_method(self) -> None:
        class Ready(Empty):
            def on_established(self, wsi: Any) -> None:
                self.seen = wsi

        protocol = Ready()
        hook = bind_hooks(protocol).on_established
        assert hook is not None
        hook("wsi")
        assert protocol.seen == "wsi"

    def test_hooks_are_inherited(self) -> None:
        class Base(Protocol):
            def on_established(self, wsi: Any) -> int:
                return 5

        class Derived(Base):
            name = "derived"

        hook = bind_hooks(Derived()).on_established
        assert hook is not None
        assert hook("wsi") == 5

    @pytest.mark.parametrize("name", [hook for hook in HOOKS if hook != "on_message"])
    def test_every_hook_binds_with_its_own_signature(self, name: str) -> None:
        arguments = list(inspect.signature(getattr(Protocol, name)).parameters)
        function = eval(f"lambda {', '.join(arguments)}: ({''.join(name + ',' for name in arguments[1:])})")
        hook = getattr(bind_hooks(make(**{name: function})), name)
        assert hook(*range(HOOKS[name])) == tuple(range(HOOKS[name]))

    @pytest.mark.parametrize("name", HOOKS)
    def test_a_hook_with_an_argument_too_many_or_too_few_is_refused(self, name: str) -> None:
        wanted = inspect.signature(getattr(Protocol, name)).parameters
        for count in (len(wanted) - 1, len(wanted) + 1):
            function = eval(f"lambda {', '.join(f'a{number}' for number in range(count))}: None")
            refuse(make(**{name: function}), rf"made: wrong number of arguments, wanted {name}\(self")

    def test_more_arguments_are_fine_if_they_have_defaults(self) -> None:
        def on_established(self: Any, wsi: Any, greeting: str = "hello") -> None: ...

        assert bind_hooks(make(on_established=on_established)).on_established is not None

    def test_star_arguments_are_fine(self) -> None:
        assert bind_hooks(make(on_closed=lambda *_: None)).on_closed is not None

    def test_a_keyword_only_argument_is_refused(self) -> None:
        def on_established(self: Any, wsi: Any, *, greeting: str) -> None: ...

        refuse(make(on_established=on_established), "wrong number of arguments")

    def test_static_and_class_methods_are_judged_by_what_they_take(self) -> None:
        class Odd(Empty):
            @staticmethod
            def on_timer(wsi: Any) -> str:  # type: ignore[override]
                return f"static {wsi}"

            @classmethod
            def on_established(cls, wsi: Any) -> str:  # type: ignore[override]
                return f"{cls.name} {wsi}"

        hooks = bind_hooks(Odd())
        assert hooks.on_timer is not None
        assert hooks.on_timer(1) == "static 1"
        assert hooks.on_established is not None
        assert hooks.on_established(2) == "empty 2"
        refuse(make(on_timer=staticmethod(lambda self, wsi: None)), "wrong number of arguments")

    def test_a_typo_is_refused_with_the_hook_that_was_meant(self) -> None:
        class Typo(Empty):
            def on_recieve(self, wsi: Any, data: bytes) -> None: ...

        error = refuse(Typo(), r"empty: no such hook: on_recieve \(did you mean on_receive\?\)")
        assert error.file == HERE
        assert inspect.getsource(Typo.on_recieve).strip() in Path(HERE).read_text().splitlines()[error.line - 1]

    def test_a_name_like_no_hook_is_refused_without_a_suggestion(self) -> None:
        error = refuse(make(on_zzzzzzzzzzzzzz=lambda self: None), "no such hook: on_zzzzzzzzzzzzzz")
        assert "mean" not in str(error)

    def test_writable_is_told_from_writeable(self) -> None:
        refuse(make(on_writable=lambda self, wsi: None), "did you mean on_writeable")

    def test_a_coroutine_is_refused(self) -> None:
        class Async(Empty):
            async def on_established(self, wsi: Any) -> None: ...  # type: ignore[override]

        error = refuse(Async(), "plain function; wsd has no event loop")
        assert (error.file, error.line) == (HERE, Async.on_established.__code__.co_firstlineno)

    def test_an_async_generator_is_refused(self) -> None:
        async def on_established(self: Any, wsi: Any) -> AsyncIterator[int]:
            yield 1

        refuse(make(on_established=on_established), "plain function")

    def test_a_generator_is_refused(self) -> None:
        def on_established(self: Any, wsi: Any) -> Iterator[int]:
            yield 1

        refuse(make(on_established=on_established), "must not be a generator")

    @pytest.mark.parametrize("value", [None, 3, "text"])
    def test_a_hook_that_cannot_be_called_is_refused(self, value: object) -> None:
        refuse(make(on_established=value), f"must be a function, found {type(value).__name__}")

    def test_both_ways_to_receive_are_refused(self) -> None:
        class Both(Empty):
            def on_receive(self, wsi: Any, data: bytes) -> None: ...
            def on_message(self, wsi: Any, message: Any) -> None: ...

        error = refuse(Both(), "empty: on_receive and on_message exclude each other")
        assert error.line == Both.on_message.__code__.co_firstlineno

    def test_no_limit_needs_on_receive(self) -> None:
        refuse(make(max_message_bytes=0, on_message=lambda self, wsi, message: None), "needs on_receive")
        bind_hooks(make(max_message_bytes=0, on_receive=lambda self, wsi, data: None))

    @pytest.mark.parametrize("name", ["", "two words", "a,b", "naïve", "a/b", 'a"b', "a\n", None, 3])
    def test_a_name_that_is_no_token_is_refused(self, name: object) -> None:
        """RFC 6455 4.1 point 10: a subprotocol's name is a token of RFC 9110."""
        refuse(make(name=name), "must be an HTTP token")

    @pytest.mark.parametrize("name", ["echo", "lws-mirror-protocol", "v1.chat", "!#$%&'*+-.^_`|~09azAZ"])
    def test_a_name_that_is_a_token_is_taken(self, name: str) -> None:
        bind_hooks(make(name=name))

    def test_an_error_in_a_class_names_its_line(self) -> None:
        class Nameless(Protocol):
            pass

        error = refuse(Nameless(), "HTTP token, found ''")
        assert error.file == HERE
        assert "class Nameless" in Path(HERE).read_text().splitlines()[error.line - 1]

    def test_a_session_that_cannot_be_made_is_refused(self) -> None:
        refuse(make(Session={}), "made: Session must be a class or function, found dict")


def record(calls: list[tuple[Any, ...]]) -> Callable[[Any, Any, Any, Any], None]:
    def callback(wsi: Any, reason: Any, user: Any, data: Any) -> None:
        calls.append((wsi, reason, user, data))

    return callback


class TestCallbackStyle:
    @pytest.mark.parametrize(
        ("hook", "reason", "given", "expected"),
        [
            ("on_protocol_init", Reason.PROTOCOL_INIT, ["context", None], ("context", None)),
            ("on_protocol_destroy", Reason.PROTOCOL_DESTROY, [], None),
            ("on_wakeup", Reason.EVENT_WAIT_CANCELLED, [], None),
            (
                "on_filter_network_connection",
                Reason.FILTER_NETWORK_CONNECTION,
                [Peer("192.0.2.1", 9)],
                Peer("192.0.2.1", 9),
            ),
            ("on_add_poll_fd", Reason.ADD_POLL_FD, [7, 1], (7, 1)),
            ("on_del_poll_fd", Reason.DEL_POLL_FD, [7], 7),
            ("on_set_mode_poll_fd", Reason.SET_MODE_POLL_FD, [7, 4], (7, 4)),
            ("on_clear_mode_poll_fd", Reason.CLEAR_MODE_POLL_FD, [7, 4], (7, 4)),
        ],
    )
    def test_without_a_wsi(self, hook: str, reason: Reason, given: list[Any], expected: object) -> None:
        calls: list[tuple[Any, ...]] = []
        getattr(bind_hooks(callback_protocol("tick")(record(calls))), hook)(*given)
        assert calls == [(None, reason, None, expected)]

    @pytest.mark.parametrize(
        ("hook", "reason", "given", "expected"),
        [
            ("on_filter_protocol_connection", Reason.FILTER_PROTOCOL_CONNECTION, ["request"], "request"),
            ("on_confirm_extension", Reason.CONFIRM_EXTENSION_OKAY, ["name", {}], ("name", {})),
            ("on_add_headers", Reason.ADD_HEADERS, ["headers"], "headers"),
            ("on_established", Reason.ESTABLISHED, [], None),
            ("on_receive", Reason.RECEIVE, [b"data"], b"data"),
            ("on_writeable", Reason.SERVER_WRITEABLE, [], None),
            ("on_pong", Reason.RECEIVE_PONG, [b""], b""),
            ("on_peer_close", Reason.WS_PEER_INITIATED_CLOSE, [1000, "bye"], (1000, "bye")),
            ("on_closed", Reason.CLOSED, [1006, ""], (1006, "")),
            ("on_timer", Reason.TIMER, [], None),
            ("on_http", Reason.HTTP, ["request"], "request"),
            ("on_http_body", Reason.HTTP_BODY, [b"x"], b"x"),
            ("on_http_body_completion", Reason.HTTP_BODY_COMPLETION, [], None),
            ("on_http_writeable", Reason.HTTP_WRITEABLE, [], None),
            ("on_closed_http", Reason.CLOSED_HTTP, [], None),
        ],
    )
    def test_with_a_wsi(self, hook: str, reason: Reason, given: list[Any], expected: object) -> None:
        calls: list[tuple[Any, ...]] = []
        wsi = SimpleNamespace(session="user", is_client=False)
        getattr(bind_hooks(callback_protocol("tick")(record(calls))), hook)(wsi, *given)
        assert calls == [(wsi, reason, "user", expected)]

    @pytest.mark.parametrize(
        ("hook", "reason", "given", "expected"),
        [
            (
                "on_client_confirm_extension_supported",
                Reason.CLIENT_CONFIRM_EXTENSION_SUPPORTED,
                ["permessage-deflate"],
                "permessage-deflate",
            ),
            ("on_client_append_handshake_header", Reason.CLIENT_APPEND_HANDSHAKE_HEADER, ["headers"], "headers"),
            ("on_client_filter_pre_establish", Reason.CLIENT_FILTER_PRE_ESTABLISH, ["response"], "response"),
            ("on_client_connection_error", Reason.CLIENT_CONNECTION_ERROR, ["error"], "error"),
            ("on_established", Reason.CLIENT_ESTABLISHED, [], None),
            ("on_receive", Reason.CLIENT_RECEIVE, [b"data"], b"data"),
            ("on_writeable", Reason.CLIENT_WRITEABLE, [], None),
            ("on_pong", Reason.CLIENT_RECEIVE_PONG, [b""], b""),
            ("on_peer_close", Reason.WS_PEER_INITIATED_CLOSE, [1000, "bye"], (1000, "bye")),
            ("on_closed", Reason.CLIENT_CLOSED, [1006, ""], (1006, "")),
            ("on_timer", Reason.TIMER, [], None),
        ],
    )
    def test_with_a_clients_wsi(self, hook: str, reason: Reason, given: list[Any], expected: object) -> None:
        calls: list[tuple[Any, ...]] = []
        wsi = SimpleNamespace(session="user", is_client=True)
        getattr(bind_hooks(callback_protocol("tick")(record(calls))), hook)(wsi, *given)
        assert calls == [(wsi, reason, "user", expected)]

    @pytest.mark.parametrize(
        ("hook", "given", "expected", "socket", "client", "descriptor"),
        [
            ("on_raw_adopt", [], None, Reason.RAW_ADOPT, Reason.RAW_CONNECTED, Reason.RAW_ADOPT_FILE),
            ("on_raw_receive", [b"x"], b"x", Reason.RAW_RX, Reason.RAW_RX, Reason.RAW_RX_FILE),
            ("on_raw_writeable", [], None, Reason.RAW_WRITEABLE, Reason.RAW_WRITEABLE, Reason.RAW_WRITEABLE_FILE),
            ("on_raw_close", [], None, Reason.RAW_CLOSE, Reason.RAW_CLOSE, Reason.RAW_CLOSE_FILE),
        ],
    )
    def test_with_a_raw_wsi(
        self, hook: str, given: list[Any], expected: object, socket: Reason, client: Reason, descriptor: Reason
    ) -> None:
        calls: list[tuple[Any, ...]] = []
        slot = getattr(bind_hooks(callback_protocol("tick")(record(calls))), hook)
        for is_client, is_descriptor in ((False, False), (True, False), (False, True)):
            slot(SimpleNamespace(session="user", is_client=is_client, is_descriptor=is_descriptor), *given)
        assert [call[1:] for call in calls] == [(reason, "user", expected) for reason in (socket, client, descriptor)]

    def test_a_reason_of_ones_own_arrives_as_it_is(self) -> None:
        calls: list[tuple[Any, ...]] = []
        wsi = SimpleNamespace(session="user", is_client=True)
        hook = bind_hooks(callback_protocol("tick")(record(calls))).on_user
        assert hook is not None
        hook(wsi, 1007, ["what", "ever"])
        assert calls == [(wsi, 1007, "user", ["what", "ever"])]

    def test_no_hook_is_left_out(self) -> None:
        """Every hook but on_message reaches the callback, which messages do piece by piece."""
        hooks = bind_hooks(callback_protocol("tick")(record([])))
        assert [name for name in HOOKS if getattr(hooks, name) is None] == ["on_message"]
        assert HOOKS.keys() - REASONS.keys() == {"on_message", "on_user"}

    def test_what_the_callback_answers_is_the_answer(self) -> None:
        protocol = callback_protocol("tick")(lambda wsi, reason, user, data: -1)
        hook = bind_hooks(protocol).on_established
        assert hook is not None
        assert hook(SimpleNamespace(session=None, is_client=False)) == -1

    def test_both_styles_at_once_are_refused(self) -> None:
        class Both(CallbackProtocol):
            def on_established(self, wsi: Any) -> None: ...

        error = refuse(Both("both", record([]), None, None), "both: hooks beside a callback function; use one style")
        assert error.line == Both.on_established.__code__.co_firstlineno

    def test_a_callback_of_other_arguments_is_refused(self) -> None:
        def callback(wsi: Any, reason: Any, user: Any) -> None: ...

        error = refuse(callback_protocol("tick")(callback), r"tick: wrong number of arguments, wanted callback\(")  # type: ignore[arg-type]
        assert (error.file, error.line) == (HERE, callback.__code__.co_firstlineno)

    def test_a_coroutine_is_refused(self) -> None:
        async def callback(wsi: Any, reason: Any, user: Any, data: Any) -> None: ...

        refuse(callback_protocol("tick")(callback), "plain function")

    def test_a_name_that_is_no_token_is_refused(self) -> None:
        refuse(callback_protocol("two words")(record([])), "HTTP token")

    def test_a_partial_is_as_good_as_a_function(self) -> None:
        def callback(extra: str, wsi: Any, reason: Any, user: Any, data: Any) -> str:
            return extra

        hook = bind_hooks(callback_protocol("tick")(partial(callback, "more"))).on_timer
        assert hook is not None
        assert hook(SimpleNamespace(session=None, is_client=False)) == "more"


class TestCompression:
    """What a binding makes of the listener's table and of its own."""

    OWN = ProtocolCompression(level=9, min_bytes=0)

    def binding(self, own: ProtocolCompression | None = None) -> Binding:
        return Binding(Empty(), Limits(), Timeouts(), ProtocolTable(compression=own) if own else None)

    def test_without_a_table_of_its_own_it_is_the_listeners(self) -> None:
        base = Compression(level=3, memory_level=4, window_bits=9, context_takeover=False, min_bytes=5)
        assert self.binding().compression(base) == Settings(3, 4, 9, False, 5)

    def test_without_a_listener_it_is_the_default(self) -> None:
        default = Compression().model_dump(exclude={"enabled"})
        assert self.binding().compression(None) == Settings(**default)
        assert self.binding(self.OWN).compression(None) == Settings(**{**default, "level": 9, "min_bytes": 0})

    def test_its_own_table_wins_option_by_option(self) -> None:
        found = self.binding(self.OWN).compression(Compression(level=1, window_bits=15))
        assert found == Settings(
            **{**Compression().model_dump(exclude={"enabled"}), "level": 9, "min_bytes": 0, "window_bits": 15}
        )

    @pytest.mark.parametrize(
        ("listener", "own", "expected"),
        [
            (True, None, True),
            (False, None, False),
            (True, False, False),
            (False, True, True),
        ],
    )
    def test_on_and_off(self, listener: bool, own: bool | None, expected: bool) -> None:
        binding = self.binding(ProtocolCompression(enabled=own))
        assert (binding.compression(Compression(enabled=listener)) is not None) == expected

    def test_a_reload_changes_it_in_place(self) -> None:
        binding = self.binding(self.OWN)
        binding.apply(Limits(), Timeouts(), ProtocolTable(compression=ProtocolCompression(enabled=False)))
        assert binding.compression(None) is None
        binding.apply(Limits(), Timeouts(), None)
        assert binding.compression(None) == self.binding().compression(None)
