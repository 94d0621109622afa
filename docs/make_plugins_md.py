"""Writes docs/plugins.md out of the docstrings of what a plugin uses.  Run it with: python docs/make_plugins_md.py

Owns the order of the page and the few words around the reference.  What a hook or method does is said in its docstring
and nowhere else; a public name that is in none of the lists below is an error, so that somebody decides.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from wsd.compiled import TWINS  # noqa: E402
from wsd.context import Context  # noqa: E402
from wsd.errors import ConnectError, Reject  # noqa: E402
from wsd.protocol import HOOKS, Protocol, callback_protocol  # noqa: E402
from wsd.reasons import CLIENT_REASONS, FILE_REASONS, REASONS, Reason  # noqa: E402
from wsd.reconnect import Backoff, Reconnect  # noqa: E402
from wsd.ring import Ring, Tail  # noqa: E402
from wsd.tls_client import ClientTls  # noqa: E402
from wsd.tls_info import TlsInfo  # noqa: E402
from wsd.wire.headers import Headers  # noqa: E402
from wsd.wire.http import Request  # noqa: E402
from wsd.wire.reply import Reply  # noqa: E402
from wsd.wire.response import Response  # noqa: E402
from wsd.wsi import Wsi  # noqa: E402

TARGET = ROOT / "docs" / "plugins.md"

# Attributes that are set when the object is made, and so have no docstring of their own.
ATTRIBUTES: dict[tuple[type, str], str] = {
    (Wsi, "context"): "The context that serves it.",
    (Wsi, "frame_is_binary"): "Whether the message being received is binary.",
    (Wsi, "identity"): "Whose password or token the request showed, of the files in `[listen.auth]` or what"
    " `on_verify_authorization` set; None: nobody was asked.",
    (Wsi, "is_final_fragment"): "Whether the piece being received is its message's last.  LWS: lws_is_final_fragment.",
    (Wsi, "listener"): "The listener that accepted it; None for a connection that we opened or adopted.",
    (Wsi, "local"): "This end's address, a `Peer`.",
    (Wsi, "proxy"): "The `Peer` that the kernel knows, where `peer` is somebody for whom that one speaks; else None.",
    (Wsi, "request"): "The request that opened it, readable for the wsi's whole life; of a connection that we open None"
    " until it leaves, and of a raw one always.",
    (Wsi, "session"): "Yours: what `Session` gave, or whatever you put there.",
    (Wsi, "subprotocol"): "The subprotocol that was agreed on; None if the peer asked for none.",
    (ConnectError, "cause"): "One word, of those below.",
    (ConnectError, "text"): "What happened, in a sentence.",
    (ConnectError, "status"): "The HTTP status of what the server or the proxy answered; 0: it did not.",
    (ConnectError, "body"): "How the body of that answer begins.",
    (ConnectError, "CAUSES"): "Every cause: " + ", ".join(f"`{cause}`" for cause in ConnectError.CAUSES) + ".",
    (Reconnect, "failures"): "How often, since a connection was last established, it failed or ended.",
    (Reconnect, "wsi"): "The latest one.",
    (Reconnect, "backoff"): "The `Backoff` it was made with.",
    (Response, "status"): "The HTTP status.",
    (ClientTls, "insecure"): "Whether any server is believed.",
    (TlsInfo, "version"): "`TLSv1.3`.",
    (TlsInfo, "cipher"): "OpenSSL's name of the cipher suite: `TLS_AES_128_GCM_SHA256`.",
    (TlsInfo, "server_name"): "The name that the client asked for (SNI); empty if none.",
    (TlsInfo, "alpn"): "The protocol that was agreed on by ALPN: `http/1.1`; empty if none.",
    (TlsInfo, "certificate"): "The peer's, of the package cryptography; None if it showed none.",
    (TlsInfo, "is_resumed"): "Whether a session was taken up again, without a full handshake.",
    (Response, "headers"): "Its `Headers`.",
    (Response, "body"): "Bytes, or the iterator that was given.",
    (Reject, "status"): "The HTTP status.",
    (Reject, "text"): "What the page says.",
    (Reject, "headers"): "Pairs of name and value that are added.",
    (Context, "counters"): "Plain ints, counted since the start.",
    (Context, "keepalive"): "The `Keepalive` it was made with.",
    (Context, "limits"): "The `Limits` it was made with.",
    (Context, "listeners"): "Every open listener.",
    (Context, "max_connections"): "How many connections it takes at one time.",
    (Context, "now"): "`time.monotonic()` at the head of this turn.",
    (Context, "stopping"): "Whether `stop()` was called.",
    (Context, "timeouts"): "The `Timeouts` it was made with.",
}

WSI = {
    "What it is": "protocol context listener session identity request response subprotocol extensions peer proxy local"
    " tag tls is_client is_raw is_descriptor parent children reconnect is_established is_closing fileno",
    "Receiving": "is_first_fragment is_final_fragment remaining_packet_payload frame_is_binary max_message_bytes"
    " rx_flow_control",
    "Sending": "callback_on_writable write send_pipe_choked offer send ping",
    "Time": "set_timer set_timeout",
    "Closing": "close why",
}
# The rest of a wsi is for the loop and the HTTP role.
WSI_INTERNAL = (
    "FAILED abort attach bind binding budget call establish establish_raw finish give_way held is_answering"
    " is_writing keep look make_raw menu note_delivered note_end number on_events on_open_events on_pipe_events"
    " outgoing pause_reading put read_pending reap renew_budget replace_pipe resume role send_shared take_shared"
    " service_write set_deadline stop unsent unwatch upgrade want_writable watch"
)

CONTEXT = {
    "For plugins": "client_connect adopt_socket adopt_descriptor protocols wsi_count counters limits timeouts"
    " keepalive max_connections now stopping call_later cancel_service callback_on_writable_all_protocol"
    " callback_all_protocol rx_flow_allow_all_protocol watch set_interest unwatch",
    "For those who embed it": "listen listeners remove_listener add_protocol retire_protocol renew_limit renew_budgets"
    " service service_fd run stop close",
}

PROTOCOL = {
    "What a class says": "name Session Options max_message_bytes",
    "What it can do": "context wsis broadcast offer",
}

# Small classes, and which of their members; "" is all of them.
OTHERS: dict[type, str] = {
    Request: "method target path query args arg headers host http_version",
    Response: "status headers body",
    Headers: "",
    Reject: "status text headers",
    ConnectError: "cause text status body CAUSES",
    ClientTls: "insecure",
    TlsInfo: "version cipher server_name alpn certificate subject alternative_names is_resumed",
    Backoff: "table_seconds jitter max_tries",
    Reconnect: "cancel failures wsi backoff",
    Reply: "status reason http_version headers",
    Ring: "",
    Tail: "",
}

INTRODUCTION = """\
A plugin is one Python file, or one package, in a plugins folder.  It ends with `protocols = [...]`: what it offers.
`wsd new-plugin NAME` writes one that works, with a test beside it; `wsd plugins` lists what is found; `wsd check` says
what is wrong.  This is a whole one, `plugins/chat.py`:

```python
{chat}
```

## Where plugins are found

- In each of the `folders` of the configuration's table `[plugins]`: every `*.py` file, and every folder with an
  `__init__.py`, in the order of their names.  Left alone is what begins with a dot, with `_` or with `test_`, and
  `conftest.py`.
- In installed packages, by the entry point group `wsd.plugins`.  The entry point is a module with `protocols`, a list,
  or one protocol.  A new version of a package takes a restart.
- Among those that came with wsd.  They are served only where a listener names them, and give way to a protocol of the
  same name in one of `folders`.

Two protocols of one name are an error in the second.  What a file may do:

- **A file imports nothing that lies beside it; a package imports its own parts with `from .helper import x`.**  So two
  plugins may each have a `helper`, and one that is called `json.py` stands in nobody's way.
- Its source is compiled as it is read: no `.pyc` is written beside it, and none is believed.
- A reload reads all files anew.  A protocol whose sources and options are the same keeps its instance, with its rooms
  and counters.  A changed one gets a new instance for new connections; the old one lives until its last connection has
  closed.  A module's top level runs at each reload, so open files and sockets in `on_protocol_init`, not there.
- A plugin that cannot be used is logged with file and line and left out; where a listener names one of its protocols,
  it stops the start, or refuses the reload.
- Started as root, wsd loads no plugin that somebody else could have written: file, folder and every folder above
  must belong to root or the configured `user`, and not be writable by everybody (a sticky folder above, like `/tmp`,
  may be).

## Two styles

**A class** with hooks, as above.  There is one instance of it, shared by all listeners: `self` is where rooms and
counters live.

**A callback**, for those who have a plugin of libwebsockets to bring: one function gets a reason, the session and the
data.  `plugins/dumb_increment.py` is written so.  `data` is what the hook would get after the wsi: nothing is None, one
argument is itself, more are a tuple.  The numbers of the reasons are libwebsockets' own;
[porting-from-lws.md](porting-from-lws.md) has each of its functions and callbacks.

```python
{callback_signature}
```

{callback_doc}

## The order of things

```
on_protocol_init                                  once, before any connection
    on_filter_network_connection                  (protocol 0) a connection was accepted
    on_verify_client_certificate                  (protocol 0) under TLS, if the client shows a certificate
        on_http ... on_closed_http                (protocol 0) requests that are no upgrade
        Session()                                 an upgrade request for this protocol
        on_filter_protocol_connection
        on_confirm_extension                      if the client offers an extension that we would use
        on_add_headers
        on_established                            the 101 is on its way
            on_receive or on_message              \\
            on_writeable                           | in any order,
            on_pong                                | any number of times
            on_timer                              /
        on_peer_close                             if the peer closes first
        on_closed                                 exactly once for each on_established
on_protocol_destroy                               once, at the end
```

Everything runs in one thread, and no hook runs inside another: what your call makes due (a close, resumed delivery) is
done when the hook has returned.  A hook that takes long stops everybody.  The only call that another thread may make is
`context.cancel_service()`.

**Protocol 0** is the one whose HTTP hooks run: the first of a context, in the daemon the built-in `http`; a listener
may name another as its `http_protocol`.

## What a hook answers

| answer | what it does |
|---|---|
| `None`, `OK` (0) | go on |
| `CLOSE` (-1), any other int but 0 | close this connection with 1000; before `on_established`: refuse it with 403 |
| anything else truthy, `True` too | a mistake: logged, closed with 1011; before `on_established`: 500 |
| an exception | logged with your file and line, closed with 1011; before `on_established`: 500 |

In `on_confirm_extension` and `on_client_confirm_extension_supported`, CLOSE leaves out the extension and nothing else.
`on_http` and `on_http_body_completion` may answer a `Response` as well.  `on_filter_protocol_connection` and
`on_add_headers` may raise `Reject`.  On a connection that we open, what would refuse it ends in
`on_client_connection_error`.  `wsi.close(code, close_reason)` closes with another code.  Whatever a plugin does to one
connection, the daemon and all other connections go on.

## Receiving

Write `on_message` for whole messages, or `on_receive` for pieces as they arrive; not both.  A message of more than
`max_message_bytes` is refused with 1009; 0, no limit, is for `on_receive` only.  `wsi.rx_flow_control(False)` stops the
delivery at once, what was read already included.

## Sending

From anywhere, `wsi.send(message)` and `self.broadcast(message)` queue a message; `to=` is who gets it, if not all.  A
peer whose queue grows over `max_queue_bytes` is closed with 1008.

For more control ask with `wsi.callback_on_writable()` and, in `on_writeable`, call `wsi.write(...)` until
`wsi.send_pipe_choked`; then ask again.  Nothing is buffered for you that way but what is on its way already, so what
you produce is as fast as the peer reads.

What can leave at once need not wait for that call: `wsi.offer(...)` writes from inside of any hook, and answers False
where it would have to wait, so that you keep it, or drop it.  The shipped `echo` offers what it gets, and sets aside
for `on_writeable` what was not taken: one hook in place of two for nearly every message.

For many at once, `self.offer(message, to=...)` is a broadcast to those who can take it now, and answers the others: for
whom the message can be dropped, or kept until their `on_writeable`, as the shipped `lws_mirror` does in a `Ring`.

## Connecting out

`context.client_connect(url, protocol=self, ...)` opens a connection to another server and answers its wsi at once.  It
is a wsi like any other, with the same hooks and methods; `wsi.is_client` tells it from those that came in.

```
client_connect() and its Session()
    on_client_confirm_extension_supported         may we offer it?
    on_client_append_handshake_header             the request is about to leave
    on_client_filter_pre_establish                a good answer came
on_established  OR  on_client_connection_error    exactly one of the two
    on_receive ... on_closed                      as above, after on_established
```

This one hands on what it hears from another server, to whoever is connected, and connects again when that server was
restarted:

```python
from wsd import Backoff, Protocol


class Ticker(Protocol):
    name = "ticker"

    def on_protocol_init(self, context, options):
        context.client_connect("ws://127.0.0.1:9000/prices", protocol=self, subprotocols=(), reconnect=Backoff())

    def on_message(self, wsi, message):
        if wsi.is_client:
            self.broadcast(message, to=[other for other in self.wsis if not other.is_client])


protocols = [Ticker]
```

A reload that replaces a protocol closes the connections that the old one has opened; the new one opens its own.

## Raw connections and descriptors

A raw wsi speaks neither HTTP nor WebSocket: bytes come to `on_raw_receive` as they arrived, and leave as they were
written.  It is one of these:

| where from | what it is |
|---|---|
| a listener with `accept = "raw"` | whoever connects there |
| `context.client_connect("tcp://host:port", protocol=self)` | a connection that we open |
| `context.adopt_socket(sock, self, raw=True)` | a connected socket that you have |
| `context.adopt_descriptor(fd, self)` | a pipe, FIFO, tty, eventfd, inotify: whatever can be polled |

```
on_raw_adopt                                      it is there; of one that we open, or on_client_connection_error
    on_raw_receive                                \\
    on_raw_writeable                               | in any order, any number of times
    on_timer                                      /
on_raw_close                                      exactly once for each on_raw_adopt
```

`wsi.write()` in `on_raw_writeable`, `wsi.send()`, `wsi.rx_flow_control()`, timers, limits and `wsi.close()` are those
of a WebSocket, but that there are no messages and no Close frame: the end is the end of the stream.  When the peer has
ended, what the plugin has to say to what came before still leaves.

Two connections of any kind can be tied with `parent=`: when one of them has ended, the other is closed.  A WebSocket
gets the close code of the one that ended, 1000 if that ended in order without a code, else 1001; what was sent on a raw
one leaves first.  This one is a WebSocket in front of a server that speaks none:

```python
from wsd import Protocol


class Gateway(Protocol):
    name = "gateway"

    def on_established(self, wsi):
        wsi.session = self.context.client_connect("tcp://127.0.0.1:25", protocol=self, session=wsi, parent=wsi)
        wsi.rx_flow_control(False)

    def on_raw_adopt(self, wsi):
        wsi.session.rx_flow_control(True)

    def on_message(self, wsi, message):
        wsi.session.send(message)

    def on_raw_receive(self, wsi, data):
        wsi.session.send(data)


protocols = [Gateway]
```

## Compression

Messages come and go as they are, whether they were compressed on the wire (permessage-deflate) or not; limits count
what they are when inflated.  The operator turns it on, off and down, for a listener and for a protocol.  A plugin may
refuse it for one connection in `on_confirm_extension`; do so where secrets and what an attacker can choose share a
message, since the length of what is compressed tells how much alike they are.

## Options

A protocol's `Options` is filled from the table `[protocols.NAME]`; an unknown or wrong key stops the start, with its
place.  It is a [pydantic](https://docs.pydantic.dev) model: give each field a type, a default and, with
`pydantic.Field`, its bounds.  The sub-tables `limits`, `timeouts` and `compression` belong to wsd.

```python
{options}
```

## Logging

`from wsd import log`, then `log.user("%s: won", wsi.tag)`, or `err`, `warn`, `notice`, `info`, `debug`; and
`log.hexdump(data)` for bytes.  What peers sent is escaped for you.  Levels can be changed while it runs:
[embedding.md](embedding.md#logging) has all of it.
"""


def page() -> str:
    """The whole text of docs/plugins.md."""
    parts = [
        "<!-- Made by docs/make_plugins_md.py from the docstrings: edit those, and run it. -->",
        "# Writing plugins",
        introduction(),
        "## Hooks",
        *hook_sections(),
        reasons(),
        "## Protocol",
        *members(Protocol, PROTOCOL),
        "## Wsi",
        prose(inspect.getdoc(Wsi)),
        *members(Wsi, WSI),
        "## Context",
        prose(inspect.getdoc(Context)),
        *members(Context, CONTEXT),
        "## What else `from wsd import` gives",
        *[other(cls, names) for cls, names in OTHERS.items()],
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def introduction() -> str:
    example = (ROOT / "plugins" / "echo.py").read_text()
    options = re.search(r"class EchoOptions.*?\n\n\n", example, re.DOTALL)
    assert options, "plugins/echo.py has no EchoOptions"
    words = {
        "chat": (ROOT / "plugins" / "chat.py").read_text().strip(),
        "callback_signature": f"@callback_protocol{_signature(callback_protocol)}\n"
        "def callback(wsi, reason, user, data): ...",
        "callback_doc": prose(inspect.getdoc(callback_protocol)),
        "options": "from pydantic import Field\n\nfrom wsd import Options\n\n\n" + options[0].strip(),
    }
    return re.sub("|".join(f"{{{word}}}" for word in words), lambda found: words[found[0][1:-1]], INTRODUCTION)


# -- hooks -------------------------------------------------------------------------------------------------------------


def hook_sections() -> list[str]:
    """The hooks in the order and under the headings of protocol.py."""
    parts: list[str] = []
    for heading, names in _headings().items():
        hooks = [name for name in names if name in HOOKS]
        if hooks:
            parts.append(f"### {heading[:1].upper()}{heading[1:]}")
            parts += [_function(name, getattr(Protocol, name)) for name in hooks]
    return parts


def _headings() -> dict[str, list[str]]:
    """The methods of Protocol by the `# -- heading ---` above them."""
    found: dict[str, list[str]] = {}
    heading = ""
    for line in inspect.getsource(Protocol).splitlines():
        if title := re.match(r" +# -- (.+?) -*$", line):
            heading = title[1]
        elif method := re.match(r"    def (\w+)", line):
            found.setdefault(heading, []).append(method[1])
    return found


def reasons() -> str:
    """The table for the callback style."""
    lines = ["### Reasons of the callback style", "", "| reason | number | hook | data |", "|---|--:|---|---|"]
    for hook, server in REASONS.items():
        names = [f"`{name}`" for name in inspect.signature(getattr(Protocol, hook)).parameters]
        data = ", ".join(name for name in names if name not in ("`self`", "`wsi`")) or "None"
        client, file = CLIENT_REASONS.get(server), FILE_REASONS.get(server)
        for reason, where in ((server, ""), (client, " of a connection that we opened"), (file, " of a descriptor")):
            if reason is not None:
                lines.append(f"| `Reason.{reason.name}` | {reason.value} | `{hook}`{where} | {data} |")
    lines += [
        "",
        f"From `Reason.USER` ({Reason.USER.value}) on the numbers are yours: `context.callback_all_protocol()` has each"
        " wsi of a protocol called with one of them, `on_user` in class style.",
    ]
    return "\n".join(lines)


# -- classes -----------------------------------------------------------------------------------------------------------


def members(cls: type, groups: dict[str, str]) -> list[str]:
    """The members of a class, under the headings that its groups are."""
    parts: list[str] = []
    for heading, names in groups.items():
        parts.append(f"### {cls.__name__}: {heading[:1].lower()}{heading[1:]}")
        parts += [_member(cls, name) for name in names.split()]
    return parts


def other(cls: type, names: str) -> str:
    """A small class: its own words, and those of its members."""
    signature = "" if cls in (Request, TlsInfo) else _signature(cls)  # a plugin makes none of these
    lines = [f"### `{cls.__name__}{signature}`", "", prose(inspect.getdoc(cls)), ""]
    public = names.split() or [name for name in vars(cls) if not name.startswith("_") and _text(cls, name)]
    for name in public:
        member = _static(cls, name)
        call = _signature(member) if inspect.isfunction(member) else ""
        lines.append(f"- `{name}{call}`: {_one_line(_text(cls, name))}")
    return "\n".join(lines)


def _member(cls: type, name: str) -> str:
    member = _static(cls, name)
    if inspect.isfunction(member):
        return _function(name, member)
    return f"#### `{name}`\n\n{prose(_text(cls, name))}"


def _static(cls: type, name: str) -> Any:
    """The member itself; of a method that runs in C the one in Python, which has the words."""
    member = inspect.getattr_static(cls, name, None)
    if inspect.ismethoddescriptor(member):
        written = [TWINS.get(name), *(vars(base).get(name) for base in cls.__mro__)]
        return next((method for method in written if inspect.isfunction(method) and method.__doc__), member)
    return member


def _function(name: str, function: Any) -> str:
    return f"#### `{name}{_signature(function)}`\n\n{prose(inspect.getdoc(function))}"


def _signature(function: Any) -> str:
    """`(wsi, data: bytes, final=True)`: without self, and with types only where they are short and plain."""
    parameters = [item for item in inspect.signature(function).parameters.values() if item.name != "self"]
    plain = [item.replace(annotation=inspect.Parameter.empty) for item in parameters]
    return str(inspect.Signature(plain)).replace(" = ", "=")


def _text(cls: type, name: str) -> str:
    """What is said about a member: its docstring, the string below it, or the list of attributes above."""
    if (cls, name) in ATTRIBUTES:
        return ATTRIBUTES[cls, name]
    member = _static(cls, name)
    if isinstance(member, property) or inspect.isfunction(member):
        return inspect.getdoc(member) or ""
    for base in cls.__mro__:
        if name in (texts := _strings_below(base)):
            return texts[name]
    return ""


def _strings_below(cls: type) -> dict[str, str]:
    """The strings that stand below assignments in a class and in its __init__, as docstrings of attributes do."""
    if not cls.__module__.startswith("wsd"):
        return {}
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    found = {}
    for node in ast.walk(tree):
        body = node.body if isinstance(node, ast.ClassDef | ast.FunctionDef) else []
        for above, below in itertools.pairwise(body):
            targets = above.targets if isinstance(above, ast.Assign) else [getattr(above, "target", None)]
            name = getattr(targets[0], "id", None) or getattr(targets[0], "attr", None)
            if name and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                found[name] = inspect.cleandoc(str(below.value.value))
    return found


# -- docstrings --------------------------------------------------------------------------------------------------------


def prose(docstring: str | None) -> str:
    """A docstring as Markdown: its sections `Args:` and `Raises:` become lists."""
    lines: list[str] = []
    for paragraph in (docstring or "").split("\n\n"):
        section = re.match(r"(Args|Raises|Attributes):(.*)", paragraph)
        if section is None:
            lines += [paragraph, ""]
            continue
        title = {"Args": "Arguments", "Attributes": "Attributes", "Raises": "Raises"}[section[1]]
        body = section[2].strip() or textwrap.dedent(paragraph.partition("\n")[2])
        lines += [f"{title}:", ""]
        for entry in re.split(r"\n(?=\S)", body):
            names, _, text = _one_line(entry).partition(": ")
            lines.append(f"- {', '.join(f'`{name}`' for name in names.split(', '))}: {text}")
        lines.append("")
    return "\n".join(lines).strip()


def _one_line(text: str) -> str:
    return " ".join(text.split())


def undecided() -> dict[str, set[str]]:
    """Public names that are neither on the page nor said to be internal, and those on it that are gone."""
    missing: dict[str, set[str]] = {}
    for cls, groups, internal in ((Wsi, WSI, WSI_INTERNAL.split()), (Protocol, PROTOCOL, list(HOOKS))):
        there = {name for name in dir(cls) if not name.startswith("_")} | set(getattr(cls, "__annotations__", ()))
        there = {name for name in there if not name.startswith("_")}
        listed = {name for names in groups.values() for name in names.split()}
        missing[cls.__name__] = there ^ (listed | set(internal))
    listed = {name for names in CONTEXT.values() for name in names.split()}
    missing["Context"] = {name for name in listed if not _text(Context, name)}
    return {name: names for name, names in missing.items() if names}


if __name__ == "__main__":
    if wrong := undecided():
        sys.exit(f"docs/make_plugins_md.py: not decided whether these are for plugins: {wrong}")
    TARGET.write_text(page())
    print(TARGET)
