"""The C program that docs/porting-from-lws.md shows, and the plugin beside it, say the same to the same client."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.interop.c_program import compile_with_libwebsockets
from tests.interop.conftest import Daemon
from tests.support.client import CONTINUATION, TEXT, Frame, connect, frame
from tests.support.ports import free_port
from tests.support.timing import PATIENCE

NAME = "dumb-increment-protocol"

# What the page leaves out, as every LWS program has it.
MAIN = r"""
#include <stdio.h>
#include <stdlib.h>

int main(int count, char **arguments)
{
	struct lws_context_creation_info info = {
		.protocols = protocols, .iface = "127.0.0.1", .port = count > 1 ? atoi(arguments[1]) : 0,
	};
	struct lws_context *context = lws_create_context(&info);

	if (!context)
		return 1;
	puts("listening");
	fflush(stdout);
	while (lws_service(context, 0) >= 0)
		;
	return 0;
}
"""


@pytest.fixture(scope="module")
def program(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C of the page, compiled."""
    page = (root / "docs" / "porting-from-lws.md").read_text()
    (shown,) = re.findall(r"^```c\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    folder = tmp_path_factory.mktemp("c")
    (folder / "dumb_increment.c").write_text(shown + MAIN)
    return compile_with_libwebsockets(folder / "dumb_increment.c", folder / "dumb_increment")


@contextmanager
def in_c(program: Path) -> Iterator[int]:
    """Its port, while it runs."""
    port = free_port()
    with subprocess.Popen([program, str(port)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"listening\n"
            yield port
            assert process.poll() is None, "it has ended by itself"
        finally:
            process.terminate()
            process.wait(PATIENCE)


def converse(port: int) -> None:
    """Everything that the protocol can do; fragments and compression offered included."""
    with connect(port, NAME, headers=[("Sec-WebSocket-Extensions", "permessage-deflate")]) as client:
        for number in range(5):
            assert client.receive_frame() == Frame(TEXT, b"%d" % number)
        client.send_text("no command")
        client.send(frame(TEXT, b"res", final=False))
        client.send(frame(CONTINUATION, b"et\n"))
        while client.receive_frame().payload != b"0":
            pass
        assert client.receive_frame() == Frame(TEXT, b"1")
        client.send_text("closeme\n")
        close = client.receive_close()
        assert (close.close_code, close.close_reason) == (1001, "seeya")


def test_the_program_in_c(program: Path) -> None:
    with in_c(program) as port:
        converse(port)


def test_the_plugin(serve: Callable[..., Daemon]) -> None:
    converse(serve([NAME]).port)
