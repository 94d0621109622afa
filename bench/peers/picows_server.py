"""Echo and broadcast on picows (Cython), the fastest Python WebSocket library.

`picows_server.py PORT [CERT KEY]`; UVLOOP=1 in the environment puts it on uvloop.  picows has no permessage-deflate.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import sys

from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)

everyone: set[WSTransport] = set()


class Echo(WSListener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()
        else:
            self.answer(transport, frame)

    def answer(self, transport: WSTransport, frame: WSFrame) -> None:
        transport.send(frame.msg_type, frame.get_payload_as_memoryview())


class Mirror(Echo):
    def on_ws_connected(self, transport: WSTransport) -> None:
        everyone.add(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        everyone.discard(transport)

    def answer(self, transport: WSTransport, frame: WSFrame) -> None:
        payload = frame.get_payload_as_bytes()
        for each in everyone:
            each.send(frame.msg_type, payload)


def listener(request: WSUpgradeRequest) -> WSListener | WSUpgradeResponseWithListener:
    wanted = request.headers.get("Sec-WebSocket-Protocol")
    if wanted == "lws-mirror-protocol":
        answer = WSUpgradeResponse.create_101_response(extra_headers={"Sec-WebSocket-Protocol": wanted})
        return WSUpgradeResponseWithListener(answer, Mirror())
    return Echo()


async def main() -> None:
    context = None
    if len(sys.argv) > 3:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[2], sys.argv[3])
    server = await ws_create_server(listener, "127.0.0.1", int(sys.argv[1]), ssl=context)
    await server.serve_forever()


if os.environ.get("UVLOOP"):
    import uvloop

    uvloop.install()
asyncio.run(main())
