"""The commands.  Owns what is typed and printed, and the exit status; what a command does is elsewhere.

Exit status: 0, 1 (run-time), 2 (usage), 3 (not running: `status`), 78 (configuration).  An operator's mistake never
ends in a traceback.  Everything but click is imported inside the commands: `wsd --version` loads no plugin machinery.
"""

from __future__ import annotations

import contextlib
import gc
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wsd.counters import is_limit
from wsd.errors import EXIT_CONFIG, EXIT_NOT_RUNNING, EXIT_RUNTIME, ConfigError, PluginError, StartError

if TYPE_CHECKING:
    from wsd.config import Config
    from wsd.control import Answer

# A reload loads and initialises plugins, which may take long; the others answer in a turn of the loop.
_RELOAD_SECONDS = 60.0
_ANSWER_SECONDS = 5.0

config_option = click.option(
    "-c",
    "--config",
    "config_file",
    metavar="FILE",
    help="The configuration; without it ./etc/wsd.toml, /etc/wsd/wsd.toml, or the one that came with wsd.",
)


def main() -> None:
    """The entry point of the command `wsd`."""
    from wsd.daemon import mend_standard_streams

    mend_standard_streams()
    try:
        cli(prog_name="wsd")
    except (ConfigError, PluginError, StartError) as error:
        for line in str(error).splitlines():
            print(f"wsd: {line}", file=sys.stderr)
        sys.exit(error.exit_status)
    except BrokenPipeError:  # `wsd plugins | head`
        sys.exit(EXIT_RUNTIME)


def _print_version(context: click.Context, option: click.Parameter, value: bool) -> None:
    if not value or context.resilient_parsing:
        return
    import platform

    from wsd import __version__
    from wsd.wire.fast import IMPLEMENTATION

    click.echo(f"wsd {__version__} ({IMPLEMENTATION}), {platform.python_implementation()} {platform.python_version()}")
    context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print it and exit."
)
def cli() -> None:
    """A WebSocket daemon: one TOML file, plugins dropped into a folder."""


def _load(config_file: str | None) -> Config:
    from wsd import config

    return config.load(config.find(config_file))


@contextlib.contextmanager
def _no_garbage() -> Iterator[None]:
    """Start without the passes of Python's cyclic collector, a twentieth of it: what a start makes is there to stay.

    From its first turn on the daemon has it (`Server.loop`).
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


# -- serving ----------------------------------------------------------------------------------------------------------


def _parse_levels(context: click.Context, option: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    from wsd import log

    try:
        return log.parse_levels([name.strip() for name in value.split(",")])
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@cli.command()
@config_option
@click.option(
    "--log", "levels", metavar="LEVELS", callback=_parse_levels, help="Log these, as in err,warn,notice,info."
)
def run(config_file: str | None, levels: int | None) -> None:
    """Serve in the foreground: what systemd starts, and what you want while you try things."""
    with _no_garbage():
        config = _load(config_file)
        from wsd import server

        sys.exit(server.run(config, levels))


@cli.command()
@config_option
def start(config_file: str | None) -> None:
    """Serve in the background; returns when the daemon listens, or has failed and said why."""
    with _no_garbage():
        config = _load(config_file)
        from wsd import server

        sys.exit(server.start(config))


# -- speaking to a running daemon -------------------------------------------------------------------------------------


def _pidfile(config_file: str | None) -> Path:
    """Where the daemon of this configuration keeps its pidfile, however wrong the rest of the file is by now."""
    from wsd import config
    from wsd.daemon import pidfile_path

    path = config.find(config_file)
    try:
        return pidfile_path(config.load(path).daemon.pidfile)
    except ConfigError:
        # Stopping must not wait for the file to be repaired.
        try:
            found = re.search(r"""^\s*pidfile\s*=\s*["'](.*?)["']""", path.read_text(errors="replace"), re.MULTILINE)
        except OSError:
            found = None
        return pidfile_path(str(path.parent / found[1]) if found and found[1] else "")


def _ask(pidfile: Path, command: str, seconds: float) -> Answer | None:
    """The daemon's answer; None if no daemon runs.

    Raises:
        StartError: one runs, and does not answer.
    """
    from wsd import control, daemon

    pid = daemon.holder(pidfile)
    if pid is None:
        return None
    try:
        return control.ask(control.control_path(pidfile), {"command": command}, seconds)
    except control.NoAnswer as error:
        if daemon.holder(pidfile) is None:
            return None
        raise StartError(f"wsd runs, {daemon.name_pid(pid)}, but does not answer: {error}") from None


def _not_running(pidfile: Path, status: int) -> None:
    click.echo(f"wsd is not running (nobody holds {pidfile}.lock)")
    sys.exit(status)


@cli.command()
@config_option
def stop(config_file: str | None) -> None:
    """Stop the daemon: every peer is told, and the daemon waited for."""
    from wsd import daemon

    pidfile = _pidfile(config_file)
    pid = daemon.holder(pidfile)
    if pid is None:
        _not_running(pidfile, 0)
        return
    try:
        answer = _ask(pidfile, "stop", _ANSWER_SECONDS)
        seconds = float(answer["seconds"]) if answer and answer.get("ok") else _ANSWER_SECONDS
    except StartError as error:
        seconds = _terminate(pid, str(error))
    if not daemon.wait_released(pidfile, seconds + _ANSWER_SECONDS):
        text = f"wsd, {daemon.name_pid(pid)}, was told to stop and still runs after {seconds + _ANSWER_SECONDS:g} s"
        raise StartError(f"{text}; a second `wsd stop` ends it at once")
    click.echo(f"wsd stopped ({daemon.name_pid(pid)})")


def _terminate(pid: int, why: str) -> float:
    """Fall back to SIGTERM where the control socket is of no use; returns how long to wait."""
    import os
    import signal

    if pid <= 0:
        raise StartError(why)
    click.echo(f"wsd: {why}; sending SIGTERM", err=True)
    try:
        os.kill(pid, signal.SIGTERM)  # the lock named it a moment ago: no other process can have this pid
    except PermissionError:
        raise StartError(f"pid {pid} is not ours to stop") from None
    except ProcessLookupError:
        pass
    return _ANSWER_SECONDS


@cli.command()
@config_option
def reload(config_file: str | None) -> None:
    """Have the daemon read configuration and plugins again; prints what was wrong, and nothing changed then."""
    pidfile = _pidfile(config_file)
    answer = _ask(pidfile, "reload", _RELOAD_SECONDS)
    if answer is None:
        _not_running(pidfile, EXIT_RUNTIME)
        return
    if not answer.get("ok"):
        for line in str(answer.get("text")).splitlines():
            click.echo(f"wsd: {line}", err=True)
        click.echo("wsd: not reloaded; the daemon goes on as before", err=True)
        sys.exit(int(answer.get("exit", EXIT_RUNTIME)))
    click.echo(f"wsd reloaded: {answer.get('text')}")


@cli.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print everything, as JSON.")
def status(config_file: str | None, as_json: bool) -> None:
    """Say how the daemon is; exit status 3 if it does not run."""
    pidfile = _pidfile(config_file)
    answer = _ask(pidfile, "status", _ANSWER_SECONDS)
    if answer is None:
        if as_json:
            click.echo(json.dumps({"pid": None}))
            sys.exit(EXIT_NOT_RUNNING)
        _not_running(pidfile, EXIT_NOT_RUNNING)
        return
    answer.pop("ok", None)
    click.echo(json.dumps(answer, indent=2) if as_json else _status_text(answer))


def _status_text(answer: Answer) -> str:
    minutes, seconds = divmod(int(answer["uptime_seconds"]), 60)
    hours, minutes = divmod(minutes, 60)
    lines = [
        f"wsd {answer['version']} {'stops' if answer['stopping'] else 'runs'}, pid {answer['pid']}, "
        f"up {hours}:{minutes:02d}:{seconds:02d}, {answer['config']}",
        _connections_text(answer),
    ]
    for listener in answer["listeners"]:
        names = ", ".join(listener["protocols"])
        lines.append(f"  {listener['address']}  {listener['connections']} connections  {names}")
    for protocol in answer["protocols"]:
        leaving = ", leaving" if protocol["leaving"] else ""
        count = f"generation {protocol['generation']}{leaving}, {protocol['connections']} connections"
        lines.append(f"  {protocol['name']}  {count}  {protocol['file']}")
    if answer.get("tls_library"):
        lines.append(f"  {answer['tls_library']}")
    for certificate in answer.get("certificates", ()):  # an older daemon says nothing of them
        names, day = ", ".join(certificate["names"]), certificate["not_after"].partition("T")[0]
        lines.append(f"  certificate for {names}  until {day}, {certificate['days_left']} days  {certificate['file']}")
        if certificate["warning"]:
            lines.append(f"    warning: {certificate['warning']}")
    met = [f"{name} {count}" for name, count in answer.get("counters", {}).items() if count and is_limit(name)]
    return "\n".join([*lines, *([f"  limits met: {', '.join(met)}"] if met else [])])


def _connections_text(answer: Answer) -> str:
    descriptors = answer["descriptors"]
    counted = "of {limit} descriptors {held} are held open and {reserved} reserved".format(**descriptors)
    return f"{answer['connections']} of {answer['max_connections']} connections; {counted}"


# -- being a client ---------------------------------------------------------------------------------------------------


def _parse_headers(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> list[tuple[str, str]]:
    pairs = [value.partition(":") for value in values]
    if any(not colon for _, colon, _ in pairs):
        raise click.BadParameter("wanted is a name, a colon and a value")
    return [(name, value.strip()) for name, _, value in pairs]


@cli.command()
@click.argument("url")
@click.option(
    "--protocol", "subprotocols", multiple=True, metavar="NAME", help="Ask for it; several times: best first."
)
@click.option(
    "--header",
    "headers",
    multiple=True,
    metavar="'NAME: VALUE'",
    callback=_parse_headers,
    help="Add it to the request.",
)
@click.option("--origin", metavar="ORIGIN", help="The web page's origin, as a browser sends it.")
@click.option("--proxy", default="", metavar="URL", help="Connect through http://[user:password@]host:port.")
@click.option("--timeout", default=5.0, metavar="SECONDS", show_default=True, help="For all that connecting takes.")
@click.option(
    "--ping",
    default=20.0,
    type=click.FloatRange(0, 86_400),  # as keepalive.ping_seconds
    metavar="SECONDS",
    show_default=True,
    help="Ping a server that was silent for so long, and hang up if it does not answer; 0: never.",
)
@click.option("--binary", is_flag=True, help="Send lines as binary messages; they need not be UTF-8.")
@click.option("--no-compression", is_flag=True, help="Do not offer permessage-deflate.")
@click.option("--ca", default="", metavar="FILE", help="wss: believe the certificates in it, and no others.")
@click.option("--cert", default="", metavar="FILE", help="wss: show this certificate to a server that asks for one.")
@click.option("--key", default="", metavar="FILE", help="wss: its private key, if it is not in the same file.")
@click.option("--insecure", is_flag=True, help="wss: believe any server, which anybody on the way can be.")
def connect(
    url: str,
    subprotocols: tuple[str, ...],
    headers: list[tuple[str, str]],
    origin: str | None,
    proxy: str,
    timeout: float,
    ping: float,
    binary: bool,
    no_compression: bool,
    ca: str,
    cert: str,
    key: str,
    insecure: bool,
) -> None:
    """Speak to the server at URL (ws:// or wss://host:port/path): each line of standard input is sent as a message,
    each message that comes is printed as a line.

    At the end of the input the answers to it are awaited, then the connection is closed.  Exit status: 0 if it was
    closed with 1000 or 1001, else 1.  A line may have any length, but a terminal hands over no more than 4095 bytes.
    """
    from wsd import connect

    wanted = connect.Wanted(
        url,
        subprotocols=subprotocols,
        headers=headers,
        origin=origin,
        proxy=proxy,
        timeout_seconds=timeout,
        ping_seconds=ping,
        compressed=not no_compression,
        binary=binary,
        ca=ca,
        certificate=cert,
        private_key=key,
        insecure=insecure,
    )
    try:
        status = connect.run(wanted, lambda text: click.echo(f"wsd: {text}", err=True))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    sys.exit(status)


# -- who may come in --------------------------------------------------------------------------------------------------


@cli.command()
@click.argument("name")
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
def password(name: str, file: Path | None) -> None:
    """Hash a password for NAME and put it into FILE, a `password_file`, in place of the one that NAME had.

    It is asked for on a terminal, else the first line of standard input is taken.  Without FILE the line for it is
    printed.  A running daemon sees the change within a second.
    """
    from wsd import credentials

    try:
        entry = credentials.hash_password(name, _ask_password())
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if file is None:
        click.echo(entry.line)
        return
    had_one = credentials.write_password(file, entry)
    click.echo(f"{file}: {entry.name} has {'another' if had_one else 'a'} password now")


def _ask_password() -> str:
    """The password: from the terminal, twice and without an echo, or as the first line of what comes."""
    if sys.stdin.isatty():
        answer: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        return answer
    return sys.stdin.readline().rstrip("\r\n")


@cli.command()
@click.argument("name")
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
def token(name: str, file: Path | None) -> None:
    """Make a bearer token for NAME, print it, this once, and put its hash into FILE, a `token_file`.

    NAME keeps the tokens that it has: take their lines out of FILE to have them refused.  Without FILE the line for it
    is printed on standard error.
    """
    from wsd import credentials

    try:
        made, entry = credentials.make_token(name)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if file is None:
        click.echo(entry.line, err=True)
    else:
        credentials.write_token(file, entry)
    click.echo(made)


# -- looking, without serving -----------------------------------------------------------------------------------------


@cli.command()
@config_option
@click.option("--strict", is_flag=True, help="Fail on warnings too.")
def check(config_file: str | None, strict: bool) -> None:
    """Say what would stop a start (status 78), and what else is not as it should be; binds nothing."""
    config = _load(config_file)
    from wsd import check as checks

    warnings = checks.check(config)
    for warning in warnings:
        click.echo(f"wsd: warning: {warning}", err=True)
    if warnings and strict:
        sys.exit(EXIT_CONFIG)
    click.echo(f"{config.path}: ok" + (f", {len(warnings)} warnings" if warnings else ""))


@cli.group("config")
def config_group() -> None:
    """Print the configuration file with every default, or its schema."""


@config_group.command("default")
def config_default() -> None:
    """Print the configuration file with every option at its default."""
    from wsd.config import default_text

    click.echo(default_text(), nl=False)


@config_group.command("schema")
def config_schema() -> None:
    """Print the JSON Schema of the configuration file, for editors."""
    from wsd.config import schema

    click.echo(json.dumps(schema(), indent=2))


@cli.command()
@config_option
def plugins(config_file: str | None) -> None:
    """List the protocols that are found, with their files, and what could not be loaded."""
    config = _load(config_file)
    from wsd import assembly

    found = assembly.find_plugins(config)
    for plugin in found:
        for protocol in plugin.protocols:
            note = "  (shipped: served where a listener names it)" if plugin.shipped else ""
            click.echo(f"{protocol.name}  {plugin.file}{note}")
    errors = [str(plugin.error) for plugin in found if plugin.error]
    for text in errors:
        click.echo(f"wsd: {text}", err=True)
    if errors:
        sys.exit(EXIT_CONFIG)


@cli.command("new-plugin")
@click.argument("name")
@config_option
def new_plugin(name: str, config_file: str | None) -> None:
    """Write a plugin that loads as written, and a test beside it, into the first plugins folder."""
    from wsd import scaffold

    folders = _load(config_file).plugins.folders
    if not folders:
        raise StartError("plugins.folders is empty: there is no folder to write a plugin into", EXIT_CONFIG)
    try:
        for path in scaffold.new_plugin(name, folders[0]):
            click.echo(path)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    except OSError as error:
        raise StartError(f"{error.filename}: {error.strerror}") from None
