"""Echo and broadcast on the `websockets` library, asyncio.

`websockets_server.py PORT [CERT KEY]`; UVLOOP=1 and DEFLATE=1 in the environment switch these on.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import sys

from websockets.asyncio.server import ServerConnection, broadcast, serve

everyone: set[ServerConnection] = set()


async def handle(connection: ServerConnection) -> None:
    if connection.subprotocol == "lws-mirror-protocol":
        everyone.add(connection)
        try:
            async for message in connection:
                broadcast(everyone, message)
        finally:
            everyone.discard(connection)
    else:
        async for message in connection:
            await connection.send(message)


async def main() -> None:
    context = None
    if len(sys.argv) > 3:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[2], sys.argv[3])
    async with serve(
        handle,
        "127.0.0.1",
        int(sys.argv[1]),
        ssl=context,
        max_size=None,
        ping_interval=None,
        open_timeout=None,  # thousands that come at once take longer than its 10 s
        compression="deflate" if os.environ.get("DEFLATE") else None,
        select_subprotocol=lambda _, offered: offered[0] if offered else None,
        subprotocols=["echo", "lws-mirror-protocol"],
    ) as server:
        await server.serve_forever()


if os.environ.get("UVLOOP"):
    import uvloop

    uvloop.install()
asyncio.run(main())
