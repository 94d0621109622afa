"""Sec-WebSocket-Extensions: the grammar of RFC 6455 9.1 and the negotiation of RFC 7692, from both ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsd.errors import ConnectError, HandshakeError
from wsd.wire.extensions import (
    DEFLATE,
    Agreement,
    Offer,
    Settings,
    accept_offer,
    check_answer,
    encode_offers,
    parse_extensions,
)

TOKENS = st.text("!#$%&'*+-.^_`|~09azAZ", min_size=1, max_size=12)
SPACES = st.text(" \t", max_size=2)
SETTINGS = st.builds(
    Settings,
    level=st.integers(1, 9),
    memory_level=st.integers(1, 9),
    window_bits=st.integers(8, 15),
    context_takeover=st.booleans(),
    min_bytes=st.just(0),
)
LARGEST = Settings(6, 8, 15, True, 0)
SMALL = LARGEST._replace(window_bits=12)
ALONE = LARGEST._replace(context_takeover=False)


def accept(offers: str, settings: Settings = LARGEST) -> str | None:
    """The header by which a server answers `offers`."""
    agreement = accept_offer(parse_extensions([offers]), settings)
    return agreement and agreement.header


def check(answer: str, settings: Settings | None = LARGEST) -> Agreement | None:
    return check_answer(parse_extensions([answer]), settings)


# -- RFC 6455 9.1 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([], []),
        (["foo"], [("foo", ())]),
        (["foo, bar; baz=2"], [("foo", ()), ("bar", (("baz", "2"),))]),
        (["foo; a; b=c; a=d"], [("foo", (("a", None), ("b", "c"), ("a", "d")))]),
        # The examples of the section itself.
        (["deflate-stream"], [("deflate-stream", ())]),
        (
            ["mux; max-channels=4; flow-control, deflate-stream"],
            [("mux", (("max-channels", "4"), ("flow-control", None))), ("deflate-stream", ())],
        ),
        (["private-extension"], [("private-extension", ())]),
        # "This header field MAY be split or combined across multiple lines": the two of the section are equivalent.
        (["foo", "bar; baz=2"], [("foo", ()), ("bar", (("baz", "2"),))]),
        # RFC 6455 4.3: white space may stand between any two tokens.
        (["\tfoo \t;\tx = 1\t ;  y\t,  bar "], [("foo", (("x", "1"), ("y", None))), ("bar", ())]),
        (["foo;x=1,bar"], [("foo", (("x", "1"),)), ("bar", ())]),
        # A quoted value says the same as one without quotes.
        (['foo; x="1"; y="a\\bc"; z="\\d"'], [("foo", (("x", "1"), ("y", "abc"), ("z", "d")))]),
        # Empty elements say nothing.
        ([""], []),
        (["  ", ",", " ,\t, "], []),
        ([",foo,, ,bar,"], [("foo", ()), ("bar", ())]),
        # Names are no more than names.
        (["__class__; constructor=%00"], [("__class__", (("constructor", "%00"),))]),
    ],
)
def test_parse(values: list[str], found: list[Offer]) -> None:
    assert parse_extensions(values) == found


@pytest.mark.parametrize(
    "value",
    [
        ";",
        "; a",
        "=",
        "foo bar",
        "foo;",
        "foo; ",
        "foo;;a",
        "foo; ;a",
        "foo; a=",
        "foo; a=,bar",
        "foo; =a",
        "foo; a==b",
        "foo; a=b c",
        "foo; a=b=c",
        "foo=a",
        '"foo"',
        'foo; "a"',
        'foo; a="',
        'foo; a="b',
        'foo; a="b\\"',
        'foo; a="b"c',
        # "the value after quoted-string unescaping MUST conform to the 'token' ABNF"
        'foo; a=""',
        'foo; a="b c"',
        'foo; a="b,c"',
        'foo; a="b\\"c"',
        'foo; a="b\\\\c"',
        "foo; a='b c'",
        "fo(o",
        "foo/1",
        "foo@bar",
        "f\xf6\xf6",
        "foo\x00",
        "foo\n",
        "foo\r\nbar",
        "foo\xa0",
        "foo; a=\u0661",
        "foo, bar baz",
    ],
)
def test_what_breaks_the_grammar_fails_the_handshake(value: str) -> None:
    for values in ([value], ["ok; a=1", value], [value, "ok"]):
        with pytest.raises(HandshakeError, match="Sec-WebSocket-Extensions") as caught:
            parse_extensions(values)
        assert caught.value.status == 400


def test_a_quoted_value_does_not_reach_into_the_next_line() -> None:
    with pytest.raises(HandshakeError):
        parse_extensions(['foo; a="b', 'c"'])


@pytest.mark.parametrize(
    "value",
    [
        'a; b="' + "\\c" * 500_000,  # CVE-2021-32640 and its like
        'a; b="' + "\\" * 1_000_000,
        "a" + " " * 1_000_000 + "x",
        "a;" + " " * 1_000_000 + "=",
        "a; b" + "\t" * 1_000_000 + '"',
        "a; b=" + "c" * 1_000_000 + "(",
        "a;b" * 300_000 + "(",
        "," * 1_000_000 + "(",
    ],
    ids=lambda value: value[:6],
)
def test_a_megabyte_takes_no_time(value: str) -> None:
    """Quadratic time would be hours."""
    with pytest.raises(HandshakeError):
        parse_extensions([value])


@st.composite
def written(draw: st.DrawFn) -> tuple[list[str], list[Offer]]:
    """Lines of the header, and what they mean."""
    offers = draw(st.lists(st.tuples(TOKENS, st.lists(st.tuples(TOKENS, st.none() | TOKENS), max_size=3)), max_size=4))

    def value_of(value: str) -> str:
        match draw(st.integers(0, 2)):
            case 0:
                return value
            case 1:
                return f'"{value}"'
            case _:
                return '"' + "".join(draw(st.sampled_from(["", "\\"])) + character for character in value) + '"'

    lines = [""]
    for name, params in offers:
        text = name
        for key, value in params:
            text += draw(SPACES) + ";" + draw(SPACES) + key
            if value is not None:
                text += draw(SPACES) + "=" + draw(SPACES) + value_of(value)
        if draw(st.booleans()):
            lines.append("")
        lines[-1] += draw(st.sampled_from(["", ",", " , ,"])) * (not lines[-1]) + draw(SPACES) + text + draw(SPACES)
        lines[-1] += ","
    return lines, [Offer(name, tuple(params)) for name, params in offers]


@given(written())
def test_what_was_written_is_read(case: tuple[list[str], list[Offer]]) -> None:
    lines, offers = case
    assert parse_extensions(lines) == offers
    assert parse_extensions([", ".join(lines)]) == offers


@given(st.text('ab;=", \\\t\x7f', max_size=20))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        offers = parse_extensions([text])
    except HandshakeError:
        return
    again = ", ".join(
        "; ".join([name, *(k if v is None else f"{k}={v}" for k, v in params)]) for name, params in offers
    )
    assert parse_extensions([again]) == offers


# -- the server's answer ----------------------------------------------------------------------------------------------

# RFC 7692 7.1.3.
SIMPLEST = "permessage-deflate"
LIMITED = "permessage-deflate; client_max_window_bits; server_max_window_bits=10"
WITH_FALLBACK = LIMITED + ", permessage-deflate; client_max_window_bits"


@pytest.mark.parametrize(
    ("offers", "answer"),
    [
        (SIMPLEST, "permessage-deflate"),
        (LIMITED, "permessage-deflate; server_max_window_bits=10; client_max_window_bits=15"),
        (WITH_FALLBACK, "permessage-deflate; server_max_window_bits=10; client_max_window_bits=15"),
        # 7.1.1.1: "A server accepts [...] by including".
        ("permessage-deflate; server_no_context_takeover", "permessage-deflate; server_no_context_takeover"),
        # A hint of what the client will do anyway; saying it too frees our memory.
        ("permessage-deflate; client_no_context_takeover", "permessage-deflate; client_no_context_takeover"),
        (
            "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        ),
        # 7.1.2.1: accepted by including it, the largest too.
        ("permessage-deflate; server_max_window_bits=15", "permessage-deflate; server_max_window_bits=15"),
        ("permessage-deflate; server_max_window_bits=8", "permessage-deflate; server_max_window_bits=8"),
        ('permessage-deflate; server_max_window_bits="9"', "permessage-deflate; server_max_window_bits=9"),
        ("permessage-deflate; client_max_window_bits=15", "permessage-deflate; client_max_window_bits=15"),
        ("permessage-deflate; client_max_window_bits=8", "permessage-deflate; client_max_window_bits=8"),
        # Others are not answered.
        ("x-webkit-deflate-frame, permessage-bzip2; level=9, permessage-deflate", "permessage-deflate"),
        ("x-webkit-deflate-frame", None),
        ("Permessage-Deflate", None),
        ("", None),
    ],
)
def test_accept(offers: str, answer: str | None) -> None:
    assert accept(offers) == answer


@pytest.mark.parametrize(
    ("offers", "answer"),
    [
        # It may limit its own window without having been asked; the client's only if the client offers that.
        (SIMPLEST, "permessage-deflate; server_max_window_bits=12"),
        (LIMITED, "permessage-deflate; server_max_window_bits=10; client_max_window_bits=12"),
        (
            "permessage-deflate; client_max_window_bits=9; server_max_window_bits=15",
            "permessage-deflate; server_max_window_bits=12; client_max_window_bits=9",
        ),
    ],
)
def test_accept_with_a_smaller_window(offers: str, answer: str) -> None:
    assert accept(offers, SMALL) == answer


def test_accept_without_takeover() -> None:
    """Both may be demanded of any client."""
    answer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    assert accept(SIMPLEST, ALONE) == answer
    assert accept("permessage-deflate; client_no_context_takeover", ALONE) == answer


BAD_PARAMS = [
    "x",
    "level=9",
    "Server_No_Context_Takeover",
    "server_no_context_takeover=1",
    "server_no_context_takeover=true",
    "client_no_context_takeover=0",
    "server_max_window_bits=7",
    "server_max_window_bits=16",
    "server_max_window_bits=0",
    "server_max_window_bits=010",
    "server_max_window_bits=08",
    "server_max_window_bits=+10",
    "server_max_window_bits=10.0",
    "server_max_window_bits=1e1",
    "server_max_window_bits=-10",
    "server_max_window_bits=100",
    "client_max_window_bits=7",
    "client_max_window_bits=16",
    "client_max_window_bits=08",
    "client_max_window_bits=x",
    "server_no_context_takeover; server_no_context_takeover",
    "client_no_context_takeover; client_no_context_takeover",
    "server_max_window_bits=10; server_max_window_bits=10",
    "client_max_window_bits=10; client_max_window_bits=11",
    "client_no_context_takeover; x; client_no_context_takeover",
]


@pytest.mark.parametrize("params", [*BAD_PARAMS, "server_max_window_bits", "client_max_window_bits; x=y"])
def test_a_bad_offer_is_declined_and_the_next_one_taken(params: str) -> None:
    """RFC 7692 7: "A server MUST decline an extension negotiation offer for this extension if any of the following
    conditions are met"."""
    assert accept(f"permessage-deflate; {params}") is None
    assert accept(f"permessage-deflate; {params}, permessage-deflate; client_max_window_bits=9") == (
        "permessage-deflate; client_max_window_bits=9"
    )


def test_the_first_acceptable_offer_wins() -> None:
    offers = "permessage-deflate; x, permessage-deflate; server_no_context_takeover, permessage-deflate"
    assert accept(offers) == "permessage-deflate; server_no_context_takeover"


def test_agreement_of_the_server() -> None:
    offers = "permessage-deflate; client_max_window_bits=10; client_no_context_takeover"
    assert accept_offer(parse_extensions([offers]), SMALL) == Agreement(
        server_no_context_takeover=False,
        client_no_context_takeover=True,
        server_max_window_bits=12,
        client_max_window_bits=10,
        params=(
            ("client_no_context_takeover", None),
            ("server_max_window_bits", "12"),
            ("client_max_window_bits", "10"),
        ),
    )


def test_a_client_that_cannot_be_limited_has_the_largest_window() -> None:
    agreement = accept_offer([Offer(DEFLATE, ())], SMALL)
    assert agreement is not None
    assert (agreement.server_max_window_bits, agreement.client_max_window_bits) == (12, 15)


# -- the client -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "offers"),
    [
        (LARGEST, "permessage-deflate; client_max_window_bits"),
        (
            SMALL,
            "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12,"
            " permessage-deflate; client_max_window_bits=12",
        ),
        (ALONE, "permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits"),
        (
            ALONE._replace(window_bits=9),
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=9;"
            " client_max_window_bits=9,"
            " permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits=9",
        ),
    ],
)
def test_offers(settings: Settings, offers: str) -> None:
    assert encode_offers(settings) == offers


@pytest.mark.parametrize(
    ("answer", "agreed"),
    [
        ("permessage-deflate", (False, False, 15, 15)),
        # 7.1.1.1 and 7.1.2.1: a server may say so without having been asked.
        ("permessage-deflate; server_no_context_takeover", (True, False, 15, 15)),
        ("permessage-deflate; client_no_context_takeover", (False, True, 15, 15)),
        ("permessage-deflate; server_max_window_bits=8", (False, False, 8, 15)),
        ("permessage-deflate; client_max_window_bits=9", (False, False, 15, 9)),
        ("permessage-deflate; client_max_window_bits=15; server_max_window_bits=10", (False, False, 10, 15)),
        # It has accepted the offer that did not ask.
        ("permessage-deflate; server_max_window_bits=15", (False, False, 15, 15)),
        ('permessage-deflate; server_max_window_bits="10"', (False, False, 10, 15)),
    ],
)
def test_check_answer(answer: str, agreed: tuple[bool, bool, int, int]) -> None:
    found = check(answer, SMALL)
    assert found is not None
    assert found[:4] == agreed
    assert found.header == answer.replace('"', "")


@pytest.mark.parametrize("settings", [LARGEST, None])
def test_no_answer_is_no_agreement(settings: Settings | None) -> None:
    assert check("", settings) is None


@pytest.mark.parametrize(
    "answer",
    [
        *(f"permessage-deflate; {params}" for params in BAD_PARAMS),
        "permessage-deflate; server_max_window_bits",
        # 7.1.2.2: in a response it needs a value.
        "permessage-deflate; client_max_window_bits",
        # RFC 6455 4.1, point 5.
        "foo",
        "permessage-deflate, foo",
        "foo, permessage-deflate",
        "Permessage-Deflate",
        # Two that use RSV1 cannot both be in use.
        "permessage-deflate, permessage-deflate",
        "permessage-deflate, permessage-deflate; server_no_context_takeover",
    ],
)
def test_a_bad_answer_fails_the_connection(answer: str) -> None:
    for settings in (LARGEST, None):
        with pytest.raises(ConnectError) as caught:
            check(answer, settings)
        assert caught.value.cause == "extension"


@pytest.mark.parametrize(
    ("answer", "settings", "text"),
    [
        ("permessage-deflate", None, "the server answers with the extension permessage-deflate, which was not offered"),
        ("permessage-deflate, x", LARGEST, "the server answers with the extension x, which was not offered"),
        ("permessage-deflate, permessage-deflate", LARGEST, "the server answers with permessage-deflate twice"),
        ("permessage-deflate; x", LARGEST, "the server's answer for permessage-deflate: there is no parameter x"),
        (
            "permessage-deflate; server_max_window_bits=7",
            LARGEST,
            "the server's answer for permessage-deflate: server_max_window_bits is not a number from 8 to 15",
        ),
    ],
)
def test_the_error_says_what_is_wrong(answer: str, settings: Settings | None, text: str) -> None:
    with pytest.raises(ConnectError) as caught:
        check(answer, settings)
    assert str(caught.value) == text


def test_without_takeover_the_server_has_to_agree() -> None:
    """It accepts our offers by repeating that; else it would refer to what we have forgotten."""
    assert check("permessage-deflate; server_no_context_takeover", ALONE) is not None
    with pytest.raises(ConnectError, match="lacks server_no_context_takeover") as caught:
        check("permessage-deflate; client_no_context_takeover", ALONE)
    assert caught.value.cause == "extension"


@given(SETTINGS, SETTINGS)
def test_any_two_ends_agree(client: Settings, server: Settings) -> None:
    offers = parse_extensions([encode_offers(client)])
    agreement = accept_offer(offers, server)
    assert agreement is not None
    assert check(agreement.header, client) == agreement
    smaller = min(client.window_bits, server.window_bits)
    assert agreement.server_max_window_bits == agreement.client_max_window_bits == smaller
    takes_over = client.context_takeover and server.context_takeover
    assert agreement.server_no_context_takeover is agreement.client_no_context_takeover is not takes_over


PARAMS = st.one_of(
    st.tuples(st.sampled_from(["server_no_context_takeover", "client_no_context_takeover"]), st.none()),
    st.tuples(st.sampled_from(["server_max_window_bits", "client_max_window_bits"]), st.integers(8, 15).map(str)),
    st.tuples(st.just("client_max_window_bits"), st.none()),
)


@given(st.lists(PARAMS, unique_by=lambda param: param[0]), SETTINGS)
def test_every_valid_offer_is_accepted_as_the_rfc_says(params: list[tuple[str, str | None]], server: Settings) -> None:
    agreement = accept_offer([Offer(DEFLATE, tuple(params))], server)
    assert agreement is not None
    offered, answered = dict(params), dict(agreement.params)
    assert len(answered) == len(agreement.params)
    assert "server_no_context_takeover" in answered or "server_no_context_takeover" not in offered
    if "server_max_window_bits" in offered:
        assert int(answered["server_max_window_bits"] or 0) <= int(offered["server_max_window_bits"] or 0)
    assert ("client_max_window_bits" in answered) is ("client_max_window_bits" in offered)
    # What the answer says is what the server does, and an answer that any client takes.
    assert check_answer([Offer(DEFLATE, agreement.params)], LARGEST) == agreement
