"""Every option, once: its type, default, bounds, meaning and schema are one field of one model here.

The texts of the tables and fields, in their order, are `etc/wsd.toml` and so the manual.  Owns what may stand in the
configuration.  Must not know the file, nor what the options do to sockets, processes or plugins: those are handed the
models.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, PrivateAttr, Strict, model_validator

from wsd.clashes import address_clashes, door_clashes, listener_clashes, protocol_clashes, raw_clashes
from wsd.kinds import (
    Account,
    DeflateLevel,
    DeflateMemory,
    FilePath,
    Folder,
    Interface,
    Level,
    NetworkList,
    Octal,
    Origin,
    Seconds,
    SecondsOrOff,
    SizeOrNone,
    SocketPath,
    Token,
    UrlPath,
    WindowBits,
    each_once,
)
from wsd.options_access import Auth, ProtocolAuth
from wsd.options_limits import (
    Limits,
    ListenLimits,
    ListenTimeouts,
    ProtocolLimits,
    ProtocolTimeouts,
    Timeouts,
)
from wsd.options_tls import Tls
from wsd.problems import Allowed, clash_error
from wsd.table import Table


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

    certificate_check_seconds: SecondsOrOff = 60
    """How often wsd looks whether the files of a [listen.tls] have changed, and reads them again if so: a renewal by
    certbot needs nobody.  What is wrong with the new files is logged, and the old ones go on.  0: only a reload reads
    them.  This option a reload takes over."""


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


class Compression(Table):
    """Compression of messages (permessage-deflate, RFC 7692) on the listener above, for clients that offer it.

    It saves bytes on the wire, and costs time, and memory for each connection on which compressed messages went both
    ways: about 50 KiB with these values, 300 KiB with window_bits = 15 and memory_level = 8.  One that is silent from
    the beginning costs nothing.
    """

    enabled: bool = True
    """Whether it is agreed to.  Most browsers and libraries offer it; who does not is served without."""

    level: DeflateLevel = 3
    """How hard to try: 1 is fastest, 9 makes the smallest messages.  On JSON of 1 kB, level 6 makes them a tenth
    smaller than 3 and takes almost half as much time again; 1 is hardly faster than 3."""

    memory_level: DeflateMemory = 5
    """Memory for compressing, beside the window: 2^(N+9) bytes for each connection, 16 KiB at 5, 128 KiB at 8."""

    window_bits: WindowBits = 12
    """How far back a message may repeat what was said before: 2^N bytes, 4 KiB at 12.  Compressing takes four times
    that for each connection.  Receiving takes it once; a client that does not let itself be limited takes 32 KiB."""

    context_takeover: bool = True
    """Whether a message may repeat what earlier ones said, which makes small messages much smaller.  false: each stands
    for itself and nothing is kept between them, so an idle connection costs none of this memory."""

    min_bytes: SizeOrNone = 128
    """Messages shorter than this are sent as they are: they would gain little.  0: every message is compressed, which
    clients built on libwebsockets need: up to version 4.3 at least, they hang on one that is not."""


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

    accept: Literal["http", "raw"] = "http"
    """What is spoken here.  "http": HTTP, from which WebSockets are upgraded.  "raw": nothing that wsd knows: each
    connection goes to `default_protocol` as it is, a plugin with on_raw_receive, and what is about HTTP and WebSockets
    below stays out."""

    allow: NetworkList = Field((), examples=[["192.0.2.0/24", "2001:db8::/32"]])
    """Who may connect, as networks or single addresses; "unix" stands for those who come by the Unix socket.  Others
    are hung up on without a word, or get 403 where a request was read.  Empty: everybody."""

    deny: NetworkList = Field((), examples=[["198.51.100.0/24"]])
    """Who may not connect, whatever `allow` says."""

    trusted_proxies: NetworkList = ()
    """The proxies in front of this listener, written as for `allow`.  They are believed when they say whom they speak
    for, in the way that the next two options choose, one of which has to be set.  The logs, `allow` and `deny`, the
    limits for each address, and plugins then see the real peer.  A proxy that speaks for itself, as with a health
    check, is let in whatever `allow` says."""

    proxy_protocol: bool = False
    """Whether each connection begins with a header of the PROXY protocol, of version 1 or 2 (send-proxy in haproxy,
    proxy_protocol in nginx), in front of TLS too.  Who is none of `trusted_proxies`, or begins otherwise, is hung up
    on."""

    forwarded: Literal["none", "x-forwarded-for", "forwarded"] = "none"
    """The header of HTTP requests in which `trusted_proxies` name the real peer: "x-forwarded-for", or "forwarded" (RFC
    7239).  The last address in it that is no trusted proxy's is taken, for a client can write there what it likes in
    front of that.  From others the header is ignored.  Choose the one that your proxy really sets or adds to: the other
    one comes from clients as they wrote it."""

    protocols: Annotated[tuple[Token, ...], Strict(False), AfterValidator(each_once)] | None = Field(
        None, examples=[["echo", "lws-mirror-protocol"]]
    )
    """The protocols that are served here, by name.  Left out: all that the plugins in `folders` hold, so that a file
    dropped in there is served at the next start or reload.  Name them where the world can connect."""

    default_protocol: Token | None = Field(None, examples=["echo"])
    """The protocol for clients that ask for none.  Left out: the first of `protocols`."""

    paths: dict[UrlPath, Token] = Field({}, examples=[{"/mirror": "lws-mirror-protocol"}])
    """The protocol for clients that ask for none, by the path of their request; it wins over `default_protocol`.  The
    path must be the same to the letter."""

    allowed_origins: Annotated[tuple[Origin, ...], Strict(False), AfterValidator(each_once)] = Field(
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

    limits: ListenLimits = ListenLimits.model_construct()
    timeouts: ListenTimeouts = ListenTimeouts.model_construct()
    compression: Compression = Compression.model_construct()
    tls: Tls = Tls.model_construct()
    auth: Auth = Auth.model_construct()

    @model_validator(mode="after")
    def _clashes(self) -> Listen:
        if clashes := [*address_clashes(self), *door_clashes(self), *protocol_clashes(self), *raw_clashes(self)]:
            raise clash_error(clashes)
        return self


class ProtocolCompression(Table):
    """Compression of one protocol's messages, in place of what the listener's [listen.compression] says."""

    enabled: bool | None = Field(None, examples=[False])
    """See [listen.compression]; false for what is compressed already, pictures or sound."""

    level: DeflateLevel | None = Field(None, examples=[1])
    """See [listen.compression]."""

    memory_level: DeflateMemory | None = Field(None, examples=[8])
    """See [listen.compression]."""

    window_bits: WindowBits | None = Field(None, examples=[15])
    """See [listen.compression]."""

    context_takeover: bool | None = Field(None, examples=[False])
    """See [listen.compression]."""

    min_bytes: SizeOrNone | None = Field(None, examples=[1024])
    """See [listen.compression]."""

    def over(self, base: Compression) -> Compression:
        """What holds where the listener says `base`."""
        return base.model_copy(update=self.given)


class ProtocolTable(Table):
    """What one protocol is given: the plugin's own options, and its limits, timeouts, compression and auth, which
    belong to wsd.

    `wsd plugins` lists the protocols and their files, which say what options there are.
    """

    model_config = ConfigDict(extra="allow")

    limits: ProtocolLimits = ProtocolLimits.model_construct()
    timeouts: ProtocolTimeouts = ProtocolTimeouts.model_construct()
    compression: ProtocolCompression = ProtocolCompression.model_construct()
    auth: ProtocolAuth = ProtocolAuth.model_construct()

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

    daemon: Daemon = Daemon.model_construct()
    log: Log = Log.model_construct()
    plugins: Plugins = Plugins.model_construct()
    limits: Limits = Limits.model_construct()
    timeouts: Timeouts = Timeouts.model_construct()
    keepalive: Keepalive = Keepalive.model_construct()
    listen: Annotated[
        tuple[Listen, ...],
        Strict(False),
        Field(min_length=1),
        Allowed("one or more tables, each with the header [[listen]]"),
    ] = (Listen.model_construct({"default_protocol"}, default_protocol="echo"),)
    protocols: dict[Token, ProtocolTable] = Field({}, examples=[{"lws-mirror-protocol": {"ring_size": 32}}])

    _path: Path = PrivateAttr(Path())

    @property
    def path(self) -> Path:
        """The file that this was read from, absolute."""
        return self._path

    @model_validator(mode="after")
    def _clashes(self) -> Config:
        if clashes := list(listener_clashes(self.listen)):
            raise clash_error(clashes)
        return self
