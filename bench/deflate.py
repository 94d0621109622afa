"""What permessage-deflate costs and saves: time and size by level, memory by window; zlib, and zlib-ng if it is there.

`python bench/deflate.py` prints the tables that the defaults of `[listen.compression]` were chosen by.  Times are
processor time, the best of several rounds.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import random
import time
import tracemalloc
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

LIBRARIES: dict[str, Any] = {"zlib": zlib}
if importlib.util.find_spec("zlib_ng"):
    LIBRARIES["zlib-ng"] = importlib.import_module("zlib_ng.zlib_ng")

WINDOW_BITS, MEMORY_LEVEL = 12, 5
WORDS = ["alarm", "battery", "closed", "door", "error", "fan", "gateway", "idle", "lamp", "motor", "pump", "valve"]


def texts_of(size: int, count: int) -> list[bytes]:
    """`count` different JSON texts as a house of sensors would send them, cut to exactly `size` bytes."""
    source = random.Random(size)

    def record() -> dict[str, object]:
        return {
            "id": source.randrange(100_000),
            "kind": source.choice(WORDS),
            "name": f"{source.choice(WORDS)}-{source.randrange(100)}",
            "value": round(source.gauss(20, 5), 3),
            "time": 1_700_000_000 + source.randrange(10_000_000),
            "ok": source.random() < 0.9,
        }

    return [json.dumps([record() for _ in range(size // 100 + 1)])[:size].encode() for _ in range(count)]


def compress(library: Any, texts: Sequence[bytes], level: int, takeover: bool) -> list[bytes]:
    """Each text as a message, as `wsd.wire.deflate` makes it."""
    context, messages = None, []
    for text in texts:
        if context is None or not takeover:
            context = library.compressobj(level, zlib.DEFLATED, -WINDOW_BITS, MEMORY_LEVEL)
        messages.append((context.compress(text) + context.flush(zlib.Z_SYNC_FLUSH))[:-4])
    return messages


def inflate(library: Any, messages: Sequence[bytes], takeover: bool) -> None:
    context = None
    for message in messages:
        if context is None or not takeover:
            context = library.decompressobj(-WINDOW_BITS)
        context.decompress(message + b"\x00\x00\xff\xff", 65536)


def microseconds(work: Callable[[], object], count: int = 1) -> float:
    """Processor time of one of the `count` steps of `work`."""
    times = []
    for _ in range(7):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times) / count * 1e6


def print_times(size: int, levels: Sequence[int]) -> None:
    texts = texts_of(size, max(2, min(500, 1_000_000 // size)))
    for name, library in LIBRARIES.items():
        for level in levels:
            row = f"{name:8}{size:7}{level:6}"
            for takeover in (False, True):
                messages = compress(library, texts, level, takeover)
                percent = sum(map(len, messages)) / size / len(texts)
                out = microseconds(partial(compress, library, texts, level, takeover), len(texts))
                back = microseconds(partial(inflate, library, messages, takeover), len(texts))
                row += f"{percent:13.1%}{out:9.1f}{back:9.1f}"
            print(row)


def kilobytes(make: Callable[[], object]) -> float:
    """What the thing that `make` gives keeps; zlib and zlib-ng ask Python for their memory."""
    make()
    tracemalloc.start()
    kept = make()
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del kept
    return size / 1000


def used_compressor(library: Any, bits: int, memory_level: int, text: bytes) -> object:
    context = library.compressobj(6, zlib.DEFLATED, -bits, memory_level)
    context.compress(text)
    context.flush(zlib.Z_SYNC_FLUSH)
    return context


def used_decompressor(library: Any, bits: int, message: bytes) -> object:
    context = library.decompressobj(-bits)
    context.decompress(message)
    return context


def print_memory() -> None:
    text = texts_of(200_000, 1)[0]
    for name, library in LIBRARIES.items():
        for bits, memory_level in ((9, 5), (12, 5), (12, 8), (15, 5), (15, 8)):
            small = zlib.compressobj(6, zlib.DEFLATED, -9)
            message = small.compress(text) + small.flush(zlib.Z_SYNC_FLUSH)
            inward = kilobytes(partial(used_decompressor, library, bits, message))
            outward = kilobytes(partial(used_compressor, library, bits, memory_level, text))
            print(f"{name:8}{bits:7}{memory_level:14}{inward:11.1f}{outward:13.1f}{inward + outward:10.1f}")


def probe(context: Any, times: int) -> None:
    for _ in range(times):
        context.copy().decompress(b"\x03\x00")


def print_probe() -> None:
    """The check that a message was not cut short copies the context that it would otherwise spoil."""
    text = texts_of(40_000, 1)[0]
    for bits in (9, 12, 15):
        context = zlib.decompressobj(-bits)
        small = zlib.compressobj(6, zlib.DEFLATED, -9)
        context.decompress(small.compress(text) + small.flush(zlib.Z_SYNC_FLUSH))
        took = microseconds(partial(probe, context, 10_000), 10_000)
        print(f"{bits:6}{took:8.2f}")


def main() -> None:
    print(f"window {WINDOW_BITS}, memory level {MEMORY_LEVEL}: size, µs a message to compress and to inflate")
    print("library   bytes level    each message alone          with context takeover")
    for size in (32, 64, 96, 128, 256, 512):
        print_times(size, (6,))
    for size in (200, 1_000, 10_000, 64_000):
        print_times(size, range(1, 10))
    print("\nkB that a used context keeps\nlibrary  window  memory level  inflating  compressing      both")
    print_memory()
    print("\nµs to see that a message was not cut short\nwindow")
    print_probe()


if __name__ == "__main__":
    main()
