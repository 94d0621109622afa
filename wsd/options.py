"""Every option, once: its type, default, bounds, meaning and schema are one field of one model here.

The texts of the tables and fields, in their order, are `etc/wsd.toml` and so the manual.  Owns what may stand in the
configuration and what does not go together.  Must not know the file, nor what the options do to sockets, processes or
plugins: those are handed the models.
"""

from __future__ import annotations

import ipaddress
import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    Strict,
    ValidationInfo,
    model_validator,
)

from wsd.problems import Allowed, Clash, clash_error, nearest, toml

FOLDER: Final = "folder"  # the key, in validation's context, of what relative paths are relative to
_UNIX_PATH_BYTES: Final = 107  # sizeof(sun_path) less the zero at its end


class Options(BaseModel):
    """Base of a plugin's options: subclass it, name it as your protocol's `Options`, and give fields and defaults.

    They are filled from the table `[protocols.NAME]`; an unknown key or a value of another type is refused.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


class Table(BaseModel):
    """A table of wsd's own options.  Strict: `true` is no number, and "80" neither."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        # Paths among the defaults are relative to the file's folder as well.
        validate_default=True,
        revalidate_instances="always",
        # The text below a field is its description: in the schema, and in `etc/wsd.toml`.
        use_attribute_docstrings=True,
    )


# -- kinds of values --------------------------------------------------------------------------------------------------


def _absolute(value: str, info: ValidationInfo) -> str:
    """Make a path absolute against the configuration file's folder, where there is a file; empty stays empty."""
    if "\0" in value:
        raise ValueError("a path cannot hold a NUL")
    folder = info.context.get(FOLDER) if info.context else None
    return os.path.normpath(os.path.join(folder, value)) if value and folder else value


def _short_path(value: str) -> str:
    if (size := len(os.fsencode(value))) > _UNIX_PATH_BYTES:
        raise ValueError(
            f"it has {size} bytes as an absolute path; allowed: up to {_UNIX_PATH_BYTES}, as the kernel wants"
        )
    return value


def _named_folder(value: object) -> object:
    if value == "":
        raise ValueError('allowed: the path of a folder; the file\'s own is "."')
    return value


def _each_once(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{toml(value)} stands there twice")
    return values


def _address(value: str) -> str:
    """Refuse what looks like an address and is none; a name is looked up when the socket is bound."""
    if value and (":" in value or not value.strip("0123456789.")):
        try:
            ipaddress.ip_address(value)
        except ValueError:
            raise ValueError("allowed: an IPv4 address, an IPv6 address without brackets, or a name; no port") from None
    return value


Size = Annotated[int, Field(ge=1, le=2**63 - 1)]
SizeOrNone = Annotated[int, Field(ge=0, le=2**63 - 1)]
# A day is the longest that any wait may be; what shall not happen at all has a 0 of its own.
Seconds = Annotated[float, Field(ge=0.1, le=86_400, allow_inf_nan=False)]
SecondsOrOff = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
Octal = Annotated[str, Field(pattern="^0?[0-7]{3}$"), Allowed('three octal digits in quotes, such as "0660"')]
# RFC 9110 5.6.2 "token", the alphabet of a subprotocol's name.
Token = Annotated[
    str,
    Field(pattern=r"^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$"),
    Allowed("a protocol's name: letters, digits and !#$%&'*+-.^_`|~"),
]
Account = Annotated[str, Field(pattern=r"^[^\s:/,]*$"), Allowed("the name or number of an account, or empty")]
FilePath = Annotated[str, AfterValidator(_absolute)]
SocketPath = Annotated[str, AfterValidator(_absolute), AfterValidator(_short_path)]
Folder = Annotated[
    Path,
    Strict(False),
    BeforeValidator(_named_folder),
    AfterValidator(lambda path, info: Path(_absolute(str(path), info))),
]
Interface = Annotated[str, Field(pattern=r"^[^\s/\[\]]*$"), AfterValidator(_address), Allowed("an address or a name")]
UrlPath = Annotated[str, Field(pattern=r"^/[^?#]*$"), Allowed('a path that starts with "/", without "?" and "#"')]
Origin = Annotated[
    str,
    Field(pattern=r"^(\*|[A-Za-z][A-Za-z0-9+.\-]*://[^\s/?#@]+)$"),
    Allowed('an origin such as "https://example.com" or "https://example.com:8443", or "*"'),
]
Level = Literal["err", "warn", "notice", "info", "debug", "parser", "header", "ext", "client", "latency", "user"]


# -- what does not go together ----------------------------------------------------------------------------------------


def _typed(table: Table, names: Iterable[str]) -> list[str]:
    """Those of the options that were set, and not to nothing."""
    return [name for name in names if name in table.model_fields_set and getattr(table, name) != ""]


def _assignments(table: Table, names: Iterable[str]) -> str:
    return " and ".join(f"{name} = {toml(getattr(table, name))}" for name in names)


def _address_clashes(listen: Listen) -> Iterator[Clash]:
    tcp = _typed(listen, ("interface", "port"))
    if listen.unix and tcp:
        text = f"found {_assignments(listen, [*tcp, 'unix'])}; a listener has the one or the other"
        yield Clash(("unix",), text, tuple((name,) for name in tcp))
    if not listen.unix and not listen.interface:
        yield Clash(("interface",), 'found interface = "" and no unix; set one of them', (("unix",),))
    if not listen.unix:
        for name in ("unix_mode", "unix_owner", "unix_group"):
            if getattr(listen, name) != Listen.model_fields[name].default:
                yield Clash(
                    (name,), f"found {_assignments(listen, [name])} without unix; set both or none", (("unix",),)
                )
    if not listen.v6_only and (listen.unix or ":" not in listen.interface):
        other = "unix" if listen.unix else "interface"
        text = (
            f'found {_assignments(listen, ["v6_only", other])}; it is about an IPv6 address, such as interface = "::"'
        )
        yield Clash(("v6_only",), text, ((other,),))


def _protocol_clashes(listen: Listen) -> Iterator[Clash]:
    if listen.protocols is None:
        return  # all that the folders hold, and what is named here
    named = [(("default_protocol",), listen.default_protocol)] if listen.default_protocol is not None else []
    for key, name in [*named, *((("paths", path), name) for path, name in listen.paths.items())]:
        if name not in listen.protocols:
            near = nearest(name, listen.protocols)
            text = f"found {toml(name)}, which is not in protocols = {toml(listen.protocols)}"
            yield Clash(key, f"{text}; did you mean {toml(near)}?" if near else text, (("protocols",),))


def _listeners_clash(listeners: tuple[Listen, ...]) -> Iterator[Clash]:
    """Two listeners of one address: the second could not be bound."""
    for (first, one), (second, other) in itertools.combinations(enumerate(listeners), 2):
        if _same_address(one, other):
            keys = ["unix"] if other.unix else ["interface", "port"]
            text = f"found {_assignments(other, keys)}; listen[{first}] has {_assignments(one, keys)} already"
            involved = itertools.product(("listen",), (first, second), ("interface", "port", "unix"))
            yield Clash(("listen", second, keys[-1]), text, tuple(involved))


def _same_address(one: Listen, other: Listen) -> bool:
    if one.unix or other.unix:
        return one.unix == other.unix
    return one.port == other.port != 0 and (_covers(one, other) or _covers(other, one))


def _covers(one: Listen, other: Listen) -> bool:
    """Whether `one` takes the address of `other` too, of the same port."""
    if one.interface == "0.0.0.0":
        return ":" not in other.interface
    mine, theirs = (_canonical(listen.interface) for listen in (one, other))
    return mine == theirs or (mine == "::" and (":" in theirs or not one.v6_only))


def _canonical(interface: str) -> str:
    try:
        return str(ipaddress.ip_address(interface))
    except ValueError:
        return interface.lower()


# -- the tables -------------------------------------------------------------------------------------------------------


class Daemon(Table):
    """The process.  These options are read at the start: changing one takes a restart, and a reload says so."""

    pidfile: FilePath = ""
    """Where the daemon writes its pid.  Beside it lie the lock that refuses a second start and the socket that `wsd
    stop`, `reload` and `status` speak to.  Its folder is made if need be.  Empty: /run/wsd/wsd.pid as root, else
    wsd.pid in $RUNTIME_DIRECTORY (systemd) or $XDG_RUNTIME_DIR."""

    user: Account = ""
    """The user that the daemon becomes once its sockets are bound, which only root can do.  Empty: it stays who it is,
    which as root is worth a warning.  Under systemd leave it empty and set User= in the unit."""

    group: Account = ""
    """The group that goes with it.  Empty: the group of `user`."""

    umask: Octal = "0027"
    """Permissions that the files it makes do not get, in octal.  0027: others may do nothing.  The control socket is
    0600 and Unix sockets have `unix_mode`, whatever is set here."""


class Log(Table):
    """What is logged, and where to."""

    target: Literal["auto", "stderr", "syslog"] = "auto"
    """Where to: "stderr", "syslog", or "auto": standard error in the foreground (`wsd run`), syslog when detached
    (`wsd start`).  Standard error of a systemd service is its journal."""

    syslog_socket: SocketPath = "/dev/log"
    """Where syslog listens.  wsd never waits for it: lines that it does not take are kept, up to 1000, and those lost
    are counted.  If the socket is not there the start succeeds, says so, and wsd tries again."""

    levels: Annotated[tuple[Level, ...], Strict(False)] = ("err", "warn", "notice", "user")
    """The levels that are shown; they are independent of each other.  err: a plugin failed; warn: a limit was hit;
    notice: start, reload, stop; user: what plugins say; info: each connection, opened and closed.  For those who look
    for something: debug, parser, header, ext, client, latency, which cost speed.  `wsd run --log LEVELS` sets them for
    once."""


class Plugins(Table):
    """Where protocols come from.  A plugin is a Python file that ends with `protocols = [...]`: docs/plugins.md."""

    folders: Annotated[tuple[Folder, ...], Strict(False)] = (Path("../plugins"),)
    """Folders with plugins, looked through in this order; the first plugin of a name wins.  As root, wsd refuses a file
    or folder that others can write to: a plugin can do what the daemon can do."""

    entry_points: bool = True
    """Whether installed Python packages that declare the entry point group wsd.plugins are found as well.  Their
    protocols, like those shipped with wsd, are served only where a listener names them."""


class Limits(Table):
    """What one peer can make the daemon hold.  Each limit is one kind of attack that does not work."""

    max_connections: int = Field(0, ge=0)
    """Connections at one time.  At the limit accepting pauses, and newcomers wait in the listener's backlog.  0: what
    the limit of open files allows (LimitNOFILE= of the unit, `ulimit -n`) less a reserve; more than that is not
    possible.  The start prints the number."""

    max_message_bytes: SizeOrNone = 1_048_576
    """The largest message that a peer may send; a larger one gets Close 1009, from its header on where that tells.  A
    plugin, and [protocols.NAME.limits], can set another.  0: no limit, only for protocols that take messages piece by
    piece (on_receive)."""

    max_queue_bytes: Size = 1_048_576
    """What may wait in wsd's memory for one peer to read.  A message is taken while the queue is below this, whatever
    its own size; a peer whose queue is full is closed with 1008.  Times the number of connections it is the most memory
    that slow readers can cost; see also `slow_reader_seconds`."""

    max_fragments: Size = 4096
    """Frames that one message may be cut into: empty fragments cost a peer nothing and the daemon some work each.  More
    gets Close 1008."""

    max_head_bytes: int = Field(16_384, ge=512, le=1 << 20)
    """The largest head of an HTTP request, all its lines together; a larger one gets 431.  It is kept as long as the
    connection lives.  Large cookies are the usual reason to raise it."""

    max_headers: int = Field(100, ge=1, le=10_000)
    """Header lines in one request; more get 431."""

    max_uri_bytes: int = Field(8192, ge=16, le=1 << 20)
    """The longest path and query of a request; a longer one gets 414.  Part of `max_head_bytes`."""

    max_body_bytes: SizeOrNone = 1_048_576
    """The largest body of an HTTP request; a larger one gets 413.  0: none but an empty one.  Only plugins with
    on_http_body see bodies."""

    @model_validator(mode="after")
    def _clashes(self) -> Limits:
        if "max_uri_bytes" in self.model_fields_set and self.max_uri_bytes > self.max_head_bytes:
            pair = _assignments(self, ["max_uri_bytes", "max_head_bytes"])
            raise clash_error(
                [Clash(("max_uri_bytes",), f"found {pair}; the first is part of the second", (("max_head_bytes",),))]
            )
        return self


class Timeouts(Table):
    """How long the daemon waits for a peer, in seconds; fractions are allowed."""

    handshake_seconds: Seconds = 5
    """From accepting a connection to its whole request head, however slowly the bytes come."""

    close_seconds: Seconds = 5
    """For the closing handshake: the peer's answer to a Close, and then the end of the connection.  Also how long a
    stop waits for everybody, so keep TimeoutStopSec= of the unit above it."""

    http_idle_seconds: Seconds = 60
    """For the next request on an HTTP connection that is kept alive."""

    body_seconds: Seconds = 30
    """For the body of a request, from its head to its last byte."""

    slow_reader_seconds: Seconds = 30
    """How long a peer may read nothing while something waits for it.  Then it is closed; the others never notice it.
    [protocols.NAME.timeouts] can set another."""


class Keepalive(Table):
    """How a peer that is gone without a word is found out: its cable pulled, its laptop closed, its address changed.

    TCP probes (time, probes, interval; ka_time, ka_probes and ka_interval in libwebsockets) are the kernel's and end at
    a proxy.  WebSocket pings go to the peer itself, and keep the connection open in proxies and firewalls on the way.
    """

    time_seconds: int = Field(60, ge=0, le=32_767)
    """Silence on a TCP connection before its first probe, in whole seconds.  0: no probes.  Unread data is given up
    after time_seconds + probes x interval_seconds as well (TCP_USER_TIMEOUT)."""

    probes: int = Field(3, ge=1, le=127)
    """Probes without an answer until the connection is dead."""

    interval_seconds: int = Field(10, ge=1, le=3600)
    """From one probe to the next, in whole seconds."""

    ping_seconds: SecondsOrOff = 20
    """Silence of a WebSocket peer before it gets a ping.  Keep it under the idle limit of the proxy in front (60 in
    nginx).  0: no pings, and nobody is hung up on."""

    hangup_seconds: Seconds = 20
    """How long such a ping may go without an answer, or any other sign of life, until wsd hangs up.  So a dead peer is
    gone after ping_seconds + hangup_seconds."""


class Listen(Table):
    """One address to listen on; write the table again for another one, with its own protocols.

    Behind a proxy (nginx, haproxy) that does TLS, keep the listener on 127.0.0.1, or on a Unix socket.
    """

    interface: Interface = "127.0.0.1"
    """The address of this machine to listen on, or a name of it.  127.0.0.1: from this machine only; 0.0.0.0: any IPv4
    address; :: any IPv6 address."""

    port: int = Field(7681, ge=0, le=65_535)
    """The TCP port.  0: one that is free; the log says which.  Below 1024 takes root."""

    v6_only: bool = True
    """With interface = "::": false takes IPv4 connections on the same socket too."""

    unix: SocketPath = Field("", examples=["/run/wsd/wsd.sock"])
    """The path of a Unix socket to listen on; instead of `interface` and `port`, so take those out.  The file of a
    daemon that died is replaced, that of one that lives is not.  It is removed at the end."""

    unix_mode: Octal = "0660"
    """Who may connect to the Unix socket: its permissions, in octal."""

    unix_owner: Account = ""
    """The user that owns the Unix socket.  Empty: who starts the daemon."""

    unix_group: Account = ""
    """Its group: for 0660 the one that the proxy in front belongs to."""

    backlog: int = Field(1024, ge=1, le=65_535)
    """Connections that the kernel holds until wsd accepts them; it allows net.core.somaxconn at most."""

    protocols: Annotated[tuple[Token, ...], Strict(False), AfterValidator(_each_once)] | None = Field(
        None, examples=[["echo", "lws-mirror-protocol"]]
    )
    """The protocols that are served here, by name.  Left out: all that the plugins in `folders` hold, so that a file
    dropped in there is served at the next start or reload.  Name them where the world can connect."""

    default_protocol: Token | None = Field(None, examples=["echo"])
    """The protocol for clients that ask for none.  Left out: the first of `protocols`."""

    paths: dict[UrlPath, Token] = Field({}, examples=[{"/mirror": "lws-mirror-protocol"}])
    """The protocol for clients that ask for none, by the path of their request; it wins over `default_protocol`.  The
    path must be the same to the letter."""

    allowed_origins: Annotated[tuple[Origin, ...], Strict(False), AfterValidator(_each_once)] = Field(
        (), examples=[["https://www.example.com", "http://localhost:8000"]]
    )
    """Web pages that may connect beside those of the same host name, as browsers name them in the Origin header.  Any
    other page gets 403, for a browser sends cookies along wherever the page came from.  "*" lets every page in the
    world connect.  Clients that are no browsers send no Origin and are not asked for one."""

    static_folder: FilePath = Field("", examples=["/var/www/html"])
    """A folder whose files are served to plain HTTP requests.  Empty: wsd's own page, a console for the protocols
    served here."""

    http_protocol: Token | None = Field(None, examples=["my-api"])
    """A protocol whose on_http hooks answer plain HTTP requests first; what it leaves goes to `static_folder`, or the
    page.  Left out: the built-in http."""

    @model_validator(mode="after")
    def _clashes(self) -> Listen:
        if clashes := [*_address_clashes(self), *_protocol_clashes(self)]:
            raise clash_error(clashes)
        return self


class ProtocolLimits(Table):
    """Limits of one protocol, in place of those in [limits]."""

    max_message_bytes: SizeOrNone | None = Field(None, examples=[65536])
    """See [limits]; 0, no limit, only if the plugin has on_receive."""

    max_queue_bytes: Size | None = Field(None, examples=[262144])
    """See [limits]."""

    max_fragments: Size | None = Field(None, examples=[64])
    """See [limits]."""


class ProtocolTimeouts(Table):
    """Timeouts of one protocol, in place of those in [timeouts]."""

    close_seconds: Seconds | None = Field(None, examples=[2])
    """See [timeouts]."""

    slow_reader_seconds: Seconds | None = Field(None, examples=[10])
    """See [timeouts]."""


class ProtocolTable(Table):
    """What one protocol is given: the plugin's own options, and its limits and timeouts, which belong to wsd.

    `wsd plugins` lists the protocols and their files, which say what options there are.
    """

    model_config = ConfigDict(extra="allow")

    limits: ProtocolLimits = ProtocolLimits()
    timeouts: ProtocolTimeouts = ProtocolTimeouts()

    @property
    def options(self) -> dict[str, Any]:
        """The plugin's own options, as they stand in the file: see `fill_options`."""
        return dict(self.__pydantic_extra__ or {})


class Config(Table):
    """The configuration of wsd, and its manual.

    Every option stands here with its default, so an empty file means the same as this one.  What starts with # and a
    space is text; what starts with # alone is an option that is left out by default.

    Durations end in _seconds and may have fractions where that is not excluded, sizes in _bytes.  Relative paths are
    relative to the folder of this file.  `wsd check` says all that is wrong with it; a running daemon takes changes
    over with `wsd reload`, and stays as it is if there is a mistake.

    `wsd config schema > wsd.schema.json`, and "#:schema ./wsd.schema.json" as this file's first line, let editors
    complete it.
    """

    daemon: Daemon = Daemon()
    log: Log = Log()
    plugins: Plugins = Plugins()
    limits: Limits = Limits()
    timeouts: Timeouts = Timeouts()
    keepalive: Keepalive = Keepalive()
    listen: Annotated[
        tuple[Listen, ...],
        Strict(False),
        Field(min_length=1),
        Allowed("one or more tables, each with the header [[listen]]"),
    ] = (Listen(default_protocol="echo"),)
    protocols: dict[Token, ProtocolTable] = Field({}, examples=[{"lws-mirror-protocol": {"ring_size": 32}}])

    _path: Path = PrivateAttr(Path())

    @property
    def path(self) -> Path:
        """The file that this was read from, absolute."""
        return self._path

    @model_validator(mode="after")
    def _clashes(self) -> Config:
        if clashes := list(_listeners_clash(self.listen)):
            raise clash_error(clashes)
        return self
