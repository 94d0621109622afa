"""wsd/wire/forwarded.py: the rightmost address that is no trusted proxy's, and nothing that a client put there."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.timing import PATIENCE
from wsd.wire.forwarded import FORWARDED, HIDDEN, MAX_STEPS, X_FORWARDED_FOR, Node, find_client

PROXIES = {"10.0.0.1", "10.0.0.2", "2001:db8::a"}
CLIENT = ("192.0.2.7", 0)


def xff(value: str) -> Node | None:
    return find_client(X_FORWARDED_FOR, value, PROXIES.__contains__)


def forwarded(value: str) -> Node | None:
    return find_client(FORWARDED, value, PROXIES.__contains__)


# -- X-Forwarded-For --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ("192.0.2.7", CLIENT),
        (" 192.0.2.7\t", CLIENT),
        ("192.0.2.7, 10.0.0.1", CLIENT),
        ("192.0.2.7,10.0.0.1,2001:db8::A,10.0.0.2:80", CLIENT),
        ("1.1.1.1, 192.0.2.7", CLIENT),
        ("10.0.0.1, 192.0.2.7", CLIENT),
        ('nonsense", <script>, 192.0.2.7, 10.0.0.1', CLIENT),
        ("192.0.2.7, ,, 10.0.0.1,", CLIENT),
        ("192.0.2.7:4711", ("192.0.2.7", 4711)),
        ("2001:db8::7", ("2001:db8::7", 0)),
        ("2001:0DB8::0:7", ("2001:db8::7", 0)),
        ("[2001:db8::7]", ("2001:db8::7", 0)),
        ("[2001:db8::7]:4711", ("2001:db8::7", 4711)),
        ("::ffff:192.0.2.7", CLIENT),
        ("1.1.1.1, ::ffff:10.0.0.1", ("1.1.1.1", 0)),
        ("10.0.0.2, 10.0.0.1", ("10.0.0.2", 0)),
        ("10.0.0.1", ("10.0.0.1", 0)),
        ("", None),
        (" , ,", None),
        ("unknown", HIDDEN),
        ("192.0.2.7, unknown", HIDDEN),
        ("192.0.2.7, unknown, 10.0.0.1", HIDDEN),
        ("unknown, 192.0.2.7", CLIENT),
        ("192.0.2.7:65536", HIDDEN),
        ("192.0.2.7:", HIDDEN),
        ("192.0.2.7:x", HIDDEN),
        ("192.0.2.07", HIDDEN),
        ("192.0.2.7/32", HIDDEN),
        ("fe80::1%eth0", HIDDEN),
        ("[2001:db8::7", HIDDEN),
        ("192.0.2.7 10.0.0.1", HIDDEN),
        ("192.0.2.7\n", HIDDEN),
        ("_hidden", HIDDEN),
    ],
)
def test_x_forwarded_for(value: str, client: Node | None) -> None:
    assert xff(value) == client


# -- Forwarded --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ("for=192.0.2.7", CLIENT),
        ("For=192.0.2.7;proto=https;by=10.0.0.1", CLIENT),
        ("by=1.1.1.1; FOR=192.0.2.7 ;host=a", CLIENT),
        ('for="192.0.2.7"', CLIENT),
        ('for="192.0.2.7:4711"', ("192.0.2.7", 4711)),
        ('for="192.0.2.7:_port"', CLIENT),
        ("for=192.0.2.7:4711", ("192.0.2.7", 4711)),
        ('for="[2001:db8::7]:4711"', ("2001:db8::7", 4711)),
        ('for="[2001:DB8::7]"', ("2001:db8::7", 0)),
        ("for=[2001:db8::7]", ("2001:db8::7", 0)),
        (r'for="192.0.2\.7"', CLIENT),
        ("for=192.0.2.7, for=10.0.0.1", CLIENT),
        ('for=192.0.2.7,for="[2001:db8::a]:443", for=10.0.0.2', CLIENT),
        ("for=1.1.1.1, for=192.0.2.7", CLIENT),
        ("for=192.0.2.7;secret=x, ,", CLIENT),
        ("for=192.0.2.7;;", CLIENT),
        ("for=10.0.0.2, for=10.0.0.1", ("10.0.0.2", 0)),
        ("", None),
        (" ,, ", None),
        (";", HIDDEN),
        ("proto=https", HIDDEN),
        ("for=unknown", HIDDEN),
        ("for=_gazonk", HIDDEN),
        ('for="_gazonk:80"', HIDDEN),
        ("for=1.1.1.1, for=unknown", HIDDEN),
        ("for=1.1.1.1;for=192.0.2.7", HIDDEN),
        ("for=192.0.2.7 proto=http", HIDDEN),
        ("for", HIDDEN),
        ("192.0.2.7", HIDDEN),
        ("for=", HIDDEN),
        ("for = 192.0.2.7", HIDDEN),
    ],
)
def test_forwarded(value: str, client: Node | None) -> None:
    assert forwarded(value) == client


@pytest.mark.parametrize(
    "value",
    [
        # A quote that is never closed would swallow what the proxy adds, were the header read from the left.
        'for="1.1.1.1, for=192.0.2.7',
        'for=1.1.1.1;host=", for=192.0.2.7',
        r'host="\, for=192.0.2.7',
        # Commas inside of quotes do not begin an element.
        'for=192.0.2.7;host="a, for=1.1.1.1"',
        'for=192.0.2.7;host="a, for=1.1.1.1;b="',
        r'for=192.0.2.7;host="a, for=1.1.1.1;b=\"c\""',
        'for=192.0.2.7;a=", for=1.1.1.1;b=";c=", for=1.1.1.1"',
        'host=", for=192.0.2.7;host=", for=1.1.1.1"',
        # Nor does a semicolon inside of quotes begin a parameter.
        'host=";for=1.1.1.1;";for=192.0.2.7',
        'x="for=1.1.1.1";for=192.0.2.7',
    ],
)
def test_a_client_cannot_change_what_the_proxy_adds(value: str) -> None:
    assert forwarded(value) == CLIENT
    assert forwarded(f"{value}, for=10.0.0.1") == CLIENT


@pytest.mark.parametrize(("find", "prefix"), [(xff, ""), (forwarded, "for=")])
def test_chains_have_an_end(find: type, prefix: str) -> None:
    proxies = f", {prefix}10.0.0.1"
    assert find(f"{prefix}192.0.2.7" + proxies * (MAX_STEPS - 1)) == CLIENT
    assert find(f"{prefix}192.0.2.7" + proxies * MAX_STEPS) == HIDDEN
    assert find(", " + f"{prefix}192.0.2.7") == CLIENT


@pytest.mark.parametrize("part", [",", '"', "; ", ' ;"', "for=", "a=b;", 'a="b";', "\\", ' "a', ',"', 'for="', "a" * 9])
@pytest.mark.parametrize("find", [xff, forwarded])
def test_no_header_takes_long(find: type, part: str) -> None:
    """Each is as long as a head may be by default; what would be polynomial takes minutes."""
    value = (part * 16384)[:16384]
    started = time.monotonic()
    for _ in range(3):
        find(value)
        find(f"{value}\x00, 10.0.0.1")
    assert time.monotonic() - started < PATIENCE


# -- properties -------------------------------------------------------------------------------------------------------

ANYTHING = st.text(st.characters(max_codepoint=255), max_size=60)


@given(ANYTHING, st.ip_addresses(v=4), st.integers(0, 3))
@example('for="', "192.0.2.7", 0)
def test_what_a_client_sends_changes_nothing(sent: str, address: object, hops: int) -> None:
    """Its own address stands where the first trusted proxy has put it, whatever is in front of that."""
    chain = ["10.0.0.1"] * hops
    if str(address) in PROXIES:
        return
    assert xff(", ".join([sent, str(address), *chain])) == (str(address), 0)
    assert forwarded(", ".join([sent, *(f"for={hop}" for hop in [address, *chain])])) == (str(address), 0)


VALUE = st.one_of(
    st.from_regex(r"\A[A-Za-z0-9.]{1,9}\Z"),
    st.text(st.sampled_from('a,;="\\ for1.'), max_size=12).map(
        lambda text: '"' + text.replace("\\", r"\\").replace('"', r"\"") + '"'
    ),
)
PAIRS = st.lists(st.tuples(st.sampled_from(["by", "host", "proto", "x"]), VALUE), max_size=4)


@given(st.lists(PAIRS, min_size=1, max_size=4), st.data())
def test_every_good_header_is_read_from_the_right_as_from_the_left(
    elements: list[list[tuple[str, str]]], data: object
) -> None:
    """Quotes, commas and semicolons inside of values do not move where an element begins."""
    written = []
    for at, pairs in enumerate(elements):
        hop = "192.0.2.7" if at == 0 else "10.0.0.1"
        parts = [f"{name}={value}" for name, value in pairs]
        parts.insert(data.draw(st.integers(0, len(parts))), f"for={hop}")  # type: ignore[attr-defined]
        written.append(";".join(parts))
    assert forwarded(", ".join(written)) == CLIENT
