"""docs/lifecycle.md: what it says of WebSockets that come in under TLS is what happens."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.support.ca import Authority, Issued
from tests.support.client import Client
from tests.support.plays import SHORT, Plays, Stage, close, end, fail, left, status
from tests.support.timing import wait_until
from tests.support.tls import TlsClient, client_context
from wsd.config import Timeouts, Tls

plays = Plays("A WebSocket that comes in under TLS")

# The beginning of a ClientHello: a record of 512 bytes of which these are all that come.
HALF = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


class Safe:
    """A listener of the stage that speaks TLS, and the authority behind it.

    Args:
        mode: Whether clients are asked for a certificate.
    """

    def __init__(self, stage: Stage, mode: str = "none") -> None:
        self.stage = stage
        self.ca = Authority(Path(stage.stack.enter_context(TemporaryDirectory())))
        issued = self.ca.issue()
        config = {"certificate": str(issued.certificate), "private_key": str(issued.private_key)}
        if mode != "none":
            config |= {"client_certificates": mode, "client_ca": str(self.ca.certificate)}
        plugin = stage.context.protocol_0.protocol
        tls = Tls.model_validate(config)
        self.port = stage.served.call(lambda: stage.context.listen(port=0, protocols=[plugin], tls=tls)).port

    def client(self) -> Client:
        """One that is connected, and has said nothing."""
        return self.stage.stack.enter_context(Client(self.port))

    def open(self, issued: Issued | None = None, **options: Any) -> TlsClient:
        """One whose WebSocket is established."""
        client = TlsClient(self.port, self.ca.certificate, certificate=issued, **options)
        self.stage.stack.enter_context(client).upgrade()
        return client

    def alert(self, issued: Issued | None = None) -> str:
        """What comes of a handshake that the server refuses."""
        try:
            with TlsClient(self.port, self.ca.certificate, certificate=issued) as client:
                client.tls.recv(1)  # with TLS 1.3 a client is through before the server has looked at its certificate
        except ssl.SSLError as error:
            return "an alert" if "ALERT" in str(error.reason) else str(error)
        return "no alert"

    def alice(self) -> Issued:
        return self.ca.issue(["alice"], client=True)


@plays.of("it is opened, and closed by the client")
def open_and_close(stage: Stage) -> str:
    return f"101, {left(Safe(stage).open())}"


@plays.of("the client shows the certificate that it is asked for")
def certified(stage: Stage) -> str:
    safe = Safe(stage, "required")
    return f"101, {left(safe.open(safe.alice()))}"


@plays.of("the client takes up that session again")
def taken_up(stage: Stage) -> str:
    safe = Safe(stage, "required")
    context = client_context(safe.ca.certificate, certificate=safe.alice())
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # whose ticket is there when the handshake is done
    first = safe.open(context=context)
    session = first.tls.session
    left(first)
    stage.notes.wait_for("on_closed")
    second = safe.open(context=context, session=session)
    assert second.tls.session_reused
    return f"101, {left(second)}"


@plays.of("the client has no certificate where one is optional")
def without(stage: Stage) -> str:
    return f"101, {left(Safe(stage, 'optional').open())}"


@plays.of("the client has no certificate where one is required")
def refused_without(stage: Stage) -> str:
    return Safe(stage, "required").alert()


@plays.of("the client's certificate is a stranger's")
def stranger(stage: Stage) -> str:
    safe = Safe(stage, "optional")
    other = Authority(safe.ca.folder / "other", "Other")
    return safe.alert(other.issue(["eve"], client=True))


def does(deed: Callable[..., Any]) -> Callable[[Stage], str]:
    def act(stage: Stage) -> str:
        stage.does("on_verify_client_certificate", deed)
        safe = Safe(stage, "required")
        return safe.alert(safe.alice())

    return act


plays.of("`on_verify_client_certificate` answers CLOSE")(does(close))
plays.of("`on_verify_client_certificate` raises")(does(fail))


@plays.of("what the client says is no TLS")
def garbage(stage: Stage) -> str:
    client = Safe(stage).client()
    client.send(b"\x00\x01\x02\x03 hello, this is nothing")
    return end(client)


@plays.of("what the client says only begins like TLS")
def half_garbage(stage: Stage) -> str:
    client = Safe(stage).client()
    client.send(b"\x16\x03\x01\x00\x05hello")
    assert client.receive_exactly(1) == b"\x15"  # RFC 8446 5.1: an alert
    client.disconnect()
    return "an alert"


@plays.of("the client speaks plain HTTP")
def plain(stage: Stage) -> str:
    return status(Safe(stage).client(), b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")


@plays.of("the client says nothing for `tls_handshake_seconds`", timeouts=Timeouts(tls_handshake_seconds=SHORT))
def silent(stage: Stage) -> str:
    return end(Safe(stage).client())


@plays.of("its handshake is not whole after `tls_handshake_seconds`", timeouts=Timeouts(tls_handshake_seconds=SHORT))
def slow(stage: Stage) -> str:
    client = Safe(stage).client()
    client.send(HALF)
    return end(client)


def begun(stage: Stage) -> Client:
    """A client in the middle of its handshake."""
    client = Safe(stage).client()
    client.send(HALF)
    stage.notes.wait_for("on_filter_network_connection")
    wait_until(lambda: stage.context.wsi_count == 1)
    stage.served.call(lambda: None)
    return client


@plays.of("the client hangs up in the middle of its handshake")
def hang_up(stage: Stage) -> str:
    begun(stage).disconnect()
    return "-"


@plays.of("reset in the middle of its handshake")
def reset(stage: Stage) -> str:
    begun(stage).reset()
    return "-"


@plays.of("the context stops in the middle of its handshake")
def stop(stage: Stage) -> str:
    client = begun(stage)
    stage.served.call(stage.context.stop)
    return end(client)


@plays.of("the stream is cut off without a close_notify")
def cut_off(stage: Stage) -> str:
    client = Safe(stage).open()
    client.disconnect()
    return "-"


# -- as the page has it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("what", "style"), plays.cases())
def test_it_is_as_the_page_says(what: str, style: str) -> None:
    plays.check(what, style)


def test_each_row_is_played() -> None:
    assert plays.keys() == plays.rows.keys()
