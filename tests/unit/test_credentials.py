"""`wsd.credentials`: files of hashed passwords and tokens, who may read them, and how a secret is compared."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.secrets import password_file, scrypt_line, token_file, token_line, write
from wsd import credentials, log
from wsd.credentials import (
    Passwords,
    Tokens,
    check_name,
    hash_password,
    make_token,
    parse_password_line,
    write_password,
    write_token,
)
from wsd.errors import ConfigError, StartError


@pytest.fixture
def said() -> Iterator[list[str]]:
    """The log, from here on."""
    before, bits = log.emitter(), log.level()
    lines: list[str] = []
    log.set_level(log.DEFAULT, lambda level, line: lines.append(line))
    yield lines
    log.set_level(bits, before)


def problems(path: Path, kind: type[Passwords] | type[Tokens] = Passwords) -> list[str]:
    """All that is wrong with a file."""
    with pytest.raises(ConfigError) as caught:
        kind(str(path))
    return str(caught.value).splitlines()


class Spy:
    """Calls a function, and notes with what."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> None:
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        function: Callable[..., Any] = getattr(module, name)

        def spy(*arguments: Any, **more: Any) -> Any:
            self.calls.append((arguments, more))
            return function(*arguments, **more)

        monkeypatch.setattr(module, name, spy)


# -- passwords --------------------------------------------------------------------------------------------------------


def test_the_hash_of_another_library_is_understood() -> None:
    """From the documentation of passlib's `scrypt`: "password" at 2^16."""
    line = "u:$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E"
    entry = parse_password_line(line)
    assert entry.matches("password")
    assert not entry.matches("Password")
    assert entry.line == line


def test_a_password_is_hashed_with_a_salt_of_its_own() -> None:
    one, two = hash_password("alice", "open sesame"), hash_password("alice", "open sesame")
    assert one.matches("open sesame")
    assert not one.matches("open sesamf")
    assert one.salt != two.salt
    assert one.digest != two.digest
    assert (one.log2_n, one.blocks, one.lanes) == (14, 8, 5)
    assert "open sesame" not in one.line
    assert parse_password_line(one.line) == one


def test_a_password_is_the_same_however_its_accents_were_typed() -> None:
    assert hash_password("e\u0301", "u\u0308").name == "\xe9"
    entry = parse_password_line(scrypt_line("a", "\xfc"))
    assert entry.matches("\xfc")


@pytest.mark.parametrize(("name", "password"), [("a", ""), ("a", "b\0"), ("a", "\ud800"), ("", "x"), ("a:b", "x")])
def test_what_cannot_be_a_password(name: str, password: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        hash_password(name, password)


@pytest.mark.parametrize("name", ["", "a:b", " a", "a ", "#a", "a\n", "a\x85", "\ud800"])
def test_what_cannot_be_a_name(name: str) -> None:
    with pytest.raises(ValueError, match="a name is"):
        check_name(name)


@pytest.mark.parametrize("name", ["a", "alice@example.com", "two words", "\u6f22\u5b57", "a#b", "$"])
def test_what_can_be_a_name(name: str) -> None:
    assert check_name(name) == name


def test_where_two_passwords_differ_first_is_not_to_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong at the first byte, at the last, everywhere: one comparison each, of equal length whatever differs."""
    entry = Passwords(str(password_file(tmp_path / "p", {"alice": "secret"}))).find("alice", 0)
    spy = Spy(monkeypatch, hmac, "compare_digest")
    assert [entry.matches(word) for word in ("Xecret", "secreX", "X", "secret")] == [False, False, False, True]
    assert [len(left) for (left, _), _ in spy.calls] == [32] * 4
    assert {right for (_, right), _ in spy.calls} == {entry.digest}


@pytest.mark.parametrize("costs", [[(4, 8, 1)], [(4, 8, 1), (5, 4, 2)], []])
def test_a_name_that_is_not_there_costs_the_same_work(
    costs: list[tuple[int, int, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [scrypt_line(f"user{number}", "secret", *cost) for number, cost in enumerate(costs)]
    passwords = Passwords(str(write(tmp_path / "p", *lines)))
    spy = Spy(monkeypatch, hashlib, "scrypt")
    strangers = [passwords.find(f"stranger{number}", 0) for number in range(20 if costs else 1)]
    assert not any(stranger.matches("secret") for stranger in strangers)
    worked = {(1 << ln, r, p) for ln, r, p in costs or [(14, 8, 5)]}
    assert {(more["n"], more["r"], more["p"]) for _, more in spy.calls} == worked
    assert {(more["dklen"], len(more["salt"])) for _, more in spy.calls} == {(32, 16)}
    # The same each time, as a real one would be.
    assert passwords.find("stranger0", 0) == strangers[0]


# -- what is wrong with a file ----------------------------------------------------------------------------------------

GOOD = scrypt_line("alice", "secret")


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("alice", "expected NAME:$scrypt$ln=14,r=8,p=5$SALT$HASH"),
        ("alice:secret", "expected NAME:$scrypt$"),
        ("alice:$2y$10$abcdefghijklmnopqrstuv", "expected NAME:$scrypt$"),
        ("alice:$apr1$abc$def", "expected NAME:$scrypt$"),
        (":" + GOOD.partition(":")[2], "a name is not empty"),
        ("alice:$scrypt$ln=25,r=8,p=1$c2FsdA$" + "A" * 43, "at most 128 MiB"),
        ("alice:$scrypt$ln=99,r=1,p=1$c2FsdA$" + "A" * 43, "at most 128 MiB"),
        ("alice:$scrypt$ln=4,r=8,p=65$c2FsdA$" + "A" * 43, "at most p=64"),
        ("alice:$scrypt$ln=4,r=8,p=1$c2Fsd$" + "A" * 43, "base64 without padding"),
        ("alice:$scrypt$ln=4,r=8,p=1$c2FsdA$QUJD", "at least 16 bytes"),
    ],
)
def test_a_line_that_is_wrong_is_named_and_not_repeated(line: str, text: str, tmp_path: Path) -> None:
    path = write(tmp_path / "p", "# people", "", GOOD.replace("alice", "bob"), line)
    (problem,) = problems(path)
    assert problem.startswith(f"{path}: line 4: ")
    assert text in problem
    for part in line.split(":")[1:]:
        assert part not in problem


@pytest.mark.parametrize("line", ["bob", "bob:secret", f"bob:{'a' * 63}", f"bob:{'g' * 64}", f"bob:sha256${'a' * 64}"])
def test_a_token_line_that_is_wrong(line: str, tmp_path: Path) -> None:
    path = write(tmp_path / "t", line)
    (problem,) = problems(path, Tokens)
    assert problem.startswith(f"{path}: line 1: expected NAME: and the SHA-256 of the token in 64 hexadecimal digits")
    assert line.partition(":")[2] not in problem or ":" not in line


def test_all_that_is_wrong_is_told_up_to_ten_lines(tmp_path: Path) -> None:
    assert len(problems(write(tmp_path / "p", "a:x", GOOD, "b:y"))) == 2
    assert len(problems(write(tmp_path / "q", *["a:x"] * 50))) == 10


def test_a_name_stands_there_once_and_a_token_too(tmp_path: Path) -> None:
    (problem,) = problems(write(tmp_path / "p", GOOD, GOOD))
    assert problem.endswith("line 2: expected each name once; line 1 has it")
    (problem,) = problems(
        write(tmp_path / "t", token_line("a", "x"), token_line("a", "y"), token_line("a", "x")), Tokens
    )
    assert problem.endswith("line 3: expected each token once; line 1 has it")


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o601, 0o666])
def test_a_file_that_everybody_can_read_or_change_is_refused(mode: int, tmp_path: Path) -> None:
    path = write(tmp_path / "p", GOOD, mode=mode)
    (problem,) = problems(path)
    assert problem == (
        f"{path}: found mode {mode:04o}: everybody can read or change it; expected 0640 or less: chmod o= {path}"
    )


@pytest.mark.parametrize("mode", [0o640, 0o660, 0o600, 0o400])
def test_a_group_may_read_it(mode: int, tmp_path: Path) -> None:
    assert Passwords(str(write(tmp_path / "p", GOOD, mode=mode))).find("alice", 0).matches("secret")


def test_what_is_no_file_of_ours(tmp_path: Path) -> None:
    assert problems(tmp_path / "missing") == [f"{tmp_path}/missing: cannot be read: No such file or directory"]
    assert problems(tmp_path) == [f"{tmp_path}: is no regular file"]
    os.mkfifo(tmp_path / "fifo", 0o600)
    assert problems(tmp_path / "fifo") == [f"{tmp_path}/fifo: is no regular file"]
    assert "embedded null" in problems(Path("a\0b"))[0]
    large = write(tmp_path / "large", "#" * (1 << 20))
    assert problems(large) == [f"{large}: larger than 1048576 bytes; is it the right file?"]
    latin = tmp_path / "latin"
    latin.touch(0o600)
    latin.write_bytes(b"# ok\n\xe4:x\n")
    assert problems(latin) == [f"{latin}: line 2: expected UTF-8"]


def test_comments_empty_lines_and_other_line_ends(tmp_path: Path) -> None:
    path = write(tmp_path / "p", "\ufeff# a byte order mark", "", "  ", GOOD + "\r")
    assert Passwords(str(path)).find("alice", 0).matches("secret")


# -- tokens -----------------------------------------------------------------------------------------------------------


def test_a_token_is_long_and_only_its_hash_is_kept(tmp_path: Path) -> None:
    token, entry = make_token("bob")
    assert len(token) == 43
    assert token != make_token("bob")[0]
    assert entry.digest == hashlib.sha256(token.encode()).digest()
    assert token not in entry.line
    path = tmp_path / "t"
    write_token(path, entry)
    assert token not in path.read_text()
    assert Tokens(str(path)).find(token, 0) == "bob"
    with pytest.raises(ValueError, match="a name is"):
        make_token("")


def test_tokens_are_compared_in_constant_time_known_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = Tokens(str(token_file(tmp_path / "t", {"first": "bob", "second": "bob", "third": "eve"})))
    spy = Spy(monkeypatch, hmac, "compare_digest")
    found = [tokens.find(word, 0) for word in ("first", "second", "third", "Xirst", "firsX", "")]
    assert found == ["bob", "bob", "eve", None, None, None]
    assert [len(arguments[0]) for arguments, _ in spy.calls] == [32] * 6


# -- changes ----------------------------------------------------------------------------------------------------------


def test_a_changed_file_is_read_again_within_a_second(tmp_path: Path, said: list[str]) -> None:
    path = password_file(tmp_path / "p", {"alice": "old"})
    passwords = Passwords(str(path))
    now = time.monotonic()
    password_file(path, {"alice": "new", "bob": "his"})
    assert passwords.find("alice", now + 0.5).matches("old")  # nobody has looked yet
    assert passwords.find("alice", now + 1.5).matches("new")
    assert passwords.find("bob", now + 1.6).matches("his")
    password_file(path, {"bob": "his"})
    assert not passwords.find("alice", now + 3).matches("new")
    assert said == [f"{path}: read again, 2 lines", f"{path}: read again, 1 lines"]


def test_a_file_that_is_the_same_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = token_file(tmp_path / "t", {"first": "bob"})
    os.utime(path, ns=(0, 0))
    tokens = Tokens(str(path))
    now = time.monotonic() + 10
    monkeypatch.setattr(time, "time_ns", lambda: path.stat().st_ctime_ns + 10**9)
    tokens.find("first", now)  # it was so new that it could have changed within the clock's tick
    spy = Spy(monkeypatch, os, "open")
    assert [tokens.find("first", now + second) for second in range(2, 9)] == ["bob"] * 7
    assert spy.calls == []


def test_a_change_within_the_clocks_tick_is_seen(tmp_path: Path) -> None:
    """Same size, same times, same inode: the file was too new when it was read for that to mean the same content."""
    path = token_file(tmp_path / "t", {"first": "bob"})
    tokens = Tokens(str(path))
    status = path.stat()
    path.write_text(token_line("bob", "other") + "\n")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert tokens.find("other", time.monotonic() + 10) == "bob"


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.chmod(0o644), lambda path: path.write_text("a:b\n")])
def test_a_change_for_the_worse_is_logged_once_and_changes_nothing(
    spoil: Callable[[Path], Any], tmp_path: Path, said: list[str]
) -> None:
    path = password_file(tmp_path / "p", {"alice": "secret"})
    passwords = Passwords(str(path))
    spoil(path)
    for later in range(2, 20, 2):
        assert passwords.find("alice", time.monotonic() + later).matches("secret")
    assert len(said) == 1
    assert said[0].endswith("; going on with what it said before")
    path.unlink(missing_ok=True)
    password_file(path, {"alice": "better"})
    assert passwords.find("alice", time.monotonic() + 30).matches("better")


# -- adding a line ----------------------------------------------------------------------------------------------------


def test_a_new_file_is_the_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        assert not write_password(tmp_path / "p", parse_password_line(GOOD))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "p").stat().st_mode) == 0o600
    assert (tmp_path / "p").read_text() == GOOD + "\n"


def test_a_line_is_replaced_and_the_rest_stays_as_it_is(tmp_path: Path) -> None:
    path = write(tmp_path / "p", "# people", "", GOOD, scrypt_line("bob", "x"), mode=0o640)
    new = parse_password_line(scrypt_line("alice", "new"))
    assert write_password(path, new)
    assert path.read_text().splitlines() == ["# people", "", scrypt_line("bob", "x"), new.line]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [file.name for file in tmp_path.iterdir()] == ["p"]


def test_a_token_is_added_beside_those_there_are(tmp_path: Path) -> None:
    path = token_file(tmp_path / "t", {"first": "bob"})
    path.write_text(path.read_text().rstrip("\n"))  # an editor that ends no last line
    write_token(path, credentials.TokenHash("bob", hashlib.sha256(b"second").digest()))
    assert path.read_text().splitlines() == [token_line("bob", "first"), token_line("bob", "second")]


def test_a_link_stays_one(tmp_path: Path) -> None:
    write(tmp_path / "real", GOOD)
    (tmp_path / "link").symlink_to("real")
    write_password(tmp_path / "link", parse_password_line(scrypt_line("bob", "x")))
    assert (tmp_path / "link").is_symlink()
    assert len((tmp_path / "real").read_text().splitlines()) == 2


def test_a_file_that_is_wrong_or_cannot_be_written_is_left_alone(tmp_path: Path) -> None:
    wrong = write(tmp_path / "p", "alice:secret")
    with pytest.raises(ConfigError, match="line 1"):
        write_password(wrong, parse_password_line(GOOD))
    assert wrong.read_text() == "alice:secret\n"
    with pytest.raises(StartError, match="cannot be written: No such file or directory"):
        write_password(tmp_path / "missing" / "p", parse_password_line(GOOD))


def test_what_was_written_half_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    path = write(tmp_path / "p", GOOD)
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StartError, match="No space left"):
        write_password(path, parse_password_line(scrypt_line("bob", "x")))
    assert [file.name for file in tmp_path.iterdir()] == ["p"]
    assert path.read_text() == GOOD + "\n"
