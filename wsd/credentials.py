"""Files of hashed passwords and tokens: reading and checking them, comparing with what they say, and adding a line.

Owns their form, who may be able to read them, and how a secret becomes what stands there.  Must not know who asks, nor
threads: `PasswordHash.matches` takes as long as it is meant to take, and `verifier.py` calls it.

No text of an error holds a part of a line: somebody may have written a password there as it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import re
import secrets
import stat
import time
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Generic, NamedTuple, TypeVar

from wsd import log
from wsd.errors import ConfigError, Problem, StartError
from wsd.wire.authorization import has_controls, normalize

# One of the settings that OWASP's "Password Storage Cheat Sheet" calls equal (2^17, 8, 1 is another): it takes a fifth
# of a second, and 16 MiB for each thread in place of 128.
LOG2_N: Final = 14
BLOCKS: Final = 8
LANES: Final = 5
SALT_BYTES: Final = 16
DIGEST_BYTES: Final = 32

# A line that somebody else has written may ask for more, but not for what the daemon could not afford.
MEMORY_BYTES: Final = 128 << 20

# 256 bits that nobody can guess: so its hash needs no salt, and may be as fast as SHA-256.
TOKEN_BYTES: Final = 32

_FILE_BYTES: Final = 1 << 20  # some ten thousand names; a larger file is something else
_MOST_PROBLEMS: Final = 10  # of one file: a wrong file is wrong in each line

# A file's times move in steps of the kernel's clock tick, 10 ms at most: one that was written so shortly before it was
# read may be written again and look the same.
_TICK_SECONDS: Final = 0.1
# How often it is looked at whether a file has changed, at most: a look is a system call, and a second is soon enough.
_LOOK_SECONDS: Final = 1.0

# The modular crypt form in which passlib, too, writes scrypt: base64 without padding.
_SCRYPT: Final = re.compile(
    r"\$scrypt\$ln=([1-9][0-9]?),r=([1-9][0-9]{0,3}),p=([1-9][0-9]{0,3})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)\Z"
)
_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}\Z")

E = TypeVar("E", bound="PasswordHash | TokenHash")


class PasswordHash(NamedTuple):
    """One line of a password file."""

    name: str
    log2_n: int
    blocks: int
    lanes: int
    salt: bytes
    digest: bytes

    def matches(self, password: str) -> bool:
        """Reports whether that is the password; takes a fifth of a second, with the interpreter's lock released.

        Raises:
            ValueError, MemoryError: the system does not give the memory for it.
        """
        made = _scrypt(password, self.salt, self.log2_n, self.blocks, self.lanes, len(self.digest))
        return hmac.compare_digest(made, self.digest)

    @property
    def line(self) -> str:
        """As it stands in the file."""
        salt, digest = (b64encode(part).decode().rstrip("=") for part in (self.salt, self.digest))
        return f"{self.name}:$scrypt$ln={self.log2_n},r={self.blocks},p={self.lanes}${salt}${digest}"


class TokenHash(NamedTuple):
    """One line of a token file."""

    name: str
    digest: bytes

    @property
    def line(self) -> str:
        """As it stands in the file."""
        return f"{self.name}:{self.digest.hex()}"


def _scrypt(password: str, salt: bytes, log2_n: int, blocks: int, lanes: int, size: int) -> bytes:
    return hashlib.scrypt(
        password.encode(), salt=salt, n=1 << log2_n, r=blocks, p=lanes, maxmem=2 * MEMORY_BYTES, dklen=size
    )


def hash_password(name: str, password: str) -> PasswordHash:
    """The line for a password, with a salt of its own.

    Raises:
        ValueError: a name or password that could not be shown again.
    """
    name, password = check_name(name), normalize(password)
    if not password:
        raise ValueError("an empty password is none")
    if has_controls(password):
        raise ValueError("a password cannot hold control characters (RFC 7617)")
    salt = secrets.token_bytes(SALT_BYTES)
    return PasswordHash(name, LOG2_N, BLOCKS, LANES, salt, _scrypt(password, salt, LOG2_N, BLOCKS, LANES, DIGEST_BYTES))


def make_token(name: str) -> tuple[str, TokenHash]:
    """A new token, and the line for it.

    Raises:
        ValueError: a name that cannot stand in a file.
    """
    token = urlsafe_b64encode(secrets.token_bytes(TOKEN_BYTES)).decode().rstrip("=")
    return token, TokenHash(check_name(name), _digest_of(token))


def _digest_of(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def check_name(name: str) -> str:
    """`name` as it stands in a file.

    Raises:
        ValueError: empty, or with what cannot stand there.
    """
    name = normalize(name)
    if not name or name != name.strip() or name.startswith("#") or ":" in name or has_controls(name):
        raise ValueError("a name is not empty, has no colon, no control character, no # or space at its beginning")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError("a name is UTF-8") from None
    return name


# -- what a line says -------------------------------------------------------------------------------------------------


def parse_password_line(line: str) -> PasswordHash:
    """Read `NAME:$scrypt$ln=14,r=8,p=5$SALT$HASH`.

    Raises:
        ValueError: with what was expected.
    """
    name, _, text = line.partition(":")
    found = _SCRYPT.match(text)
    if found is None:
        raise ValueError("expected NAME:$scrypt$ln=14,r=8,p=5$SALT$HASH, as `wsd password NAME` writes it")
    log2_n, blocks, lanes = (int(number) for number in found.groups()[:3])
    # What it takes is 128 * r * (N + p) bytes (RFC 7914 6).
    if log2_n > 30 or 128 * blocks * ((1 << log2_n) + lanes) > MEMORY_BYTES:
        raise ValueError(f"expected a hash that takes at most {MEMORY_BYTES >> 20} MiB: 128 x r x 2^ln bytes")
    if lanes > 64:
        raise ValueError("expected at most p=64: it would take seconds")
    try:
        salt, digest = (b64decode(part + "=" * (-len(part) % 4)) for part in found.groups()[3:])
    except ValueError:
        raise ValueError("expected salt and hash in base64 without padding") from None
    if len(digest) < SALT_BYTES:
        raise ValueError(f"expected a hash of at least {SALT_BYTES} bytes")
    return PasswordHash(check_name(name), log2_n, blocks, lanes, salt, digest)


def parse_token_line(line: str) -> TokenHash:
    """Read `NAME:SHA256`.

    Raises:
        ValueError: with what was expected.
    """
    name, _, text = line.partition(":")
    if not _SHA256.match(text):
        raise ValueError(
            "expected NAME: and the SHA-256 of the token in 64 hexadecimal digits, as `wsd token NAME` writes it"
        )
    return TokenHash(check_name(name), bytes.fromhex(text))


# -- files ------------------------------------------------------------------------------------------------------------


class Stamp(NamedTuple):
    """What tells a file from itself as it was."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class _File(Generic[E]):
    """A file that is read again when it has changed; what cannot be read or used leaves what there was.

    Raises:
        ConfigError: it cannot be used.
    """

    def __init__(self, path: str, parse: Callable[[str], E]) -> None:
        self.path = path
        self._parse = parse
        self._looked = 0.0
        self._is_fresh = False  # it may change once more without a trace
        self._stamp: Stamp | None = None
        self.entries: list[E] = []
        self._read()

    def refresh(self, now: float) -> bool:
        """Look whether the file has changed, at most once a second; reports whether `entries` are others now."""
        if now - self._looked < _LOOK_SECONDS:
            return False
        self._looked = now
        try:
            stamp: Stamp | None = Stamp.of(os.stat(self.path))
        except OSError:
            stamp = None
        if stamp == self._stamp and not self._is_fresh:
            return False
        before = self.entries
        try:
            self._read()
        except ConfigError as error:
            for problem in error.problems:
                log.err("%s; going on with what it said before", problem)
            self._stamp, self._is_fresh = stamp, False  # said once
            return False
        if self.entries == before:
            return False
        log.notice("%s: read again, %d lines", self.path, len(self.entries))
        return True

    def _read(self) -> None:
        self._looked = time.monotonic()
        now_ns = time.time_ns()
        text, stamp = _read_text(self.path)
        self.entries = _parse_lines(self.path, text, self._parse)
        self._stamp = stamp
        self._is_fresh = now_ns - stamp.changed_ns < _TICK_SECONDS * 1e9


def _read_text(path: str) -> tuple[str, Stamp]:
    """What a file of secrets says, if nobody else can read it."""

    def refuse(message: str) -> ConfigError:
        return ConfigError([Problem(path, "", message)])

    try:
        # A FIFO would keep us waiting without O_NONBLOCK.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        text = getattr(error, "strerror", None) or str(error)
        raise refuse(f"cannot be read: {text}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise refuse("is no regular file")
        if status.st_mode & stat.S_IRWXO:
            mode = stat.S_IMODE(status.st_mode)
            raise refuse(
                f"found mode {mode:04o}: everybody can read or change it; expected 0640 or less: chmod o= {path}"
            )
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(_FILE_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(data) > _FILE_BYTES:
        raise refuse(f"larger than {_FILE_BYTES} bytes; is it the right file?")
    try:
        return data.decode("utf-8-sig"), Stamp.of(status)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError([Problem(path, f"line {line}", "expected UTF-8")]) from None


def _parse_lines(path: str, text: str, parse: Callable[[str], E]) -> list[E]:
    entries: list[E] = []
    problems: list[Problem] = []
    seen: dict[object, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            entry = parse(line.rstrip())
            # A name has one password, and may have several tokens.
            key = entry.name if isinstance(entry, PasswordHash) else entry
            if key in seen:
                raise ValueError(
                    f"expected each {'name' if key is entry.name else 'token'} once; line {seen[key]} has it"
                )
            seen[key] = number
        except ValueError as error:
            problems.append(Problem(path, f"line {number}", str(error)))
        else:
            entries.append(entry)
    if problems:
        raise ConfigError(problems[:_MOST_PROBLEMS])
    return entries


class Passwords:
    """The passwords of one file.

    Raises:
        ConfigError: it cannot be used; which line, and what was expected there.
    """

    def __init__(self, path: str) -> None:
        self._file = _File(path, parse_password_line)
        self._key = secrets.token_bytes(32)
        self._no_digest = secrets.token_bytes(DIGEST_BYTES)  # nobody's
        self._index()

    def _index(self) -> None:
        self._by_name = {entry.name: entry for entry in self._file.entries}

    def find(self, name: str, now: float) -> PasswordHash:
        """What a password for `name` is compared with; of a name that is not there, something as costly that no
        password matches.

        Args:
            now: `time.monotonic()`, about.
        """
        if self._file.refresh(now):
            self._index()
        return self._by_name.get(name) or self._decoy(name)

    def _decoy(self, name: str) -> PasswordHash:
        """For one name always the same, and as likely of one cost or another as those of the file are."""
        mark = hmac.digest(self._key, name.encode(), "sha256")
        entries = self._file.entries
        costs = entries[int.from_bytes(mark[:8], "big") % len(entries)][1:4] if entries else (LOG2_N, BLOCKS, LANES)
        return PasswordHash(name, *costs, mark[-SALT_BYTES:], self._no_digest)


class Tokens:
    """The tokens of one file.

    Raises:
        ConfigError: it cannot be used; which line, and what was expected there.
    """

    def __init__(self, path: str) -> None:
        self._file = _File(path, parse_token_line)
        self._key = secrets.token_bytes(32)
        self._nobody = TokenHash("", secrets.token_bytes(DIGEST_BYTES))
        self._index()

    def _index(self) -> None:
        self._by_mark = {self._mark(entry.digest): entry for entry in self._file.entries}

    def _mark(self, digest: bytes) -> bytes:
        """Where a token is looked up: nobody outside knows how near to another he has come."""
        return hmac.digest(self._key, digest, "sha256")

    def find(self, token: str, now: float) -> str | None:
        """Whose token that is; None: nobody's.

        Args:
            now: `time.monotonic()`, about.
        """
        if self._file.refresh(now):
            self._index()
        digest = _digest_of(token)
        entry = self._by_mark.get(self._mark(digest), self._nobody)
        return entry.name if hmac.compare_digest(entry.digest, digest) else None


# -- adding a line ----------------------------------------------------------------------------------------------------


def write_password(path: Path, entry: PasswordHash) -> bool:
    """Put a password into a file, in place of the one that the name had; reports whether it had one.

    Raises:
        ConfigError: the file is there and cannot be used.
        StartError: it cannot be written.
    """
    return _write(path, parse_password_line, entry, lambda other: other.name == entry.name)


def write_token(path: Path, entry: TokenHash) -> None:
    """Put a token into a file, beside those that the name had.

    Raises:
        ConfigError: the file is there and cannot be used.
        StartError: it cannot be written.
    """
    _write(path, parse_token_line, entry, lambda other: False)


def _write(path: Path, parse: Callable[[str], E], entry: E, is_replaced: Callable[[E], bool]) -> bool:
    target = Path(os.path.realpath(path))
    lines: list[str] = []
    if target.exists():
        text, _ = _read_text(str(target))
        _parse_lines(str(path), text, parse)
        lines = text.removesuffix("\n").split("\n") if text else []
    kept = [line for line in lines if not line.strip() or line.startswith("#") or not is_replaced(parse(line.rstrip()))]
    try:
        _replace(target, [*kept, entry.line])
    except OSError as error:
        raise StartError(f"{path}: cannot be written: {error.strerror}") from None
    return len(kept) < len(lines)


def _replace(path: Path, lines: Iterable[str]) -> None:
    """Write a file at once: who reads it sees the old one or the new one.  Mode and owner stay; a new one is 0600."""
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                os.fchown(descriptor, status.st_uid, status.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
            file.write("\n".join(lines) + "\n")
            file.flush()
            os.fsync(descriptor)
        os.rename(new, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise
