"""permessage-deflate (RFC 7692) over real connections, against zlib in the test's own hands."""

from __future__ import annotations

import contextlib
import itertools
import random
import subprocess
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import BINARY, CONTINUATION, PING, PONG, TEXT, Client, connect, frame, upgrade_request
from tests.support.context import Running, running
from tests.support.daemon import Site
from tests.support.deflating import OFFER, RSV1, TAIL, Deflating, bomb, fragments
from tests.support.echoes import EchoMessages, EchoPieces
from tests.support.fakes import PLUGINS
from tests.support.memory import MIB, grows_less_than
from tests.support.timing import MS, PATIENCE, wait_until
from wsd.config import Compression, Limits, ProtocolCompression, ProtocolTable, Timeouts
from wsd.context import Context
from wsd.plugins import discover
from wsd.protocol import Protocol

ROOT = Path(__file__).resolve().parent.parent.parent

# Every message is compressed, so that small ones show what is done to them.
ALL = Compression(min_bytes=0)

HELLO = "hello, hello, hello, hello"


@contextlib.contextmanager
def serve(*protocols: Protocol, compression: Compression = ALL, limits: Limits | None = None) -> Iterator[Running]:
    with running(protocols, listen={"compression": compression}, limits=limits or Limits()) as served:
        yield served


# -- a Ping inside of a compressed message ----------------------------------------------------------------------------


class Parts(Protocol):
    """Sends each message that it gets back in two fragments, with a Ping of its own between them."""

    name = "parts"

    def on_message(self, wsi: Any, message: str) -> None:
        wsi.session = message
        wsi.callback_on_writable()

    def on_writeable(self, wsi: Any) -> None:
        half = len(wsi.session) // 2
        wsi.write(wsi.session[:half], final=False)
        wsi.ping(b"between")
        wsi.write(wsi.session[half:])


class TestPingBetweenFragments:
    """A control frame has no part in compression (RFC 7692 6.1): neither bit nor context may notice it."""

    @pytest.mark.parametrize("protocol", [EchoMessages, EchoPieces])
    def test_from_the_peer(self, protocol: type[Protocol]) -> None:
        with serve(protocol()) as served, Deflating(served.port) as peer:
            for message in (HELLO, HELLO * 2, HELLO.encode()):
                size = len(message)
                peer.send(message, cuts=[3, 5], between=frame(PING, str(size)))
                # The Pongs may come before the message or between its fragments.
                assert peer.receive() == message
            peer.client.send(frame(PING, "last"))
            assert peer.client.receive_frame() == (PONG, b"last", True, 0)

    def test_from_us(self) -> None:
        with serve(Parts()) as served, Deflating(served.port) as peer:
            for message in (HELLO, HELLO * 2):
                peer.send(message)
                first, ping, second = (peer.client.receive_frame() for _ in range(3))
                assert (first.opcode, first.final, first.rsv) == (TEXT, False, RSV1)
                assert (ping.opcode, ping.payload, ping.rsv) == (PING, b"between", 0)
                assert (second.opcode, second.final, second.rsv) == (CONTINUATION, True, 0)
                # Each fragment can be read when it arrives, and not only with the next one.
                half = len(message) // 2
                assert peer.inflate(first.payload, ends=False) == message[:half].encode()
                assert peer.inflate(second.payload) == message[half:].encode()


# -- bombs ------------------------------------------------------------------------------------------------------------

# What messages cost is seen in a process of its own.  "counter" counts bytes and tells how many when it gets a text.
COUNTING = """
import sys
from wsd import Context, Limits, Protocol

class Whole(Protocol):
    name = "whole"
    Session = staticmethod(lambda: [0])

    def on_message(self, wsi, message):
        if isinstance(message, str):
            wsi.send(str(wsi.session[0]))
        else:
            wsi.session[0] += len(message)

class Pieces(Protocol):
    name = "pieces"
    Session = staticmethod(lambda: [0])
    max_message_bytes = 0

    def on_receive(self, wsi, data):
        if wsi.frame_is_binary:
            wsi.session[0] += len(data)
        elif wsi.is_final_fragment:
            wsi.send(str(wsi.session[0]))

context = Context([Whole(), Pieces()], limits=Limits(max_message_bytes=1 << 20))
listener = context.listen(port=0)
print(listener.port, flush=True)
sys.stdin.close()
context.run()
"""


class Process:
    """A server in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.port = int(process.stdout.readline())
        self.pid = process.pid

    def grows_less_than(self, size: int) -> AbstractContextManager[None]:
        """Fail if the process needed `size` bytes more at any moment of the block than at its beginning."""
        return grows_less_than(self.pid, size)


@pytest.fixture
def process() -> Iterator[Process]:
    with subprocess.Popen(
        [sys.executable, "-c", COUNTING],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            yield Process(child)
        finally:
            child.terminate()
            _, errors = child.communicate(timeout=PATIENCE)
    assert "Traceback" not in errors, errors


def warm_up(process: Process, protocol: str) -> None:
    """What is loaded and made for the first message is not what messages cost."""
    with Deflating(process.port, protocol) as peer:
        for _ in range(3):
            peer.client.send(*fragments(BINARY, bomb(MIB)))
            peer.client.send_text("how many?")
            peer.receive()


class TestBombs:
    """Peak memory is what one reader and one output buffer need: a few 64 KiB, and the largest legal message."""

    @pytest.mark.parametrize("cuts", [[], [1], range(1000, MIB, 1000)], ids=["one frame", "two", "a thousand"])
    def test_a_gigabyte_in_a_megabyte_meets_the_limit(self, process: Process, cuts: Sequence[int]) -> None:
        data = bomb(1 << 30)
        assert len(data) < 1.02 * MIB
        warm_up(process, "whole")
        with Deflating(process.port, "whole") as peer, process.grows_less_than(4 * MIB):
            with contextlib.suppress(ConnectionError):  # it need not read to the end
                peer.client.send(*fragments(BINARY, data, cuts))
            close = peer.client.receive_close()
            assert (close.close_code, close.close_reason) == (1009, f"message over {MIB} bytes")

    def test_many_small_ones_in_one_read(self, process: Process) -> None:
        """A megabyte each, which is legal: sixty in the 64 KiB of one read."""
        warm_up(process, "whole")
        one = b"".join(fragments(BINARY, bomb(MIB)))
        count = 60
        assert len(one) * count < 65536
        with Deflating(process.port, "whole") as peer, process.grows_less_than(6 * MIB):
            # Independent of each other, so the context that we keep does not matter.
            peer.client.send(one * count, frame(TEXT, "how many?"))
            assert peer.receive() == str(count * MIB)

    def test_the_last_of_many_is_over_the_limit(self, process: Process) -> None:
        one, over = (b"".join(fragments(BINARY, bomb(size * MIB))) for size in (1, 2))
        with Deflating(process.port, "whole") as peer:
            peer.client.send(one * 10, over, one)
            assert peer.client.receive_close().close_code == 1009

    def test_without_a_limit_a_bomb_streams_through(self, process: Process) -> None:
        warm_up(process, "pieces")
        with Deflating(process.port, "pieces") as peer, process.grows_less_than(3 * MIB):
            peer.client.send(*fragments(BINARY, bomb(1 << 30)), frame(TEXT, "how many?"))
            assert peer.receive() == str(1 << 30)

    def test_a_turn_inflates_so_much_and_no_more(self) -> None:
        """What one bomb takes of a turn is what the others wait for."""

        class Counting(Protocol):
            name = "counting"
            max_message_bytes = 0
            count = 0

            def on_receive(self, wsi: Any, data: bytes) -> None:
                self.count += len(data)

        protocol, size = Counting(), 16 * MIB
        with Context([protocol]) as context, Client(context.listen(port=0).port) as client:
            client.send(upgrade_request(headers=[("Sec-WebSocket-Extensions", OFFER)]), *fragments(BINARY, bomb(size)))
            for _ in range(1000):
                before = protocol.count
                context.service(50 * MS)
                assert protocol.count - before <= 2 * 65536
                if protocol.count == size:
                    return
            pytest.fail(f"{protocol.count} bytes after a thousand turns")

    @pytest.mark.parametrize(
        ("data", "code"),
        [
            pytest.param(bomb(2 * MIB) + TAIL + b"\xff\xff", 1009, id="broken behind the limit"),
            pytest.param(bomb(MIB) + TAIL + b"\xff\xff", 1007, id="broken at the limit"),
            pytest.param(b"\xff\xff\xff", 1007, id="broken"),
        ],
    )
    def test_a_broken_one(self, process: Process, data: bytes, code: int) -> None:
        with Deflating(process.port, "whole") as peer, connect(process.port, "whole") as other:
            peer.client.send(*fragments(BINARY, data))
            assert peer.client.receive_close().close_code == code
            other.send_text("how many?")
            assert other.receive_message() == "0"


# -- forms of a message -----------------------------------------------------------------------------------------------


def stored(payload: bytes) -> bytes:
    """A message in stored blocks: nothing is compressed, and every byte is legal (RFC 7692 7.2.3.3)."""
    context = zlib.compressobj(0, wbits=-15)
    return (context.compress(payload) + context.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


def finished(payload: bytes) -> bytes:
    """A whole stream: its last block has BFINAL set (RFC 7692 7.2.3.4).  The message needs one more block behind it."""
    context = zlib.compressobj(wbits=-15)
    return context.compress(payload) + context.flush()


FORMS = [
    pytest.param(stored(b"Hello"), b"Hello", id="stored"),
    pytest.param(stored(bytes(range(256)) * 600), bytes(range(256)) * 600, id="many stored blocks"),
    pytest.param(bytes.fromhex("f248cdc9c90700"), b"Hello", id="7.2.3.1: the RFC's own"),
    pytest.param(bytes.fromhex("f348cdc9c9070000"), b"Hello", id="7.2.3.4: BFINAL"),
    pytest.param(bytes.fromhex("f248050000 00ffffcac9c90700"), b"Hello", id="7.2.3.5: two blocks"),
    pytest.param(b"\x00", b"", id="7.2.3.6: empty"),
    pytest.param(b"\x02\x00", b"", id="an empty block of another kind"),
    pytest.param(finished(b"one") + finished(b"two") + b"\x00", b"onetwo", id="several streams"),
    pytest.param(finished(b"") * 9 + b"\x00", b"", id="empty streams"),
    pytest.param(finished(b"one") + bytes.fromhex("f248cdc9c90700"), b"oneHello", id="a stream, and blocks behind it"),
]


class TestForms:
    @pytest.mark.parametrize(("data", "payload"), FORMS)
    @pytest.mark.parametrize("protocol", [EchoMessages, EchoPieces])
    def test_whole(self, protocol: type[Protocol], data: bytes, payload: bytes) -> None:
        with serve(protocol()) as served, Deflating(served.port) as peer:
            peer.client.send(*fragments(BINARY, data))
            assert peer.receive() == payload

    @pytest.mark.parametrize(("data", "payload"), [form for form in FORMS if len(str(form.values[1])) < 50])
    def test_in_two_frames_split_anywhere(self, data: bytes, payload: bytes) -> None:
        with serve(EchoMessages()) as served, Deflating(served.port) as peer:
            for cut in range(len(data) + 1):
                peer.client.send(*fragments(BINARY, data, [cut]))
                assert peer.receive() == payload

    def test_a_frame_for_each_byte_and_a_read_for_each_byte(self) -> None:
        with serve(EchoMessages()) as served, Deflating(served.port) as peer:
            for message in (HELLO, "", HELLO * 3):
                data = peer.compress(message.encode())
                frames = fragments(TEXT, data, range(1, len(data)))
                peer.client.send_slowly(b"".join(frames))
                assert peer.receive() == message

    def test_empty_frames_before_between_and_behind(self) -> None:
        with serve(EchoMessages()) as served, Deflating(served.port) as peer:
            data = peer.compress(HELLO.encode())
            peer.client.send(*fragments(TEXT, data, [0, 0, 4, 4, len(data), len(data)]))
            assert peer.receive() == HELLO

    @pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 300_000])
    def test_sizes(self, size: int) -> None:
        noise = random.Random(size).randbytes(size)
        with serve(EchoMessages()) as served, Deflating(served.port) as peer:
            for message in (noise, bytes(size), "x" * size):
                peer.send(message)
                assert peer.receive() == message

    def test_pieces_tell_the_plugin_what_they_are(self) -> None:
        """Inflated pieces look as others do: one first, one last, something remaining before the frame's last."""
        seen: list[tuple[int, bool, bool, int]] = []

        class Looking(Protocol):
            name = "looking"

            def on_receive(self, wsi: Any, data: bytes) -> None:
                seen.append((len(data), wsi.is_first_fragment, wsi.is_final_fragment, wsi.remaining_packet_payload))
                if wsi.is_final_fragment:
                    wsi.send(b"")

        with serve(Looking()) as served, Deflating(served.port) as peer:
            peer.send(bytes(MIB))
            assert peer.receive() == b""
        assert sum(size for size, *_ in seen) == MIB
        assert [first for _, first, _, _ in seen] == [True] + [False] * (len(seen) - 1)
        assert [final for _, _, final, _ in seen] == [False] * (len(seen) - 1) + [True]
        assert all(remaining >= 1 for *_, remaining in seen[:-1])
        assert seen[-1][3] == 0

    def test_text_is_checked_after_inflating(self) -> None:
        with serve(EchoMessages()) as served, Deflating(served.port) as peer:
            peer.client.send(*fragments(TEXT, peer.compress("gr\xfc\xdfe".encode("latin-1"))))
            assert peer.client.receive_close().close_code == 1007

    def test_an_uncompressed_message_between_compressed_ones(self) -> None:
        """RFC 7692 6: compression is a matter of each message; what was not compressed is in no history."""
        with serve(EchoMessages()) as served, Deflating(served.port) as peer:
            for at in range(6):
                if at % 2:
                    peer.client.send_text(HELLO)
                else:
                    peer.send(HELLO)
                assert peer.receive() == HELLO


# -- what is forbidden ------------------------------------------------------------------------------------------------


class TestReservedBits:
    @pytest.mark.parametrize(
        "frames",
        [
            pytest.param([frame(PING, "", rsv=RSV1)], id="Ping"),
            pytest.param([frame(PONG, "", rsv=RSV1)], id="Pong"),
            pytest.param([frame(8, b"\x03\xe8", rsv=RSV1)], id="Close"),
            pytest.param(
                [frame(TEXT, b"\xf2\x48", rsv=RSV1, final=False), frame(CONTINUATION, b"\x00", rsv=RSV1)],
                id="continuation of a compressed message",
            ),
            pytest.param(
                [frame(TEXT, "a", final=False), frame(CONTINUATION, b"\x00", rsv=RSV1)],
                id="continuation of another",
            ),
            pytest.param([frame(TEXT, b"\x00", rsv=RSV1 | 2)], id="RSV2 too"),
            pytest.param([frame(TEXT, b"\x00", rsv=RSV1 | 1)], id="RSV3 too"),
            pytest.param([frame(TEXT, b"\x00", rsv=2)], id="RSV2"),
        ],
    )
    def test_where_they_may_not_be_set(self, frames: list[bytes]) -> None:
        with serve(EchoMessages()) as served, Deflating(served.port) as peer:
            peer.client.send(*frames)
            assert peer.client.receive_close().close_code == 1002

    @pytest.mark.parametrize("offer", [None, "permessage-deflate; unknown", "x-other"])
    def test_on_a_connection_without_compression(self, offer: str | None) -> None:
        with serve(EchoMessages()) as served, Deflating(served.port, offer=offer) as peer:
            assert peer.params is None
            peer.client.send(frame(TEXT, b"\x00", rsv=RSV1))
            assert peer.client.receive_close().close_code == 1002


# -- what was agreed on -----------------------------------------------------------------------------------------------

ALONE = "client_no_context_takeover", "server_no_context_takeover"


class TestContextTakeover:
    @pytest.mark.parametrize("offered", [*itertools.product((False, True), repeat=2)])
    @pytest.mark.parametrize("ours", [True, False])
    def test_each_direction(self, offered: tuple[bool, bool], ours: bool) -> None:
        offer = "; ".join([OFFER, *(name for name, wanted in zip(ALONE, offered, strict=True) if wanted)])
        compression = Compression(min_bytes=0, context_takeover=ours)
        with serve(EchoMessages(), compression=compression) as served, Deflating(served.port, offer=offer) as peer:
            assert peer.params is not None
            for name, wanted in zip(ALONE, offered, strict=True):
                assert (name in peer.params) == (wanted or not ours)
            for _ in range(3):
                peer.send(HELLO)
                assert peer.receive() == HELLO
            first, second, third = peer.sizes
            if "server_no_context_takeover" in peer.params:
                assert first == second == third
            else:
                assert second < first
                assert third < first

    def test_who_refers_back_against_the_agreement_fails(self) -> None:
        with (
            serve(EchoMessages()) as served,
            Deflating(served.port, offer=f"{OFFER}; client_no_context_takeover") as peer,
        ):
            context = zlib.compressobj(wbits=-15)
            for _ in range(2):
                data = context.compress(HELLO.encode()) + context.flush(zlib.Z_SYNC_FLUSH)
                peer.client.send(*fragments(TEXT, data.removesuffix(TAIL)))
            assert peer.client.receive_close().close_code == 1007

    def test_histories_of_connections_are_their_own(self) -> None:
        with serve(EchoMessages()) as served, Deflating(served.port) as one, Deflating(served.port) as two:
            for number in range(10):
                for peer, name in ((one, "one"), (two, "two")):
                    peer.send(f"{name} {number} {HELLO}")
                for peer, name in ((two, "two"), (one, "one")):
                    assert peer.receive() == f"{name} {number} {HELLO}"


class TestWindows:
    @pytest.mark.parametrize("ours", [9, 12, 15])
    @pytest.mark.parametrize("theirs", [8, 9, 15, None])
    def test_every_size(self, ours: int, theirs: int | None) -> None:
        """Messages that repeat what was said just inside and just outside of each window."""
        offer = "permessage-deflate; client_max_window_bits"
        if theirs is not None:
            offer = f"{offer}={theirs}; server_max_window_bits={theirs}"
        compression = Compression(min_bytes=0, window_bits=ours)
        source = random.Random(7)
        with serve(EchoMessages(), compression=compression) as served, Deflating(served.port, offer=offer) as peer:
            assert peer.params is not None
            bits = min(ours, theirs or 15)
            assert int(peer.params.get("server_max_window_bits") or 15) == bits
            assert peer.params["client_max_window_bits"] == str(bits)
            word = source.randbytes(40)
            for gap in (200, 260, 480, 520, 4000, 4200, 32700, 32800):
                message = word + source.randbytes(gap - len(word)) + word
                peer.send(message)
                assert peer.receive() == message

    def test_a_client_that_cannot_be_limited_uses_what_it_wants(self) -> None:
        compression = Compression(min_bytes=0, window_bits=9)
        with serve(EchoMessages(), compression=compression) as served:
            with Deflating(served.port, offer="permessage-deflate") as peer:
                assert peer.params == {"server_max_window_bits": "9"}
                word = random.Random(1).randbytes(100)
                message = word + random.Random(2).randbytes(30_000) + word
                peer.send(message)
                assert peer.receive() == message


class TestSmallestMessage:
    def test_shorter_ones_go_as_they_are(self) -> None:
        with serve(EchoMessages(), compression=Compression(min_bytes=20)) as served, Deflating(served.port) as peer:
            for size, rsv in ((0, 0), (19, 0), (20, RSV1), (100, RSV1), (19, 0), (100, RSV1)):
                peer.send("x" * size)
                got = peer.client.receive_frame()
                assert got.rsv == rsv, size
                assert (peer.inflate(got.payload) if rsv else got.payload) == b"x" * size


# -- who has it and who has not ---------------------------------------------------------------------------------------


class Other(EchoMessages):
    name = "other"


class Choosy(EchoMessages):
    """Refuses compression to who asks for it to be plain, and notes what it was asked."""

    name = "choosy"

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, dict[str, str | None]]] = []
        self.extensions: list[tuple[str, ...]] = []

    def on_confirm_extension(self, wsi: Any, name: str, params: dict[str, str | None]) -> int:
        self.asked.append((name, params))
        return -1 if wsi.request.arg("plain") else 0

    def on_established(self, wsi: Any) -> None:
        self.extensions.append(wsi.extensions)


def is_compressed(peer: Deflating) -> bool:
    """Reports whether compression was agreed on, and that an echo comes back either way."""
    if peer.params is None:
        peer.client.send_text(HELLO)
    else:
        peer.send(HELLO)
    assert peer.receive() == HELLO
    return peer.params is not None


class TestOnAndOff:
    def test_by_listener(self) -> None:
        with serve(EchoMessages()) as served:
            off = served.call(lambda: served.context.listen(port=0, compression=Compression(enabled=False)))
            for port, expected in ((served.port, True), (off.port, False)):
                with Deflating(port) as peer:
                    assert is_compressed(peer) is expected

    @pytest.mark.parametrize("listener", [True, False])
    def test_by_protocol(self, listener: bool) -> None:
        protocols = EchoMessages(), Other()
        with serve(*protocols, compression=Compression(enabled=listener, min_bytes=0)) as served:
            own = ProtocolTable(compression=ProtocolCompression(enabled=not listener))
            served.call(lambda: served.context.bindings[protocols[1]].apply(Limits(), Timeouts(), own))
            for name, expected in (("messages", listener), ("other", not listener)):
                with Deflating(served.port, name) as peer:
                    assert is_compressed(peer) is expected

    def test_by_connection(self) -> None:
        protocol = Choosy()
        with serve(protocol, compression=Compression(min_bytes=0, window_bits=11)) as served:
            for path, expected in (("/", True), ("/?plain=1", False), ("/", True)):
                with Deflating(served.port, path=path) as peer:
                    assert is_compressed(peer) is expected
            with Deflating(served.port, offer=None) as peer:
                assert not is_compressed(peer)
            with Deflating(served.port, path="/?plain=1") as peer:
                peer.client.send(frame(TEXT, b"\x00", rsv=RSV1))
                assert peer.client.receive_close().close_code == 1002
        params = {"server_max_window_bits": "11", "client_max_window_bits": "11"}
        assert protocol.asked == [("permessage-deflate", params)] * 4
        used = ("permessage-deflate",)
        assert protocol.extensions == [used, (), used, (), ()]

    def test_a_malformed_offer_is_refused(self) -> None:
        """RFC 6455 9.1: "the recipient of such malformed data MUST immediately _Fail the WebSocket Connection_"."""
        with serve(EchoMessages()) as served:
            for offer in ("permessage-deflate; =1", '"permessage-deflate"', 'a; b="c d"', "a b"):
                with pytest.raises(AssertionError, match="status=400"):
                    Deflating(served.port, offer=offer)


class TestReload:
    def test_a_change_is_for_connections_from_now_on(self, tmp_path: Path) -> None:
        with Site(tmp_path) as site:
            site.configure(listen="port = 0\n[listen.compression]\nmin_bytes = 0\nwindow_bits = 10")
            site.run()
            offer = "permessage-deflate"
            with Deflating(site.port, "echo", offer=offer) as before:
                assert before.params == {"server_max_window_bits": "10"}
                site.configure(
                    listen="port = 0\n[listen.compression]\ncontext_takeover = false",
                    more="[protocols.echo.compression]\nwindow_bits = 15",
                )
                assert site.wsd("reload").returncode == 0
                with Deflating(site.port, "echo", offer=offer) as after:
                    assert after.params == {"server_no_context_takeover": None, "client_no_context_takeover": None}
                    assert is_compressed(after)
                site.configure(listen="port = 0\n[listen.compression]\nwindow_bits = 16")
                done = site.wsd("reload")
                assert done.returncode == 78
                assert "listen[0].compression.window_bits: found 16; allowed: an integer from 9 to 15" in done.stderr
                site.configure(listen="port = 0\ncompression = { enabled = false }")
                assert site.wsd("reload").returncode == 0
                with Deflating(site.port, "echo", offer=offer) as off:
                    assert not is_compressed(off)
                for _ in range(3):
                    assert is_compressed(before)
                assert before.sizes[1] < before.sizes[0], "its history goes on"


# -- the shipped plugins ----------------------------------------------------------------------------------------------

MIXED = [
    "permessage-deflate; client_max_window_bits",
    "permessage-deflate; server_max_window_bits=9",
    "permessage-deflate; server_max_window_bits=8; server_no_context_takeover",
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
    "permessage-deflate; client_max_window_bits=8",
    None,
]
"""What receivers offer that all hear the same."""


@contextlib.contextmanager
def everybody(name: str) -> Iterator[tuple[Running, list[Deflating]]]:
    """The shipped plugin of that name, and one peer for each of `MIXED`."""
    found = discover([PLUGINS], entry_points=False, shipped=None)
    (protocol,) = [protocol for plugin in found for protocol in plugin.protocols if protocol.name == name]
    options = {} if protocol.Options is None else {name: protocol.Options()}
    with contextlib.ExitStack() as stack:
        served = stack.enter_context(
            running([protocol], options=options, listen={"compression": Compression(min_bytes=30)})
        )
        yield served, [stack.enter_context(Deflating(served.port, name, offer=offer)) for offer in MIXED]


def say(peer: Deflating, message: str | bytes) -> None:
    if peer.params is None:
        peer.client.send(frame(TEXT if isinstance(message, str) else BINARY, message))
    else:
        peer.send(message)


class TestBroadcasts:
    @pytest.mark.parametrize("name", ["lws-mirror-protocol", "dumb-increment-protocol"])
    def test_those_of_libwebsockets_refuse_it_as_there(self, name: str) -> None:
        with everybody(name) as (_, peers):
            assert [peer.params for peer in peers] == [None] * len(MIXED)

    def test_all_hear_the_same_in_the_same_order(self) -> None:
        """Small messages and large ones, that repeat each other: a history that is not what it should be shows."""
        with everybody("chat") as (_, peers):
            assert [peer.params is not None for peer in peers] == [True] * 5 + [False]
            source = random.Random(3)
            for number in range(40):
                text = f"{number} {HELLO}" if number % 5 else HELLO * source.randrange(1, 2000) + str(number)
                say(peers[number % len(peers)], text)
                heard = []
                for peer in peers:
                    while not (message := str(peer.receive())).endswith(text):
                        assert message.startswith("* "), message[:80]  # the chat tells who came
                    heard.append(message)
                assert len(set(heard)) == 1

    def test_the_echo_of_one_between_the_words_of_all(self) -> None:
        """What is for one goes through its own history, what is for all through none: the two must not mix."""

        class Both(EchoMessages):
            def on_message(self, wsi: Any, message: str) -> None:
                wsi.send(f"to you: {message}")
                self.broadcast(f"to all: {message}")
                wsi.send(f"to you again: {message}")

        with serve(Both()) as served, contextlib.ExitStack() as stack:
            peers = [stack.enter_context(Deflating(served.port, offer=offer)) for offer in MIXED]
            for number in range(30):
                speaker = peers[number % len(peers)]
                text = f"{number // 2} {HELLO}"
                say(speaker, text)
                for peer in peers:
                    if peer is speaker:
                        assert peer.receive() == f"to you: {text}"
                    assert peer.receive() == f"to all: {text}"
                    if peer is speaker:
                        assert peer.receive() == f"to you again: {text}"

    def test_binary_messages_for_all(self) -> None:
        class All(EchoMessages):
            def on_message(self, wsi: Any, message: bytes) -> None:
                self.broadcast(message)

        with serve(All()) as served, contextlib.ExitStack() as stack:
            peers = [stack.enter_context(Deflating(served.port, offer=offer)) for offer in MIXED]
            message = random.Random(5).randbytes(100) * 700
            for speaker in peers:
                say(speaker, message)
                assert [peer.receive() for peer in peers] == [message] * len(peers)


def test_a_connection_that_never_speaks_has_no_contexts() -> None:
    """Contexts are made when first needed: a thousand idle connections cost what they did without compression."""
    protocol = EchoMessages()
    with serve(protocol) as served, Deflating(served.port) as peer:
        wait_until(lambda: protocol.wsis)
        (wsi,) = protocol.wsis
        deflater, inflater = wsi._deflater, wsi._parser.inflater  # type: ignore[union-attr]
        assert (deflater._context, inflater._context) == (None, None)
        assert is_compressed(peer)
        assert None not in (deflater._context, inflater._context)
