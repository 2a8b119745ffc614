"""The verbs of `opmas` and the one place where a command's end becomes an exit code.

Verbs are named here and imported when called: modules of the command line import only stdlib and cyclopts at the top.
"""

import difflib
import json
import os
import sys

from cyclopts import App, CycloptsError

from opmas import __version__
from opmas.cli.failure import Exit, Failure

_RUN, _AGENTS, _ASK, _AUTHOR = "Run OPMAS", "Agents", "Ask agents", "Write packages"

_VERBS = (
    (_RUN, "up", "up:up", "Start NATS, a manager and the API here, and keep them running."),
    (_RUN, "down", "up:down", "Stop what `opmas up` started here."),
    (_RUN, "status", "installation:status", "Show what runs in this OPMAS_HOME."),
    (_RUN, "doctor", "doctor:doctor", "Look for what is wrong, and say what to do."),
    (_RUN, "env", "installation:env", 'Print shell exports for curl and the nats tool: eval "$(opmas env)".'),
    (_RUN, "completion", "completion:completion", "Print the completion script of bash, zsh or fish."),
    (_RUN, "nodes", "catalogue:nodes", "List the nodes of the fleet."),
    (_AGENTS, "ls", "agents:ls", "List agents."),
    (_AGENTS, "top", "top:top", "Watch agents, and start, stop and restart them, on a full screen."),
    (_AGENTS, "describe", "agents:describe", "Show an agent, its instances, and why it is what it is."),
    (_AGENTS, "why", "agents:why", "Show why an agent is what it is, and what to do."),
    (_AGENTS, "start", "control:start", "Start agents."),
    (_AGENTS, "stop", "control:stop", "Stop agents."),
    (_AGENTS, "restart", "control:restart", "Restart agents."),
    (_AGENTS, "scale", "control:scale", "Set how many instances agents have: opmas scale echo 3."),
    (_AGENTS, "enable", "control:enable", "Let agents be started again."),
    (_AGENTS, "disable", "control:disable", "Stop agents, and let nothing start them."),
    (_AGENTS, "reload", "control:reload", "Give agents their config and package anew, without a restart."),
    (_AGENTS, "wait", "waiting:wait", "Wait until an agent runs, or has stopped."),
    (_AGENTS, "logs", "logs:logs", "Show what agents print."),
    (_AGENTS, "events", "events:events", "Show status changes and their causes."),
    (_AGENTS, "audit", "events:audit", "Show who commanded what."),
    (_AGENTS, "register", "registration:register", "Make an agent of a package on disk."),
    (_AGENTS, "delete", "registration:delete", "Stop agents and forget them."),
    (_AGENTS, "sync", "registration:sync", "Make agents like the packages on disk."),
    (_ASK, "run", "run:run", "Ask an agent once, and print its answer."),
    (_ASK, "chat", "chat:chat", "Talk with an agent."),
    (_ASK, "test", "smoke:smoke", "Try everything that a caller needs: health, info, agents, a session, a run."),
    (_AUTHOR, "init", "authoring:init", "Write a new package to start from."),
    (_AUTHOR, "validate", "authoring:validate", "Check packages without running them."),
    (_AUTHOR, "schema", "authoring:schema", "Print a JSON Schema: of agent.yaml, or of a message."),
    (_AUTHOR, "packages", "catalogue:packages", "List packages on disk, broken ones with their error."),
)
_SERVERS = (("manager", "The AgentManager."), ("api", "The management API."))
_TOKEN = (
    ("create", "Make an API key, or with --nats credentials of a NATS publisher."),
    ("ls", "List API keys."),
    ("revoke", "Revoke API keys."),
)
_NOUNS = (
    (
        _AGENTS,
        "config",
        "An agent's settings: get, set, unset.",
        (
            (
                "get",
                "config:get_config",
                "Show an agent's settings: its package's defaults, and above them what was set.",
            ),
            ("set", "config:set_config", "Change an agent's settings; instances that run get them at once."),
            ("unset", "config:unset_config", "Forget settings, so that the package's defaults hold again."),
        ),
    ),
    (
        _ASK,
        "runs",
        "Runs: ls, show, cancel, confirm.",
        (
            ("ls", "runs:ls_runs", "List runs, the newest first."),
            ("show", "runs:show_run", "Show a run: status, times, tokens, answer, and what it waits for."),
            ("cancel", "runs:cancel_runs", "Cancel runs."),
            ("confirm", "runs:confirm_run", "Decide what a run waits for: yes, or with --no no."),
        ),
    ),
    (
        _ASK,
        "sessions",
        "Sessions: ls, show, rename, export, rm.",
        (
            ("ls", "sessions:ls_sessions", "List sessions, the most recently used first."),
            ("show", "sessions:show_session", "Show what was said in a session."),
            ("rename", "sessions:rename_session", "Give a session another title."),
            ("export", "sessions:export_session", "Print a session as one document."),
            ("rm", "sessions:rm_sessions", "Delete sessions with their runs."),
        ),
    ),
    (_ASK, "files", "Files for runs: put.", (("put", "files:put_files", "Store files that runs may be given."),)),
)


def make_app() -> App:
    """Put the verbs together."""
    app = App(
        name="opmas",
        help="Keep fleets of AI agents running, and ask them.",
        version=__version__,
        help_format="plaintext",
        suppress_keyboard_interrupt=False,
    )
    for group, name, place, text in _VERBS:
        app.command(f"opmas.cli.{place}", name=name, help=text, group=group)
    for name, text in _SERVERS:
        servers = App(name=name, help=text, group=_RUN)
        servers.command(f"opmas.cli.servers:run_{name}", name="run", help="Run it in the foreground.")
        app.command(servers)
    token = App(name="token", help="Print the admin token; create, ls, revoke: API keys.", group=_RUN)
    token.default(_print_admin_token)
    for name, text in _TOKEN:
        token.command(f"opmas.cli.tokens:{name}", name=name, help=text)
    app.command(token)
    for group, noun, text, verbs in _NOUNS:
        about = App(name=noun, help=text, group=group)
        for name, place, help_ in verbs:
            about.command(f"opmas.cli.{place}", name=name, help=help_)
        app.command(about)
    return app


def _print_admin_token() -> None:
    """Print the admin token."""
    from opmas.cli.installation import token  # noqa: PLC0415 - like every verb, imported when called

    token()


def run(arguments: list[str]) -> int:
    """Run one command line; returns its exit code."""
    try:
        _check_verb(arguments)
        code = make_app()(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
        return int(code or Exit.OK)
    except Failure as failure:
        return _report(failure, arguments)
    except CycloptsError as error:
        hint = f"see `opmas {' '.join([*(error.command_chain or ()), '--help'])}`"
        return _report(Failure(" ".join(str(error).split()), hint, "usage"), arguments)
    except UnicodeEncodeError as error:  # bytes of an argument that are no UTF-8, which no document can carry
        return _report(Failure(f"cannot use {error.object[:80]!a}: it is not UTF-8", "", "usage"), arguments)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Whoever read us has enough. Without this, Python complains once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.BROKEN_PIPE


def _check_verb(arguments: list[str]) -> None:
    """Refuse an unknown verb here: to suggest one, cyclopts would import every command."""
    nouns = [name for name, _ in _SERVERS] + [noun for _, noun, _, _ in _NOUNS] + ["token"]
    verbs = [name for _, name, _, _ in _VERBS] + nouns
    if not arguments or arguments[0].startswith("-") or arguments[0] in verbs:
        return
    near = difflib.get_close_matches(arguments[0], verbs, n=1)
    hint = (f"did you mean '{near[0]}'? " if near else "") + "`opmas --help` lists all"
    raise Failure(f"cannot '{arguments[0]}': no such command", hint, "usage")


def _report(failure: Failure, arguments: list[str]) -> int:
    sys.stderr.write(f"opmas: {failure.message}\n" + (f"  hint: {failure.hint}\n" if failure.hint else ""))
    if "--json" in arguments:
        sys.stdout.write(json.dumps({"error": failure.body()}, indent=2) + "\n")
    return failure.exit
