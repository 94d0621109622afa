"""The encrypted byte pipe: OpenSSL on a connected socket, non-blocking.

Owns the handshake in any number of pieces, what OpenSSL wants of the socket while it reads or writes, the bytes that it
holds, and both ends' close_notify; `SSL.Want...` never leaves this file.  Must not know frames, wsi or the loop, nor
how certificates are read and checked: it is handed a connection that knows that.

OpenSSL reads from the socket itself: through a memory BIO a small message costs 1.3 times as much
(`bench/tls_pipe.py`).
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from OpenSSL import SSL

from wsd.errors import PipeBroken
from wsd.tls_info import TlsInfo
from wsd.transport import MOST_FRAMES, READ, WRITE, SocketPipe, name_of_error
from wsd.wire.fast import parse

if TYPE_CHECKING:
    from wsd.wire.parser import Piece

_lib: Any = getattr(SSL, "_lib", None)
_from_buffer: Any = getattr(getattr(SSL, "_ffi", None), "from_buffer", None)
_HAS_OWN_FUNCTIONS: Final = (
    hasattr(_lib, "SSL_read") and _from_buffer is not None and hasattr(SSL.Connection, "_raise_ssl_error")
)

# RFC 8446 5.1: "The length MUST NOT exceed 2^14 bytes", and OpenSSL hands out one record at a time.
RECORD_BYTES: Final = 16384

# What `SSL_get_error` has no number for: the peer is gone and said no close_notify (pyOpenSSL's own).
_UNEXPECTED_EOF: Final = -1

TRUNCATED: Final = "the TLS stream was cut off: no close_notify"


class TlsPipe(SocketPipe):
    """A connected stream socket under TLS, as a byte pipe.

    Args:
        sock: Its socket, which belongs to the pipe from now on.
        connection: OpenSSL's side of it, on that very socket, ready to accept or to connect.
        settled: Called once, when the handshake is over: `failure` says whether it came to nothing.  Never called
            inside a method of the pipe, but by whom the pipe belongs to: see `take_settled`.
    """

    is_direct = False

    __slots__ = (
        "_address",
        "_answer",
        "_at_end",
        "_has_pending",
        "_has_shut",
        "_info",
        "_is_open",
        "_is_shutting",
        "_quick",
        "_receive_for",
        "_send_for",
        "_settled",
        "_ssl",
        "connection",
        "failure",
        "has_changed",
        "is_usual",
    )

    def __init__(self, sock: socket.socket, connection: SSL.Connection, settled: Callable[[], None]) -> None:
        super().__init__(sock)
        self.connection = connection
        # OpenSSL's own object, where pyOpenSSL lets us at it: see `_read`.
        self._ssl: Any = getattr(connection, "_ssl", None) if _HAS_OWN_FUNCTIONS else None
        self._address = _address_of(self._ssl)  # of that, for the extension; 0: not to be had
        self.is_usual = False  # open, at no end, nothing held back or crossed: the socket is ready as the bytes are
        self._quick = 0  # _address while it is
        self._answer: tuple[int, int] | None = None  # see `note_answer`
        self.failure = ""  # why there is no TLS here; then the socket's own bytes are what is received
        self.has_changed = False  # what it waits for, or holds: its owner is to look
        self._settled: Callable[[], None] | None = settled
        self._is_open = False
        self._has_pending = True  # nothing was tried yet, and a client speaks first
        self._receive_for = READ  # what receiving waits for; "want-write while reading" is the other
        self._send_for = WRITE
        self._at_end = False  # the peer's close_notify was read
        self._is_shutting = False  # ours found no room yet
        self._has_shut = False  # ours is on its way
        self._info: TlsInfo | None = None

    # -- what a descriptor's readiness means here -----------------------------------------------------------------

    def interest(self, mask: int) -> int:
        """What the socket is to be polled for, where READ and WRITE of the bytes are of interest."""
        wanted = WRITE if self._is_shutting else 0
        if mask & READ:
            wanted |= self._receive_for
        if mask & WRITE:
            wanted |= self._send_for
        return wanted

    def translate(self, mask: int) -> int:
        """What can be tried with the bytes, where the socket is ready for `mask`."""
        can = mask & ~(READ | WRITE)
        if mask & self._receive_for:
            can |= READ
        if mask & self._send_for:
            can |= WRITE
        if mask & WRITE and self._is_shutting:
            self.shutdown_write()
        return can

    def has_pending(self) -> bool:
        """Reports whether there is something to receive though the socket may be quiet."""
        return self._has_pending

    def take_settled(self) -> Callable[[], None] | None:
        """Whom to tell that the handshake is over, once it is; once."""
        if not (self._is_open or self.failure):
            return None
        settled, self._settled = self._settled, None
        return settled

    # -- bytes ----------------------------------------------------------------------------------------------------

    def receive_into(self, buffer: bytearray) -> int:
        """As `SocketPipe.receive_into`; before the handshake is done it goes on with that, and nothing is there.

        Raises:
            PipeBroken: the connection was reset; what came is no TLS; the stream ended without a close_notify.
        """
        if not self._is_open:
            if not self.failure:
                self._shake_hands()
                return -1
            return super().receive_into(buffer)  # to be thrown away, so that our alert is not overtaken by a reset
        if self._at_end:
            self._has_pending = False
            return 0
        receive = self._read
        size = 0
        try:
            size = receive(buffer) if self._answer is None else self._take_answer()
            if size >= RECORD_BYTES:
                # A whole record: there will be more, and to look costs less than another turn of the loop.
                view = memoryview(buffer)
                while size < len(buffer):
                    size += receive(view[size:])
        except SSL.WantReadError:
            pass
        except SSL.WantWriteError:
            self._wait(WRITE, self._send_for)
            return size or -1
        except SSL.ZeroReturnError:
            self._at_end = True
            self._note_pending(size > 0)
            return size
        except SSL.Error as error:
            self._receive_failed(error, size)
            return size
        if self._receive_for == WRITE:
            self._wait(READ, self._send_for)
        if size == len(buffer) or self._has_pending:
            self._note_pending(self.connection.pending() > 0)
        return size or -1

    def receive_frames(self, buffer: bytearray, limit: int, pieces: list[Piece]) -> tuple[int, int]:
        """As `SocketPipe.receive_frames`, in two calls; in one where the extension does it."""
        size = self.receive_into(buffer)
        return size, parse(buffer, size, limit, MOST_FRAMES, pieces) if size > 0 else 0

    def note_answer(self, answer: int, number: int) -> None:
        """The extension has called OpenSSL, which answered something that is not for it, with errno `number`: who
        receives next gets it, and whatever bytes it tells of are in his buffer."""
        self._answer = answer, number
        self._quick = 0

    def _take_answer(self) -> int:
        """What `_read` would have answered, or raised."""
        assert self._answer is not None
        (answer, number), self._answer = self._answer, None
        self._note_state()
        return self._judge(answer, number)

    def send(self, data: bytes | memoryview, first: tuple[int, int] | None = None) -> int:
        """As `SocketPipe.send`.  What OpenSSL did not take must come again, with or without more behind it.

        Args:
            first: What OpenSSL has answered to the first call, and errno; None: it is to be made.

        Raises:
            PipeBroken: the peer is gone.
        """
        sent = 0
        try:
            sent = self._write(data) if first is None else self._judge(*first)
            if sent < len(data):  # one record is all that OpenSSL takes at a time
                view = memoryview(data)
                while sent < len(data):
                    sent += self._write(view[sent:])
        except SSL.WantWriteError:
            pass
        except SSL.WantReadError:
            self._wait(self._receive_for, READ)
            return sent
        except SSL.Error as error:
            raise PipeBroken(reason_of(error)) from None
        if self._send_for == READ:
            self._wait(self._receive_for, WRITE)
        return sent

    def send_many(self, buffers: list[bytes | memoryview]) -> int:
        """As `SocketPipe.send_many`: in whole records, of which a short buffer and its neighbours share one."""
        if len(buffers) == 1:
            return self.send(buffers[0])
        sent = 0
        short: list[bytes | memoryview] = []  # what waits for its record to be full
        room = RECORD_BYTES
        for buffer in buffers:
            rest = memoryview(buffer)
            if short:
                short.append(rest[:room])
                room -= len(short[-1])
                rest = rest[len(short[-1]) :]
                if room:
                    continue
                took = self._send_record(short)
                sent += took
                if took < RECORD_BYTES:
                    return sent
                short, room = [], RECORD_BYTES
            whole = len(rest) - len(rest) % RECORD_BYTES
            if whole:
                took = self.send(rest[:whole])
                sent += took
                if took < whole:
                    return sent
            if whole < len(rest):
                short.append(rest[whole:])
                room = RECORD_BYTES - (len(rest) - whole)
        return sent + self._send_record(short) if short else sent

    def send_on(self, answer: int, number: int) -> int:
        """`send_many`, where OpenSSL has taken nothing, with errno `number`."""
        return self.send(b"", (answer, number))

    def _send_record(self, parts: list[bytes | memoryview]) -> int:
        return self.send(parts[0] if len(parts) == 1 else b"".join(parts))

    def shutdown_write(self) -> None:
        """Tell the peer that no more comes: close_notify, then FIN.

        "Each party MUST send a "close_notify" alert before closing its write side of the connection" (RFC 8446 6.1).
        Where the kernel has no room for it, that is done when it has: see `interest`.
        """
        if self._is_open and (self._is_shutting or not self._has_shut):
            self._has_shut = True
            self._note_state()  # from here on there are two kinds of end
            try:
                self.connection.shutdown()
            except SSL.WantWriteError:
                self._is_shutting = self.has_changed = True
                return
            except SSL.Error:
                pass  # it is gone, or broken already
        if self._is_shutting:
            self._is_shutting, self.has_changed = False, True
        super().shutdown_write()

    def close(self) -> None:
        """Give the descriptor back; of a handshake that is not over yet nobody is told any more."""
        # Whom it would be told to knows the pipe again.  Such a ring holds what OpenSSL has, some 50 kB, until the
        # garbage collector comes by, which counts objects and not their size: thousands of handshakes would pile up.
        self._settled = None
        self.is_usual, self._quick = False, 0
        super().close()

    # Hot, and the one confined use of what pyOpenSSL keeps to itself: OpenSSL reads into our buffer and writes out of
    # it.  By the public calls, which are the other branch, reading and writing 64 bytes takes 5.6 us in place of 3.9
    # (`bench/tls_pipe.py`): they allocate a buffer for each read, and look for problems that only a handshake has.

    def _read(self, buffer: bytearray | memoryview) -> int:
        """`Connection.recv_into`."""
        ssl = self._ssl
        if ssl is None:
            return self.connection.recv_into(buffer)
        size: int = _lib.SSL_read(ssl, _from_buffer(buffer), len(buffer))
        if size <= 0:
            self.connection._raise_ssl_error(ssl, size)
        return size

    def _write(self, data: bytes | memoryview) -> int:
        """`Connection.send`."""
        ssl = self._ssl
        if ssl is None:
            return self.connection.send(data)
        size: int = _lib.SSL_write(ssl, _from_buffer(data), len(data))
        if size <= 0:
            self.connection._raise_ssl_error(ssl, size)
        return size

    def _judge(self, answer: int, number: int) -> int:
        """What either of them answers, or raises, where somebody else has called OpenSSL's function."""
        if answer <= 0:
            SSL._ffi.errno = number  # type: ignore[attr-defined]  # where pyOpenSSL looks for it
            self.connection._raise_ssl_error(self._ssl, answer)
        return answer

    # -- how it goes ----------------------------------------------------------------------------------------------

    def _shake_hands(self) -> None:
        """Go on with the handshake, as far as the socket lets us."""
        self._has_pending = False
        try:
            self.connection.do_handshake()
        except SSL.WantReadError:
            self._wait(READ, self._send_for)
        except SSL.WantWriteError:
            self._wait(WRITE, self._send_for)
        except SSL.Error as error:
            self._fail(error)
        except Exception as error:  # a callback's: pyOpenSSL has ended the handshake with an alert
            self._fail(error)
        else:
            self._is_open = self.has_changed = True
            self._receive_for = READ
            # The last flight may have come in one piece with the first record.
            self._has_pending = self.connection.pending() > 0
            self._note_state()

    def _fail(self, error: Exception) -> None:
        self.failure = reason_of(error) if isinstance(error, SSL.Error) else type(error).__name__
        self.has_changed = True
        self._receive_for = READ

    def _wait(self, receive_for: int, send_for: int) -> None:
        if (receive_for, send_for) != (self._receive_for, self._send_for):
            self._receive_for, self._send_for = receive_for, send_for
            self.has_changed = True
            self._note_state()

    def _note_pending(self, is_there: bool) -> None:
        self._has_pending = is_there
        self.has_changed = self.has_changed or is_there
        self._note_state()

    def _note_state(self) -> None:
        """Something has changed: is all as usual?"""
        is_crossed = self._receive_for != READ or self._send_for != WRITE
        is_open = self._is_open and not self._has_shut
        self.is_usual = is_open and not (self._at_end or self._has_pending or is_crossed)
        self._quick = self._address if self.is_usual else 0

    def _receive_failed(self, error: SSL.Error, size: int) -> None:
        """OpenSSL is at its end with this stream; what was read before is still handed out.

        Raises:
            PipeBroken: unless there is something to hand out, or our own close_notify is out and nobody waits for more.
        """
        if is_truncation(error) and self._has_shut:
            self._at_end = True
            self._note_pending(size > 0)
        elif size:
            self._note_pending(True)  # it will say the same again
        else:
            raise PipeBroken(reason_of(error)) from None

    # -- facts ----------------------------------------------------------------------------------------------------

    @property
    def tls(self) -> TlsInfo | None:
        """What was agreed on; None before the handshake is done."""
        if self._info is None and self._is_open:
            self._info = TlsInfo(self.connection)
        return self._info


def reason_of(error: SSL.Error) -> str:
    """What went wrong, in OpenSSL's words or the system's."""
    if isinstance(error, SSL.SysCallError):
        return TRUNCATED if is_truncation(error) else name_of_error(error.args[0])
    reasons = [reason for _, _, reason in _queue(error) if reason]
    return f"TLS: {reasons[0]}" if reasons else "TLS: it failed without a reason"


def is_truncation(error: SSL.Error) -> bool:
    """Reports whether the peer's stream ended without a close_notify, which anybody on the way may have done."""
    return isinstance(error, SSL.SysCallError) and error.args[0] == _UNEXPECTED_EOF


def _queue(error: SSL.Error) -> list[tuple[str, str, str]]:
    """OpenSSL's error queue, as pyOpenSSL has emptied it."""
    found: Any = error.args[0] if error.args else []
    return found if isinstance(found, list) else []


# -- the extension ------------------------------------------------------------------------------------------------


def _hasten() -> bool:
    """Have the extension read and write; reports whether it does.

    It takes the extension, and a cffi that tells where OpenSSL's functions are: the package cryptography has one inside
    of it, which nobody else can link to.
    """
    try:
        from wsd._native import hasten_tls

        ffi: Any = SSL._ffi  # type: ignore[attr-defined]
        library = getattr(_lib, "_original_lib", _lib)  # what pyOpenSSL shows is a module made of it
        found = [ffi.addressof(library, name) for name in ("SSL_read", "SSL_write")]
        are_meant = all(ffi.typeof(function) == ffi.typeof("int(*)(SSL *, void *, int)") for function in found)
    except (ImportError, AttributeError, TypeError):
        return False
    if are_meant and _HAS_OWN_FUNCTIONS:
        read, write = (int(ffi.cast("uintptr_t", function)) for function in found)
        hasten_tls(TlsPipe, read, write, MOST_FRAMES)
    return are_meant and _HAS_OWN_FUNCTIONS


def _address_of(ssl: Any) -> int:
    """Where OpenSSL's object is, for the extension; 0 without that."""
    if not _IS_HASTENED or ssl is None:
        return 0
    return int(SSL._ffi.cast("uintptr_t", ssl))  # type: ignore[attr-defined]


_IS_HASTENED = _hasten()


# -- what both ends' contexts have in common --------------------------------------------------------------------------


# Of TLS 1.2: forward secrecy by ECDHE; AES-GCM and ChaCha20, whose integrity is not bolted on.  It is what Mozilla's
# "intermediate" holds, without finite-field Diffie-Hellman, which costs a server ten times as much and which no living
# client needs.
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"

# Of TLS 1.3, in Mozilla's order: 128 bits are out of reach, and SHA-256, which comes with them, makes a handshake 3 of
# 100 cheaper than SHA-384.
SUITES: Final = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"


def new_context(method: int) -> SSL.Context:
    """A context with what holds for both ends.

    Compression tells secrets by their size (CVE-2012-4929), renegotiation lets a peer cost more than it pays
    (CVE-2011-1473), and buffers that idle connections keep are 30 kB of each.
    """
    context = SSL.Context(method)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)  # RFC 8996: earlier ones "MUST NOT be used"
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_cipher_list(CIPHERS.encode())
    context.set_tls13_ciphersuites(SUITES.encode())
    return context


def library() -> str:
    """Which OpenSSL this is: the one that the package cryptography carries, and not the system's."""
    return SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode("ascii", "replace")


def verdict_text(number: int) -> str:
    """What a number of X509_STORE_CTX_get_error(3) means; pyOpenSSL has the texts, and no public call for them."""
    with contextlib.suppress(AttributeError):
        text: bytes = SSL._ffi.string(SSL._lib.X509_verify_cert_error_string(number))  # type: ignore[attr-defined]
        return text.decode("ascii", "replace")
    return f"X.509 error {number}"
