"""`wsd.wire.headers`: nothing that could be taken for a line end gets in."""

from __future__ import annotations

import pytest

from wsd.wire.headers import Headers, is_token
from wsd.wire.http import Response


def test_headers_are_found_in_any_case_and_kept_in_order() -> None:
    headers = Headers([("A", "1"), ("b", "2"), ("a", " 3\t")])
    assert (headers.get("a"), headers.get("B"), headers.get("c"), headers.get("c", "x")) == ("1", "2", None, "x")
    assert headers.get_all("a") == ["1", "3"]
    assert ("A" in headers, "c" in headers, len(headers)) == (True, False, 3)
    headers.set("a", "4")
    assert list(headers) == [("b", "2"), ("a", "4")]
    assert Headers([("X", "a,, B ,"), ("x", "c")]).tokens("X") == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X", "a\r\nY: b"),
        ("X", "a\rb"),
        ("X", "a\nb"),
        ("X", "a\n"),
        ("X", "a\0"),
        ("X", "a\x7f"),
        ("X", "\u20ac"),
        ("X\r\nY", "a"),
        ("X:", "a"),
        ("X ", "a"),
        ("X\n", "a"),
        ("", "a"),
        ("\xe4", "a"),
    ],
)
def test_response_splitting_is_refused(name: str, value: str) -> None:
    headers = Headers([("X", "before")])
    with pytest.raises(ValueError, match="header"):
        headers.add(name, value)
    with pytest.raises(ValueError, match="header"):
        headers.set(name, value)
    with pytest.raises(ValueError, match="header"):
        Response(headers=[(name, value)])
    assert list(headers) == [("X", "before")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *((text, True) for text in ("a", "!#$%&'*+-.^_`|~09azAZ", "__class__")),
        *(
            (text, False)
            for text in ("", " ", "a b", "a\n", "a,b", "(a)", '"a"', "a/b", "a:b", "\xe4", "\uff21", "a\0")
        ),
    ],
)
def test_tokens(text: str, expected: bool) -> None:
    assert is_token(text) is expected


def test_how_it_shows_in_a_log() -> None:
    assert repr(Headers([("X", "a")])) == "Headers([('X', 'a')])"
