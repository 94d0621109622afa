"""`wsd.wire.authorization`: what an Authorization header shows, what a challenge says, and tokens out of URLs."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsd.errors import HandshakeError
from wsd.wire.authorization import (
    HIDDEN,
    Basic,
    Bearer,
    challenges,
    normalize,
    parse_authorization,
    parse_token,
    take_arguments,
)
from wsd.wire.http import parse_head


def basic(text: str | bytes) -> str:
    data = text.encode() if isinstance(text, str) else text
    return "Basic " + b64encode(data).decode()


# -- the header -------------------------------------------------------------------------------------------------------


def test_the_examples_of_the_rfcs() -> None:
    # RFC 7617 2 and 2.1, RFC 6750 2.1.
    assert parse_authorization(["Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="]) == Basic("Aladdin", "open sesame")
    assert parse_authorization(["Basic dGVzdDoxMjPCow=="]) == Basic("test", "123\xa3")
    assert parse_authorization(["Bearer mF_9.B5f-4.1JqM"]) == Bearer("mF_9.B5f-4.1JqM")


@pytest.mark.parametrize("scheme", ["basic", "BASIC", "bAsIc"])
def test_a_scheme_has_no_case(scheme: str) -> None:
    assert parse_authorization([f"{scheme}   YTpi"]) == Basic("a", "b")


def test_a_name_ends_at_the_first_colon_and_a_password_may_be_empty() -> None:
    assert parse_authorization([basic("a:b:c")]) == Basic("a", "b:c")
    assert parse_authorization([basic(":")]) == Basic("", "")


def test_padding_may_be_left_out() -> None:
    assert parse_authorization(["Basic " + "YTpiYw"]) == Basic("a", "bc")


def test_accents_are_one_character_however_they_were_typed() -> None:
    assert parse_authorization([basic("e\u0301:u\u0308")]) == Basic("\xe9", "\xfc")
    assert normalize("e\u0301") == "\xe9"


@pytest.mark.parametrize("values", [[], ["Digest username=x"], ["Negotiate abc"], ["Basicx YTpi"]])
def test_what_shows_nothing_that_is_known_here(values: list[str]) -> None:
    assert parse_authorization(values) is None


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (["Basic YTpi", "Basic YTpi"], "at most one"),
        (["Basic"], "not a scheme"),
        (["Basic "], "not a scheme"),
        ([""], "not a scheme"),
        (["Ba/sic YTpi"], "not a scheme"),
        (["Basic YTpi extra"], "not base64"),
        (["Basic YTp*"], "not base64"),
        (["Basic Y"], "not base64"),
        (["Basic YTpi==="], "not base64"),
        (["Basic ===="], "not base64"),
        ([basic(b"a:\xff")], "not UTF-8"),
        ([basic("alone")], "a colon"),
        ([basic("a:b\0")], "control"),
        ([basic("a\n:b")], "control"),
        ([basic("a:\x85")], "control"),
        (["Bearer a b"], "no token may hold"),
        (["Bearer \xe4"], "no token may hold"),
        (["Bearer ="], "no token may hold"),
    ],
)
def test_what_is_not_well_formed_is_400(values: list[str], text: str) -> None:
    with pytest.raises(HandshakeError, match=text) as caught:
        parse_authorization(values)
    assert caught.value.status == 400


SHOWN = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=30)


@given(SHOWN.filter(lambda name: ":" not in normalize(name)), SHOWN)
def test_whatever_was_typed_arrives(name: str, password: str) -> None:
    shown = parse_authorization([basic(f"{name}:{password}")])
    assert shown == Basic(normalize(name), normalize(password))
    assert shown is not None
    assert parse_authorization([basic(shown.text)]) == shown


def read(values: list[str]) -> Basic | Bearer | HandshakeError | None:
    """What is made of these lines, an error included."""
    try:
        return parse_authorization(values)
    except HandshakeError as error:
        return error


@given(st.lists(st.text(st.characters(max_codepoint=255)) | st.binary().map(basic), max_size=2))
def test_whatever_comes_is_something_nothing_or_400(values: list[str]) -> None:
    found = read(values)
    if isinstance(found, HandshakeError):
        assert found.status == 400
    elif isinstance(found, Basic):
        assert read([basic(found.text)]) == found
    else:
        assert found is None or read([f"Bearer {found.token}"]) == found


@given(st.binary(min_size=6, max_size=40))
def test_no_error_repeats_what_was_shown(secret: bytes) -> None:
    value = b64encode(secret).decode()
    for line in (f"Basic {value}", f"Basic {value}*", f"Bearer {value} x", f"{value}\t", value):
        found = read([line])
        assert not isinstance(found, HandshakeError) or value[:6] not in str(found)


def test_a_token_from_elsewhere() -> None:
    assert parse_token("abc=") == Bearer("abc=")
    assert parse_token("abc=").text == "abc="


# -- the challenge ----------------------------------------------------------------------------------------------------


def test_the_challenges() -> None:
    assert challenges("my site", basic=True, bearer=True) == [
        ("WWW-Authenticate", 'Basic realm="my site", charset="UTF-8"'),
        ("WWW-Authenticate", 'Bearer realm="my site"'),
    ]
    assert challenges('a"\\b', basic=False, bearer=True, error="invalid_token") == [
        ("WWW-Authenticate", 'Bearer realm="a\\"\\\\b", error="invalid_token"')
    ]
    assert challenges("x", basic=True, bearer=False, error="invalid_token") == [
        ("WWW-Authenticate", 'Basic realm="x", charset="UTF-8"')
    ]


# -- tokens in a URL --------------------------------------------------------------------------------------------------


def head(target: str) -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: a\r\nReferer: /?access_token=b\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("target", "shown", "tokens"),
    [
        ("/?access_token=abc", "/?access_token=***", ["abc"]),
        ("/a?x=1&access_token=a%2Bb&y=2", "/a?x=1&access_token=***&y=2", ["a+b"]),
        ("/?access%5Ftoken=abc", "/?access%5Ftoken=***", ["abc"]),
        ("/?access_token=a&access_token=b", "/?access_token=***&access_token=***", ["a", "b"]),
        ("/?access_token=a=b?c", "/?access_token=***", ["a=b?c"]),
        ("/?access_token=a+b", "/?access_token=***", ["a b"]),
        ("/?access_token=", "/?access_token=", [""]),
        ("/?access_token", "/?access_token", [""]),
        ("http://a/?access_token=abc", "http://a/?access_token=***", ["abc"]),
        ("/?access_tokens=abc", "/?access_tokens=abc", None),
        ("/access_token=abc", "/access_token=abc", None),
        ("/?", "/?", None),
    ],
)
def test_tokens_are_taken_out_of_a_target(target: str, shown: str, tokens: list[str] | None) -> None:
    after, taken = take_arguments(head(target), {"access_token"})
    assert after == head(shown)
    assert taken.get("access_token") == tokens


@given(st.lists(st.tuples(st.sampled_from(["t", "x", "%74", "T"]), st.text("ab%+=?/3", max_size=8)), max_size=6))
def test_what_is_left_is_the_same_request_without_the_secret(pairs: list[tuple[str, str]]) -> None:
    before = head("/p?" + "&".join(f"{name}={value}" for name, value in pairs))
    after, taken = take_arguments(before, {"t"})
    old, new = parse_head(before).args, parse_head(after).args
    assert taken.get("t", []) == old.pop("t", [])
    assert set(new.pop("t", [])) <= {"", HIDDEN.decode()}
    assert old == new
