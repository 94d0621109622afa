"""TLS: handshakes that are slow, broken or many, and records that are cut anywhere."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any, Final

from tests.attacks.attempt import FLOOD_BYTES, Attempt, counted, frames_of, responses
from tests.attacks.group_heads import readable
from tests.attacks.model import Attack, Group
from tests.attacks.tls_bytes import (
    ALERT,
    CHANGE_CIPHER_SPEC,
    DATA,
    HANDSHAKE,
    HEARTBEAT,
    NO_TLS,
    SLOW,
    TLS,
    Bytes,
    alerts,
    each,
    hello,
    record,
    says,
)
from tests.support.client import PING, TEXT, close_frame, frame, upgrade_request
from tests.support.tls import TlsClient, client_context

SLOW_CLIENTS: Final = 100
HANDSHAKES: Final = 200


def encrypted(attempt: Attempt, **options: Any) -> TlsClient:
    """A connection whose handshake is done."""
    client: TlsClient = attempt.enter(TlsClient(attempt.address, None, **options))
    return client


# -- slow -------------------------------------------------------------------------------------------------------------


def slow(data: bytes, rounds: int = 1) -> Callable[[Attempt], str]:
    """Many connections on which that is sent, and no more; when all have ended, as many again."""

    def play(attempt: Attempt) -> str:
        told = []
        for _ in range(rounds):
            clients = [attempt.client() for _ in range(SLOW_CLIENTS)]
            for client in clients:
                client.send(data)
            attempt.companion.go_round(5)
            told += [alerts(client) for client in clients]
        return counted(told)

    return play


def drip(attempt: Attempt) -> str:
    """A byte, and one more each time a round of the companion's is over."""
    clients = [attempt.client() for _ in range(SLOW_CLIENTS)]
    waiting = dict.fromkeys(clients)
    data = hello()
    for at in range(len(data)):
        for client in waiting:
            client.send(data[at : at + 1])
        attempt.companion.go_round(2)
        for client in readable(waiting):
            del waiting[client]
        if not waiting:
            break
    assert not waiting, "it came to the end of the hello"
    return counted([alerts(client) for client in clients])


def silent_behind_the_handshake(attempt: Attempt) -> str:
    """The handshake is done, and no request follows."""
    clients = [encrypted(attempt) for _ in range(50)]
    return counted([responses(client) for client in clients])


def shaken_and_dropped(attempt: Attempt) -> str:
    """Handshakes, the dearest that there is for a server, each of which leads to nothing."""
    context = client_context(None)
    for at in range(HANDSHAKES):
        client = encrypted(attempt, context=context)
        if at % 2:
            client.reset()
        else:
            client.disconnect()
        if not at % 20:
            attempt.companion.go_round()
    return "handshakes without a trace"


def hellos_and_resets(attempt: Attempt) -> str:
    """The server has to compute its answer, the client nothing."""
    data = hello()
    for at in range(500):
        client = attempt.client()
        client.send(data)
        client.reset()
        if not at % 50:
            attempt.companion.go_round()
    return "500 connections without a trace"


# -- cut --------------------------------------------------------------------------------------------------------------


def byte_by_byte(attempt: Attempt) -> str:
    """Everything that a client says in segments of a byte, none on a record's border."""
    client, tls = attempt.client(), Bytes()
    tls.shake(client, client.send_slowly)
    client.send_slowly(tls.encrypt(upgrade_request(protocols="echo")))
    tls.hear(client, b"\r\n\r\n")
    client.send_slowly(tls.encrypt(frame(TEXT, "byte by byte")))
    return f"echo: {tls.hear(client, b'byte by byte')[2:].decode()}"


def records_of_a_byte(attempt: Attempt) -> str:
    """Each byte in a record of its own, which is 22 times as much to read."""
    client, tls = attempt.client(), Bytes()
    tls.shake(client, client.send)
    data = upgrade_request(protocols="echo") + frame(TEXT, "x" * 2000)
    client.send(b"".join(tls.encrypt(data[at : at + 1]) for at in range(len(data))))
    tls.hear(client, b"x" * 2000)
    return "101, echo"


def cut_anywhere(attempt: Attempt) -> str:
    """The end of the stream at every place of a ClientHello."""
    data = hello()
    told = set()
    for at in range(1, len(data), 7):
        client = attempt.client()
        client.send(data[:at])
        client.shut_down_writing()
        told.add(alerts(client))
        client.disconnect()
    return " or ".join(sorted(told))


def truncated(attempt: Attempt) -> str:
    """The end of the stream inside a message, without a close_notify: somebody on the way may have cut it."""
    client, tls = attempt.client(), Bytes()
    tls.shake(client, client.send)
    client.send(tls.encrypt(upgrade_request(protocols="echo")))
    tls.hear(client, b"\r\n\r\n")
    client.send(tls.encrypt(frame(TEXT, "half of it")[:6]))
    attempt.companion.go_round()
    client.disconnect()
    attempt.wait_line(CUT)
    return "on_closed with 1006"


CUT: Final = "INFO <tag>: closed, 1006 (the TLS stream was cut off: no close_notify)"


def broken_record(attempt: Attempt) -> str:
    """One bit of an encrypted record is another one than was sent."""
    client, tls = attempt.client(), Bytes()
    tls.shake(client, client.send)
    client.send(tls.encrypt(upgrade_request(protocols="echo")))
    tls.hear(client, b"\r\n\r\n")
    data = bytearray(tls.encrypt(frame(TEXT, "x" * 100)))
    data[50] ^= 1
    client.send(bytes(data))
    try:
        tls.hear(client, b"never")
    except ssl.SSLError as error:
        return str(error.reason).lower().replace("_", " ")
    except (AssertionError, ConnectionResetError):
        return "end"
    return "something"


# -- the wrong port ---------------------------------------------------------------------------------------------------


def plain(*requests: bytes, at: int = 0) -> Callable[[Attempt], str]:
    def play(attempt: Attempt) -> str:
        told = []
        for request in requests:
            client = attempt.client(at)
            client.send(request)
            told.append(responses(client))
        return counted(told)

    return play


_GET: Final = b"GET /secret?token=1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


# -- the same as without ----------------------------------------------------------------------------------------------


def unread_pongs(attempt: Attempt) -> str:
    """A reader that is slow under TLS: what waits is bounded as well."""
    client = encrypted(attempt, receive_buffer=4096)
    client.send(upgrade_request(protocols="echo"))
    assert client.receive_response().status == 101
    client.socket.setblocking(False)
    sent, is_taken, data = 0, True, frame(TEXT, "x" * 65_000)
    while sent < FLOOD_BYTES:
        try:
            sent += client.socket.send(data[sent % len(data) :])
            is_taken = True
        except ssl.SSLWantWriteError:
            if not is_taken:
                break
            is_taken = False
            attempt.companion.go_round(10)
    assert sent < FLOOD_BYTES
    client.reset()
    return "no more messages are read than echoes"


def violation(attempt: Attempt) -> str:
    client = encrypted(attempt)
    client.send(upgrade_request(protocols="echo"))
    assert client.receive_response().status == 101
    client.send(frame(PING, bytes(126)), close_frame(1000))
    return counted(frames_of(client))


_TOO_LONG = NO_TLS + "the handshake took too long"

HELLO_ATTACKS: Final = (
    Attack(
        f"{SLOW_CLIENTS} connections to a TLS port on which nothing is sent",
        f"{SLOW_CLIENTS} x end",
        slow(b""),
        (_TOO_LONG,),
        "CVE-2007-6750",
        SLOW,
    ),
    Attack(
        f"{4 * SLOW_CLIENTS} halves of a ClientHello, {SLOW_CLIENTS} at a time: OpenSSL holds 50 kB for each",
        f"{4 * SLOW_CLIENTS} x end",
        slow(hello()[:100], 4),
        (_TOO_LONG,),
        "CVE-2007-6750",
        SLOW,
        memory_kib=9216,
    ),
    Attack(
        f"{SLOW_CLIENTS} ClientHellos, a byte at a time",
        f"{SLOW_CLIENTS} x end",
        drip,
        (_TOO_LONG,),
        "CVE-2007-6750",
        SLOW,
        memory_kib=8192,
    ),
    Attack(
        "50 handshakes, and then no request",
        "50 x end",
        silent_behind_the_handshake,
        setup=SLOW,
        memory_kib=4096,
    ),
    Attack(
        f"{HANDSHAKES} whole handshakes, dropped",
        "handshakes without a trace",
        shaken_and_dropped,
        known="CVE-2011-1473",
        setup=TLS,
        memory_kib=2048,
    ),
    Attack(
        "500 ClientHellos, and resets behind them",
        "500 connections without a trace",
        hellos_and_resets,
        (NO_TLS + "ECONNRESET",),
        "CVE-2023-44487",
        TLS,
        memory_kib=4096,
    ),
)

RECORD_ATTACKS: Final = (
    Attack(
        "a handshake, an upgrade and a message, a byte in each segment", "echo: byte by byte", byte_by_byte, setup=TLS
    ),
    Attack(
        "an upgrade and a message, a byte in each record", "101, echo", records_of_a_byte, setup=TLS, memory_kib=2048
    ),
    Attack(
        "the end of the stream inside a ClientHello, at every seventh byte",
        "alert decode_error, end",
        cut_anywhere,
        (NO_TLS + "the TLS stream was cut off: no close_notify",),
        setup=TLS,
    ),
    Attack(
        "the end of the stream inside a message, without close_notify",
        "on_closed with 1006",
        truncated,
        (CUT,),
        setup=TLS,
    ),
    Attack(
        "a bit of an encrypted record, changed",
        "sslv3 alert bad record mac",
        broken_record,
        ("INFO <tag>: closed, 1006 (TLS: <*>)",),
        setup=TLS,
    ),
)

GARBAGE: Final = (
    Attack(
        "zeros, bytes above 127, a TLS record of random bytes",
        "2 x end, alert unexpected_message, end",
        each(bytes(100), bytes([200]) * 100, record(HANDSHAKE, bytes(range(100)))),
        (
            NO_TLS + "TLS: wrong version number",
            NO_TLS + "TLS: unexpected message",
        ),
        setup=TLS,
    ),
    Attack(
        "a record of 65,535 bytes, announced; 1000 records of none",
        "alert record_overflow, end, alert unexpected_message, end",
        each(record(HANDSHAKE, b"x" * 100, 65_535), record(HANDSHAKE, b"") * 1000),
        (
            NO_TLS + "TLS: data length too long",
            NO_TLS + "TLS: record too small",
        ),
        setup=TLS,
    ),
    Attack(
        "a handshake message of 16 MiB, announced, in records of 16 KiB",
        "alert illegal_parameter, end",
        says(*[record(HANDSHAKE, b"\x01\xff\xff\xff" + bytes(16_380))] * 20),
        (NO_TLS + "TLS: excessive message size",),
        "CVE-2016-6305",
        TLS,
    ),
    Attack(
        "a heartbeat that asks for more than it brings, in the first record, and behind a ClientHello",
        "alert unexpected_message, end, its records, end",
        lambda attempt: counted(
            [
                says(record(HEARTBEAT, b"\x01\x40\x00x"))(attempt),
                says(hello(), record(HEARTBEAT, b"\x01\x40\x00x", version=0x0303))(attempt),
            ]
        ),
        (
            NO_TLS + "TLS: unexpected message",
            NO_TLS + "TLS: bad record type",
        ),
        "CVE-2014-0160",
        TLS,
    ),
    Attack(
        "ChangeCipherSpec first; 1000 of them behind a ClientHello",
        "alert unexpected_message, end, its records, end",
        lambda attempt: counted(
            [
                says(record(CHANGE_CIPHER_SPEC, b"\x01"))(attempt),
                says(hello(), record(CHANGE_CIPHER_SPEC, b"\x01", version=0x0303) * 1000)(attempt),
            ]
        ),
        (
            NO_TLS + "TLS: unexpected message",
            NO_TLS + "TLS: unexpected ccs message",
        ),
        "CVE-2014-0224, CVE-2020-25648",
        TLS,
    ),
    Attack(
        "1000 warning alerts in place of a ClientHello; an alert and then nothing",
        "2 x alert unexpected_message, end",
        lambda attempt: counted(
            [
                says(record(ALERT, b"\x01\x5a") * 1000)(attempt),
                says(record(ALERT, b"\x02\x28"))(attempt),
            ]
        ),
        (NO_TLS + "TLS: unexpected message",),
        "CVE-2016-8610",
        TLS,
    ),
    Attack(
        "data before the handshake; two ClientHellos",
        "alert unexpected_message, end, its records, end",
        lambda attempt: counted([says(record(DATA, _GET))(attempt), says(hello(), hello())(attempt)]),
        (
            NO_TLS + "TLS: unexpected message",
            NO_TLS + "TLS: bad record type",
        ),
        setup=TLS,
    ),
    Attack(
        "plain HTTP on a TLS port: a request, an upgrade, with what it needs to be redirected to another host",
        "3 x 400, end",
        plain(_GET, upgrade_request(host="localhost"), _GET.replace(b"Host: localhost", b"Host: evil.example/x")),
        ("INFO <tag>: refused with 400 this port speaks TLS: use https://", "INFO <tag>: refused with 400 <*>wss://"),
        setup=TLS,
    ),
    Attack(
        'the same with `plain_http = "redirect"`, and one with CR LF in its address',
        "308, end, 400, end, 308, end",
        plain(_GET, upgrade_request(host="localhost"), _GET.replace(b"/secret", b"/%0d%0aX:%20y"), at=3),
        ("INFO <tag>: refused with 308 this is found under https://", "INFO <tag>: refused with 400 <*>wss://"),
        setup=TLS,
    ),
    Attack(
        "letters without an end on a TLS port",
        "414, end",
        plain(b"GET /" + b"x" * 70_000),
        ("INFO <tag>: refused with 414 <*>",),
        setup=TLS,
    ),
    Attack(
        "a ClientHello on a plain port",
        "400, end",
        plain(hello(), at=1),
        ("INFO <tag>: refused with 400 <*>",),
        setup=TLS,
    ),
)

SAME: Final = (
    Attack(
        "messages of 64 KiB without end, no echo of which is read",
        "no more messages are read than echoes",
        unread_pongs,
        setup=TLS,
        memory_kib=3072,
    ),
    Attack(
        "a ping of 126 bytes",
        "Close 1002 control frame over 125 bytes, end",
        violation,
        ("INFO <tag>: protocol violation, closing with 1002: control frame over 125 bytes",),
        setup=TLS,
    ),
)

GROUPS: Final = (
    Group(16, "TLS handshakes that are slow or many", HELLO_ATTACKS),
    Group(17, "TLS records", RECORD_ATTACKS),
    Group(18, "What is no TLS on a TLS port, and the reverse", GARBAGE),
    Group(19, "Frames under TLS", SAME),
)
