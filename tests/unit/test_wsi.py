"""wsd/wsi.py without a loop: what is delivered and when, what a piece says of itself, closes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.client import BINARY, CONTINUATION, TEXT, close_frame, frame
from tests.support.loopless import REQUEST
from tests.support.notes import line_of
from wsd import CLOSE
from wsd.wsi import PIECES_PER_TURN

FINISHED = b"\x88\x02\x03\xe8"
"""Close 1000, as the server sends it."""


class TestFacts:
    def test_its_tag_names_protocol_number_and_peer(self) -> None:
        line, _ = line_of()
        assert line.wsi.tag == "notes#1 192.0.2.1:9"
        assert repr(line.wsi) == "<Wsi notes#1 192.0.2.1:9>"

    def test_what_a_plugin_may_look_at(self) -> None:
        line, protocol = line_of()
        wsi = line.wsi
        assert wsi.protocol is protocol
        assert wsi.request is REQUEST
        assert (wsi.subprotocol, wsi.extensions, wsi.is_client, wsi.fileno()) == ("notes", (), False, 7)
        assert (wsi.is_established, wsi.is_closing) == (True, False)
        wsi.close()
        assert (wsi.is_established, wsi.is_closing) == (False, True)

    def test_outside_a_receive_there_is_no_piece(self) -> None:
        line, _ = line_of()
        line.receive(frame(BINARY, b"x"))
        wsi = line.wsi
        assert (wsi.is_first_fragment, wsi.is_final_fragment, wsi.frame_is_binary) == (False, False, False)
        assert wsi.remaining_packet_payload == 0


class TestPieces:
    def test_flags_of_fragments_and_of_pieces_of_one_frame(self) -> None:
        seen: list[tuple[bytes, bool, bool, int, bool]] = []

        def look(wsi: Any, data: bytes) -> None:
            seen.append(
                (
                    data,
                    wsi.is_first_fragment,
                    wsi.is_final_fragment,
                    wsi.remaining_packet_payload,
                    wsi.frame_is_binary,
                )
            )

        line, _ = line_of(receive=look)
        line.receive(frame(TEXT, b"whole"))
        line.receive(frame(BINARY, b"one", final=False))
        late = frame(CONTINUATION, b"twothree")
        line.receive(late[:9], late[9:])
        assert seen == [
            (b"whole", True, True, 0, False),
            (b"one", True, False, 0, True),
            (b"two", False, False, 5, True),
            (b"three", False, True, 0, True),
        ]

    def test_what_came_with_the_request_is_delivered_after_established(self) -> None:
        line, protocol = line_of()
        line.wsi.upgrade(line.binding, REQUEST, None, b"101", frame(TEXT, b"early"))
        assert protocol.notes[1:] == [("established",), ("receive", b"early")]

    def test_so_many_in_a_turn_and_the_rest_in_the_next(self) -> None:
        line, protocol = line_of()
        line.receive(frame(TEXT, b"x") * (PIECES_PER_TURN + 10))
        assert protocol.count("receive") == PIECES_PER_TURN
        line.context.turn()
        assert protocol.count("receive") == PIECES_PER_TURN + 10
        assert line.context.backlogs == []

    def test_a_close_behind_many_pieces_waits_for_them(self) -> None:
        line, protocol = line_of()
        line.receive(frame(TEXT, b"x") * (PIECES_PER_TURN + 10) + close_frame(4000))
        assert protocol.count("peer_close") == 0
        line.context.turn()
        assert protocol.notes[-2:] == [("receive", b"x"), ("peer_close", 4000, "")]


class TestFlowControl:
    def test_it_stops_inside_one_read_and_goes_on_in_order(self) -> None:
        line, protocol = line_of(receive=lambda wsi, data: wsi.rx_flow_control(data != b"2"))
        line.receive(b"".join(frame(TEXT, str(i)) for i in range(5)))
        assert protocol.received() == [b"0", b"1", b"2"]
        assert line.context.interest == 0
        line.context.turn()
        assert len(protocol.received()) == 3
        line.wsi.rx_flow_control(True)
        assert len(protocol.received()) == 3, "a hook ran inside the call"
        line.context.turn()
        assert protocol.received() == [b"0", b"1", b"2", b"3", b"4"]
        assert line.context.interest == 1

    def test_off_and_on_inside_one_hook_changes_nothing(self) -> None:
        line, protocol = line_of(receive=lambda wsi, data: wsi.rx_flow_control(False) or wsi.rx_flow_control(True))
        line.receive(frame(TEXT, b"a") + frame(TEXT, b"b"))
        line.context.turn()
        assert protocol.received() == [b"a", b"b"]

    def test_a_violation_behind_held_pieces_waits_for_them(self) -> None:
        line, protocol = line_of(receive=lambda wsi, data: wsi.rx_flow_control(False))
        line.receive(frame(TEXT, b"a") + frame(TEXT, b"b") + frame(3, b""))
        line.context.turn()
        assert line.sent() == b""
        for _ in range(3):
            line.wsi.rx_flow_control(True)
            line.context.turn()
        assert protocol.received() == [b"a", b"b"]
        assert b"\x03\xea" in line.sent()

    def test_off_before_established_holds_what_came_with_the_request(self) -> None:
        line, protocol = line_of(established=lambda wsi: wsi.rx_flow_control(False))
        line.wsi.upgrade(line.binding, REQUEST, None, b"", frame(TEXT, b"a"))
        line.context.turn()
        assert protocol.received() == []
        line.wsi.rx_flow_control(True)
        line.context.turn()
        assert protocol.received() == [b"a"]

    def test_nothing_is_delivered_after_a_close_that_lay_before_it(self) -> None:
        line, protocol = line_of(receive=lambda wsi, data: CLOSE)
        line.receive(frame(TEXT, b"a") + frame(TEXT, b"b"))
        line.context.turn()
        assert protocol.received() == [b"a"]
        assert line.sent() == FINISHED


class TestPeerClose:
    @pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
    def test_the_code_is_echoed_and_told(self, code: int) -> None:
        line, protocol = line_of()
        line.receive(close_frame(code, "bye"))
        line.context.turn()
        assert line.sent() == b"\x88\x02" + code.to_bytes(2, "big")
        line.receive(b"")
        line.wsi.reap()
        assert protocol.notes[1:] == [("peer_close", code, "bye"), ("closed", code, "bye")]

    def test_without_a_code_it_is_1005_and_the_echo_has_none(self) -> None:
        line, protocol = line_of()
        line.receive(close_frame(None))
        line.context.turn()
        assert line.sent() == b"\x88\x00"
        line.wsi.abort()
        line.wsi.reap()
        assert protocol.notes[-1] == ("closed", 1005, "")

    def test_close_as_the_answer_ends_without_an_echo(self) -> None:
        line, _ = line_of(peer_close=lambda wsi, code, reason: CLOSE)
        line.receive(close_frame(1000))
        line.context.turn()
        assert line.sent() == b""
        assert line.pipe.is_shut

    def test_the_hook_may_answer_with_another_code(self) -> None:
        line, _ = line_of(peer_close=lambda wsi, code, reason: wsi.close(4001) and None)
        line.receive(close_frame(1000))
        line.context.turn()
        assert line.sent() == b"\x88\x02\x0f\xa1"

    def test_ours_crosses_theirs(self) -> None:
        line, protocol = line_of()
        line.wsi.close(4000)
        line.context.turn()
        assert line.sent() == b"\x88\x02\x0f\xa0"
        line.receive(frame(TEXT, b"late") + close_frame(1001))
        line.context.turn()
        assert line.sent() == b""
        assert line.pipe.is_shut
        line.receive(b"")
        line.wsi.reap()
        assert protocol.notes[1:] == [("closed", 1001, "")]

    @pytest.mark.parametrize("behind", [b"", frame(TEXT, b"never") * PIECES_PER_TURN])
    def test_theirs_lay_behind_what_was_held_back_when_we_closed(self, behind: bytes) -> None:
        """It was read long ago, and no more will come: it has to be found, and not awaited."""
        line, protocol = line_of(receive=lambda wsi, data: wsi.rx_flow_control(False))
        line.receive(frame(TEXT, b"a") + frame(TEXT, b"b") + behind + close_frame(4001, "bye"))
        line.context.turn()
        line.wsi.close(4000)
        line.context.turn()
        assert line.sent() == b"\x88\x02\x0f\xa0"
        assert line.pipe.is_shut, "it waits for what has come already"
        line.receive(b"")
        line.wsi.reap()
        assert protocol.notes[1:] == [("receive", b"a"), ("closed", 4001, "bye")]

    def test_theirs_was_not_even_read_when_we_closed(self) -> None:
        line, protocol = line_of()
        line.wsi.rx_flow_control(False)
        line.receive(frame(TEXT, b"a") + close_frame(4001))
        assert line.pipe.incoming, "read in spite of the flow control"
        line.wsi.close(4000)
        assert line.context.interest == 1
        line.context.turn()
        line.wsi.on_events(1)
        line.context.turn()
        assert line.pipe.is_shut
        line.receive(b"")
        line.wsi.reap()
        assert protocol.notes[1:] == [("closed", 4001, "")]

    def test_a_stream_that_ends_while_our_close_cannot_leave_is_not_awaited(self) -> None:
        line, _ = line_of()
        line.pipe.room = 0
        line.wsi.send("x")
        line.context.turn()
        line.wsi.close(4000)
        line.receive(b"")
        line.allow()
        line.context.turn()
        assert line.sent() == b"\x81\x01x\x88\x02\x0f\xa0"
        assert line.context.dead == [line.wsi], "it waits for an answer that cannot come"

    def test_pausing_in_the_last_hook_call_does_not_cut_the_end_short(self) -> None:
        line, _ = line_of(
            receive=lambda wsi, data: wsi.callback_on_writable(),
            writeable=lambda wsi: wsi.rx_flow_control(False),
        )
        line.receive(frame(TEXT, b"a") + close_frame(1000))
        line.context.turn()
        line.context.turn()
        assert line.sent() == FINISHED
        assert line.context.dead == [], "closed with input unread: the peer would see a reset"
        assert line.pipe.is_shut
        line.receive(b"")
        assert line.context.dead == [line.wsi]


def test_after_the_end_nothing_runs_whatever_comes() -> None:
    line, protocol = line_of()
    line.receive(frame(TEXT, b"x") * (PIECES_PER_TURN + 5))
    line.wsi.callback_on_writable()
    line.wsi.abort()
    line.wsi.reap()
    before = list(protocol.notes)
    assert before[-1] == ("closed", 1006, "")
    line.wsi.resume()
    line.wsi.service_write()
    line.receive(frame(TEXT, b"y"), b"")
    line.wsi.abort()
    line.context.pass_time(1000)
    assert protocol.notes == before
