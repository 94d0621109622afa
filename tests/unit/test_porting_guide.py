"""docs/porting-from-lws.md is in step: with wsd's names, libwebsockets' callbacks, and the plugin that it quotes.

Every piece of code on the page is a name of libwebsockets', or a name of wsd's, which is looked up, or one of `WORDS`.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import wsd
from wsd.cli import cli
from wsd.config import Config
from wsd.listener import Listener
from wsd.options import Listen, ProtocolTable
from wsd.protocol import HOOKS, Peer, Protocol
from wsd.reasons import REASONS, Reason
from wsd.table import Table
from wsd.wire.headers import Headers
from wsd.wire.http import Request
from wsd.wire.reply import Reply

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "porting-from-lws.md").read_text()
PLUGIN = (ROOT / "plugins" / "dumb_increment.py").read_text()

# What a name stands for on the page.
NAMES: dict[str, Any] = {
    **{name: getattr(wsd, name) for name in wsd.__all__},
    "callback_protocol": wsd.callback_protocol,
    "context": wsd.Context,
    "headers": Headers,
    "listener": Listener,
    "protocol": Protocol,
    "request": Request,
    "wsd": wsd,
    "wsi": wsd.Wsi,
}
# What an attribute is, where the code does not tell at run time.
TYPES: dict[tuple[Any, str], Any] = {
    (wsd.Wsi, "peer"): Peer,
    (wsd.Wsi, "request"): Request,
    (wsd.Wsi, "response"): Reply,
    (Request, "headers"): Headers,
}
STANDARD_LIBRARY = {"base64", "hashlib", "os", "socket"}

# libwebsockets' own, by the shape of the name; `info` and `i` are its structs for contexts and clients; system calls.
FOREIGN = re.compile(
    r"(lws|lwsl|LWS|LLL|libwebsockets?|CONTEXT|WSI_TOKEN)_[A-Za-z0-9_]*|info\.[a-z_]+|i\.[a-z_]+|struct lws_[a-z_]+"
    r"|LWS_CALLBACK_X|lws_callback_on_writable\(wsi\)|return -1|gethostbyname|openlog|http_proxy|api_magic"
)
# Members of struct lws_protocols, arguments of a callback, and words that are no names.
WORDS = {
    *(
        "name",
        "callback",
        "per_session_data_size",
        "rx_buffer_size",
        "tx_packet_size",
        "no_buffer_all_partial_tx",
        "id",
    ),
    *("user", "owning_server", "protocol_index", "data", "revents", "iface", "RAW", "Server"),
    *(
        "self",
        "self.anything",
        "on_x",
        "Reason.X",
        "http",
        "eth0",
        "ready()",
        "stop",
        "close",
        "tcp://",
        "wss://",
        "str",
    ),
    *(
        "bytes",
        'accept = "raw"',
        "max_message_bytes = 0",
        "emitter(level, line)",
        "raw=True",
        "FILTER_NETWORK_CONNECTION",
    ),
    *("callback(wsi, reason, user, data)", "etc/wsd.toml", "[[listen]]"),
}


def without_blocks(page: str) -> str:
    return re.sub(r"^```.*?^```$", "", page, flags=re.DOTALL | re.MULTILINE)


def section(title: str) -> str:
    """The text from a heading to the next of its kind."""
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(text: str) -> Iterator[list[str]]:
    """The cells of each row of the tables, without their heads."""
    for line in text.splitlines():
        if line.startswith("| ") and not re.match(r"\| (LWS|C|option|`struct lws_protocols`|LWS_CALLBACK_) \|", line):
            yield [cell.strip() for cell in line.strip("|").split(" |")]


def code(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


# The pairs of lines are no names: they have a test of their own.
NAMED = sorted(set(code(without_blocks(PAGE.replace(section("dumb_increment, line against line"), "")))))


# -- looking up a wsd name --------------------------------------------------------------------------------------------


def look_up(name: str) -> None:
    """Raise LookupError unless wsd has what `name` says: an option, a command, a hook, or an expression."""
    if name.startswith("["):
        look_up_option(name)
    elif re.match(r"wsd [a-z]", name):
        if name.split()[1] not in cli.commands:
            raise LookupError(name)
    elif name.startswith("on_"):
        if name not in HOOKS:
            raise LookupError(name)
    else:
        look_up_expression(name)


def look_up_option(name: str) -> None:
    """`[table] key`, `[[listen]] key`, or `[protocols.NAME] ...`, which is a plugin's own."""
    found = re.fullmatch(r"\[\[?([a-zA-Z.]+)\]\]? (\w+|\.\.\.)", name)
    if found is None:
        raise LookupError(name)
    if found[0] == "[protocols.NAME] ...":
        return
    table: Any = Config
    for part in found[1].split("."):
        table = {"listen": Listen, "NAME": ProtocolTable}.get(part) or table.model_fields[part].annotation
    if not issubclass(table, Table) or found[2] not in table.model_fields:
        raise LookupError(name)


def look_up_expression(text: str) -> None:
    try:
        expression = ast.parse(text, mode="eval").body
    except SyntaxError:
        raise LookupError(text) from None
    if isinstance(expression, ast.Call):
        value = resolve(expression.func)
        for keyword in expression.keywords:
            check_keyword(value, str(keyword.arg))
    else:
        resolve(expression)


def resolve(expression: ast.expr) -> Any:
    """What a dotted name is; of an instance, its class."""
    if isinstance(expression, ast.Call):
        return resolve(expression.func)
    if isinstance(expression, ast.Name):
        if expression.id in STANDARD_LIBRARY:
            return importlib.import_module(expression.id)
        if expression.id not in NAMES:
            raise LookupError(expression.id)
        return NAMES[expression.id]
    if not isinstance(expression, ast.Attribute):
        raise LookupError(ast.unparse(expression))
    owner = resolve(expression.value)
    if (owner, expression.attr) in TYPES:
        return TYPES[owner, expression.attr]
    if not has(owner, expression.attr):
        raise LookupError(ast.unparse(expression))
    return getattr(owner, expression.attr, None)


def has(owner: Any, name: str) -> bool:
    """Reports whether a module, or an instance of a class, has an attribute."""
    if hasattr(owner, name):
        return True
    return isinstance(owner, type) and any(name in vars(cls).get("__annotations__", {}) for cls in owner.__mro__)


def check_keyword(function: Any, name: str) -> None:
    parameters = inspect.signature(function).parameters
    takes_fields = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    if name not in parameters and not (takes_fields and name in Listen.model_fields):
        raise LookupError(f"{function.__qualname__} takes no {name}")


# -- the tests --------------------------------------------------------------------------------------------------------


def is_there(name: str) -> bool:
    try:
        look_up(name)
    except LookupError:
        return False
    return True


def test_every_name_is_libwebsockets_or_there() -> None:
    ours = [name for name in NAMED if name not in WORDS and not FOREIGN.fullmatch(name)]
    assert len(ours) > 150
    assert [name for name in ours if not is_there(name)] == []


def test_the_second_column_has_nothing_but_names_of_wsd() -> None:
    found = list(rows(section("Creating the context") + section("Functions")))
    assert len(found) > 100
    for cells in found:
        assert len(cells) == 3, cells
        assert re.sub(r"`[^`]+`|[, ]", "", cells[1]) == "", cells
        assert [name for name in code(cells[1]) if not is_there(name)] == [], cells
        assert cells[1] or cells[2], "neither a name nor why there is none"


@pytest.mark.parametrize(
    "name",
    [
        *("wsi.callback_on_writeable()", "wsi.nothing", "wsi.request.nothing", "context.listen(nothing=1)", "Nothing"),
        *("context.client_connect(url, nothing=1)", "[limits] nothing", "[nothing] port", "[[listen]] nothing"),
        *("on_nothing", "Reason.NOTHING", "log.nothing", "wsd nothing", "os.nothing", "a b", "1 + 1"),
    ],
)
def test_what_is_not_there_is_found_out(name: str) -> None:
    assert not is_there(name)


def test_no_word_is_left_over() -> None:
    assert set(NAMED) >= WORDS


def callbacks() -> list[list[str]]:
    return list(rows(section("Callbacks")))


def test_every_reason_has_its_row_and_its_hook() -> None:
    told = {}
    for cells in callbacks():
        names = code(cells[1])
        if names and names[0].startswith("Reason."):
            assert names[0] == f"Reason.{cells[0]}"
            told[Reason[cells[0]]] = names[1]
    assert list(told) == list(dict.fromkeys(told)), "twice"
    assert set(told) == set(Reason)
    for hook, reason in REASONS.items():
        assert told[reason] == hook
    assert set(told.values()) | {"on_message"} == set(HOOKS)


def test_each_row_of_a_callback_says_what_it_gets_or_why_it_is_not_there() -> None:
    for cells in callbacks():
        assert len(cells) == 4, cells
        assert bool(cells[2]) == cells[1].startswith("`Reason."), cells
        assert cells[1] or cells[3], cells


# Of `enum lws_callback_reasons` in 1.2 to 1.3, those that the coding notes and the test server have to do with.
CALLBACKS = """
ESTABLISHED CLIENT_CONNECTION_ERROR CLIENT_FILTER_PRE_ESTABLISH CLIENT_ESTABLISHED CLOSED CLOSED_HTTP RECEIVE
CLIENT_RECEIVE CLIENT_RECEIVE_PONG CLIENT_WRITEABLE SERVER_WRITEABLE HTTP HTTP_BODY HTTP_BODY_COMPLETION
HTTP_FILE_COMPLETION HTTP_WRITEABLE FILTER_NETWORK_CONNECTION FILTER_HTTP_CONNECTION FILTER_PROTOCOL_CONNECTION
SERVER_NEW_CLIENT_INSTANTIATED OPENSSL_LOAD_EXTRA_CLIENT_VERIFY_CERTS OPENSSL_LOAD_EXTRA_SERVER_VERIFY_CERTS
OPENSSL_PERFORM_CLIENT_CERT_VERIFICATION CLIENT_APPEND_HANDSHAKE_HEADER CONFIRM_EXTENSION_OKAY
CLIENT_CONFIRM_EXTENSION_SUPPORTED PROTOCOL_INIT PROTOCOL_DESTROY WSI_CREATE WSI_DESTROY GET_THREAD_ID ADD_POLL_FD
DEL_POLL_FD SET_MODE_POLL_FD CLEAR_MODE_POLL_FD CHANGE_MODE_POLL_FD LOCK_POLL UNLOCK_POLL USER
"""


def test_no_callback_of_libwebsockets_is_forgotten() -> None:
    told = [name for cells in callbacks() for name in cells[0].split(", ")]
    assert len(told) == len(set(told))
    assert set(CALLBACKS.split()) <= set(told)


# Functions, creation fields, options and protocol members of the same, and of today's test server.
OTHERS = """
lws_daemonize lws_set_log_level lwsl_emit_syslog lwsl_err lwsl_warn lwsl_notice lwsl_info lwsl_debug lwsl_hexdump
lws_create_context lws_context_destroy lws_service lws_service_fd lws_cancel_service lws_context_user
lws_get_library_version lws_callback_on_writable lws_callback_on_writable_all_protocol lws_callback_all_protocol
lws_write
lws_send_pipe_choked lws_is_final_fragment lws_remaining_packet_payload lws_frame_is_binary lws_get_reserved_bits
lws_rx_flow_control lws_rx_flow_allow_all_protocol lws_serve_http_file lws_return_http_status lws_hdr_total_length
lws_hdr_copy lws_get_peer_addresses lws_get_protocol lws_get_socket_fd lws_set_timeout lws_set_proxy lws_client_connect
lws_client_connect_extended lws_client_connect_via_info lws_canonical_hostname lws_get_random lws_SHA1
lws_b64_encode_string lws_b64_decode_string lws_latency lws_set_timer_usecs lws_close_reason lws_pvo_search
lws_protocol_vh_priv_zalloc lws_protocol_vh_priv_get lws_create_vhost lws_vhost_destroy lws_adopt_socket lws_ring_create
info.port info.iface info.protocols info.extensions info.ssl_cert_filepath info.ssl_private_key_filepath
info.ssl_ca_filepath info.ssl_cipher_list info.gid info.uid info.options info.user info.ka_time info.ka_probes
info.ka_interval info.token_limits info.http_proxy_address info.http_proxy_port
LWS_SERVER_OPTION_REQUIRE_VALID_OPENSSL_CLIENT_CERT LWS_SERVER_OPTION_SKIP_SERVER_CANONICAL_NAME
LWS_SERVER_OPTION_ALLOW_NON_SSL_ON_SSL_PORT LWS_SERVER_OPTION_LIBEV LWS_SERVER_OPTION_DISABLE_IPV6
LWS_SERVER_OPTION_DISABLE_OS_CA_CERTS name callback per_session_data_size rx_buffer_size no_buffer_all_partial_tx
owning_server protocol_index
"""


def test_no_other_name_of_libwebsockets_is_forgotten() -> None:
    told = [name for cells in rows(section("Creating the context") + section("Functions")) for name in code(cells[0])]
    assert len(told) == len(set(told)), sorted(name for name in told if told.count(name) > 1)
    assert set(OTHERS.split()) <= set(told)


def test_the_quoted_plugin_is_the_shipped_one() -> None:
    (quoted,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert quoted == PLUGIN


def test_the_pairs_of_lines_are_lines_of_both() -> None:
    (program,) = re.findall(r"^```c\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    in_c, in_python = ([line.strip() for line in text.splitlines()] for text in (program, PLUGIN))
    pairs = list(rows(section("dumb_increment, line against line")))
    assert len(pairs) > 15
    for c, python, _ in pairs:
        assert code(c)[0] in in_c, c
        assert code(python)[0] in in_python, python
    cases = [line for line in in_python if line.startswith("case ")]
    assert [code(python)[0] for _, python, _ in pairs if "`case " in python] == cases


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
