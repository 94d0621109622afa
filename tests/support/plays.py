"""What is done to a connection, so that a row of docs/lifecycle.md comes true: each row has a play of the same name.

Owns the stage (a context with the plugin that notes every call), how a play is compared with its row, and what plays
have their plugin and their clients do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple, TypeVar

from tests.support.client import TEXT, Client, Frame, close_frame, connect, frame, upgrade_request
from tests.support.context import Running, running
from tests.support.lifecycle import OF_THE_PROTOCOL, STYLES, Notes, Row, made_in, rows
from tests.support.timing import MS, wait_until
from wsd.errors import Reject
from wsd.protocol import Protocol
from wsd.reasons import CLOSE

Peer = TypeVar("Peer")


class Stage:
    """A running context with the plugin, and what a play does with it."""

    def __init__(self, notes: Notes, served: Running, stack: ExitStack, plugin: Callable[[], Protocol]) -> None:
        self.notes = notes
        self.plugin = plugin
        """Makes one more plugin, which notes what it is called with in the same place."""
        self.served = served
        self.context = served.context
        self.stack = stack

    @property
    def wsi(self) -> Any:
        """The wsi that was seen first."""
        return self.notes.wsis[0]

    def does(self, hook: str, deed: Callable[..., Any]) -> None:
        """Have the plugin do that in a hook."""
        self.notes.does[hook] = deed

    def client(self, **options: Any) -> Client:
        """A client that is connected, and has asked for nothing."""
        return self.stack.enter_context(Client(self.served.port, **options))

    def open(self, **options: Any) -> Client:
        """A client whose WebSocket is established, at both ends."""
        client = self.stack.enter_context(connect(self.served.port, **options))
        self.notes.wait_for("on_established")
        return client

    def do(self, deed: Callable[[Any], Any]) -> Any:
        """Do that with the wsi, in the loop's thread, outside of every hook of the plugin."""
        return self.served.call(lambda: deed(self.wsi))

    def settle(self, calls: Sequence[str]) -> list[str]:
        """What was called when all of `calls` had their time, and whatever comes behind them too."""
        names = {call.partition("(")[0] for call in calls}

        def noted() -> list[str]:
            return [call for call in self.notes.calls if call not in OF_THE_PROTOCOL or call in names]

        try:
            wait_until(lambda: noted() == list(calls) and self.is_over(), 2000 * MS)
        except AssertionError:
            return noted()
        if not self.context.stopping:
            self.served.call(lambda: None)  # a whole turn
        return noted()

    def is_over(self) -> bool:
        """Reports whether no connection is left."""
        if self.context.stopping:
            return not self.served.thread.is_alive()
        return self.context.wsi_count == 0


class Play(NamedTuple):
    """What is done to a connection; gives what the peer got."""

    act: Callable[[Stage], str]
    styles: Sequence[str]
    session: Any
    arguments: dict[str, Any]


class Plays(dict[str, Play]):
    """The plays of some tables, by the name of their row.

    Args:
        sections: The headings above the tables.
    """

    def __init__(self, *sections: str) -> None:
        self.sections = sections
        self.rows: dict[str, Row] = {}
        for row in rows(*sections):
            assert row.what not in self.rows, row.what
            self.rows[row.what] = row

    def of(
        self, what: str, *, styles: Sequence[str] = STYLES, session: Any = None, **arguments: Any
    ) -> Callable[[Callable[[Stage], str]], Callable[[Stage], str]]:
        """Make a function the play of a row; `arguments` are those of `running()`."""

        def add(act: Callable[[Stage], str]) -> Callable[[Stage], str]:
            assert what not in self, what
            self[what] = Play(act, styles, session, arguments)
            return act

        return add

    def cases(self) -> list[tuple[str, str]]:
        """Each play in each of its styles."""
        return [(what, style) for what, play in self.items() for style in play.styles]

    def check(self, what: str, style: str) -> None:
        """Play a row and compare what was called with what it says."""
        row, play, notes = self.rows[what], self[what], Notes()
        kind = {style: True} if style in ("whole", "verifying") else {}
        plugin = partial(made_in, style, notes, session=play.session, **kind)
        with ExitStack() as stack:
            served = stack.enter_context(running([plugin()], **play.arguments))
            stage = Stage(notes, served, stack, plugin)
            got = play.act(stage)
            assert stage.settle(row.calls) == row.calls
            assert got == row.peer
            assert not notes.inside, "a hook was called inside a hook"
            assert stage.is_over(), "a connection is left"


HELLO = frame(TEXT, "hello")

SHORT = 100 * MS
"""A time-out that is meant to run out; the shortest that the options allow."""


# -- what a plugin does, and a client --------------------------------------------------------------------------------


def fail(*_: Any) -> None:
    raise ValueError("seat taken")


def reject(*_: Any) -> None:
    raise Reject(451, "not here")


def close(*_: Any) -> int:
    return CLOSE


def status(client: Client, request: bytes = b"") -> str:
    """What a request comes to, when it does not come to a WebSocket."""
    client.send(request or upgrade_request())
    got = client.receive_response().status
    end(client)
    return str(got)


def end(client: Client) -> str:
    """Nothing comes any more."""
    assert client.receive_end() == b""
    client.disconnect()
    return "the end"


def written(close: Frame) -> str:
    return f"Close {close.close_code}" if close.payload else "Close"


def left(client: Client, code: int | None = 1000, reason: str = "") -> str:
    """The client closes; what it gets is a Close."""
    got = client.finish(code, reason)
    client.disconnect()
    return written(got)


def echoed(client: Client, code: int | None = None) -> str:
    """The server closes, the client answers: with the same code unless told otherwise."""
    got = client.receive_close()
    client.send(close_frame(got.close_code if code is None else code))
    end(client)
    return written(got)


def only(client: Client, answer: str = "nothing") -> str:
    """The client closes, and got nothing but that Close."""
    client.send(close_frame())
    assert client.receive_frame().close_code == 1000
    end(client)
    return answer


def answering(stage: Stage) -> None:
    """The plugin answers each piece in `on_writeable`."""
    stage.does("on_receive", lambda wsi, data: wsi.callback_on_writable())
    stage.does("on_writeable", lambda wsi: wsi.write("answer"))


def is_answer(client: Client) -> str:
    assert client.receive_message() == "answer"
    return "the answer"


def ask_and_hold(wsi: Any, *_: Any) -> None:
    """The plugin asks to write, and wants no input yet."""
    wsi.callback_on_writable()
    wsi.rx_flow_control(False)


def provoke(stage: Stage, hook: str) -> None:
    """Have a hook called that is none of the peer's making."""
    if hook.endswith("_writeable"):
        stage.do(lambda wsi: wsi.callback_on_writable())
    elif hook == "on_timer":
        stage.do(lambda wsi: wsi.set_timer(0))
    elif hook == "on_user":
        stage.do(lambda wsi: stage.context.callback_all_protocol(wsi.protocol, 1000))


def ends_it(
    hook: str,
    deed: Callable[..., Any],
    *,
    begin: Callable[[Stage], Peer],
    brings: Mapping[str, Callable[[Peer], object]],
    finish: Callable[[Peer], str],
) -> Callable[[Stage], str]:
    """What a plugin does in one hook ends the connection.

    Args:
        begin: Opens it.
        brings: By the hook, what has the peer bring it about.
        finish: What the peer does about it, and gives what it got.
    """

    def act(stage: Stage) -> str:
        stage.does(hook, deed)
        peer = begin(stage)
        if hook in brings:
            brings[hook](peer)
        else:
            provoke(stage, hook)
        return finish(peer)

    return act
