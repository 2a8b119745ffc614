"""What happened, in words: how an instance ended, what an event was, and what to do about either. Pure."""

import re
import signal

from agent_manager.instance import Instance
from opmas.wire.views import EventView, Step

# Ends that are nobody's trouble.
FINE = frozenset({"stopped", "completed"})

_ENDS = frozenset({"crash", "killed", "out_of_memory", "hang", "start_timeout", *FINE})

# What a crash's last words tell more exactly than its exit code.
_TELLING = {
    re.compile(r"^\s*(ModuleNotFoundError|ImportError)\b"): "import_error",
    re.compile(r"^\s*MemoryError\b"): "out_of_memory",
}

_HINTS = {
    "import_error": "install what is missing where the agent runs, or correct the import",
    "out_of_memory": "give it more memory (`resources.limits.memory`, the machine), or let it need less",
    "killed": "the kernel's log (`dmesg`) may say who killed it; `opmas logs {id}` shows what it did",
    "start_timeout": "find out what keeps it (`opmas logs {id}`), or give it a longer `start_timeout`",
    "hang": "find out what blocks it (`opmas logs {id}`), or give it a longer `heartbeat.timeout`",
    "shim_killed": "leave the shims alone: stop agents with `opmas stop {id}`",
    "cannot_execute": "correct `command` in its manifest, or install the program",
    "slot_busy": "end the process named, which an earlier instance has left behind",
    "cannot_install": "correct `dependencies` in its manifest, or reach the registry; then `opmas start {id}`",
    "model_missing": "define the model in config/agent_manager.yaml, which the manager reads again at SIGHUP, or "
    "export its key where the manager is started; then `opmas start {id}`",
    "cannot_launch": "mend what is named; `opmas start {id}` tries again",
}
_LOGS = "`opmas logs {id}` shows all it wrote"

_KINDS = {
    "ordered": "asked for `{command}`",
    "enabled": "enabled it",
    "disabled": "disabled it",
    "registered": "registered it",
    "updated": "changed it",
    "package_registered": "found its package {detail!r}, which starts by itself",
    "package_changed": "found its package {detail!r} changed",
    "package_broken": "found its package broken",
    "package_removed": "found its package folder {detail!r} gone",
}


def code_of(end: EventView | None, instance: Instance) -> str:
    """Name the kind of an instance's last end; without the event, as far as its record tells."""
    if end is None:
        reason = instance.last_exit.reason if instance.last_exit is not None else ""
        return reason if reason in _ENDS else "cannot_launch"
    if end.cause.code == "crash":
        found = (code for words, code in _TELLING.items() if any(map(words.match, end.cause.last_lines)))
        return next(found, "crash")
    return end.cause.code


def what_became(code: str, instance: Instance) -> str:
    """Say how an instance ended, so that its name can stand before it."""
    last = instance.last_exit
    exit_code = last.exit_code if last is not None else None
    number = last.signal if last is not None else None
    reason = last.reason if last is not None else "nothing more is known"
    manifest = instance.manifest
    said = {
        "crash": f"exited with code {exit_code}",
        "import_error": f"could not import what it needs and exited with code {exit_code}",
        "out_of_memory": "ran out of memory",
        "killed": f"was killed by {_name(number)}",
        "start_timeout": "was killed, as it did not say in time that it was ready"
        + (f" (`start_timeout` is {manifest.start_timeout:g} s)" if manifest else ""),
        "hang": "was killed, as its heartbeat had stopped"
        + (f" (`heartbeat.timeout` is {manifest.heartbeat.timeout:g} s)" if manifest else ""),
        "shim_killed": "ended because its shim was killed",
    }
    return said.get(code, f"could not be started: {reason}")


def hint_for(code: str, agent_id: str) -> str:
    """Say what to do about an end."""
    return _HINTS.get(code, _LOGS).format(id=agent_id)


def step_of(event: EventView) -> Step:
    """One link of the chain: an event as somebody's deed."""
    cause = event.cause
    said = _KINDS.get(event.kind)
    if said is not None:
        what = said.format(command=cause.command, detail=cause.detail)
        if event.kind == "ordered" and cause.detail:
            what = f"{what}, as {cause.detail}"
    else:
        what = f"{event.instance_id}: {cause.detail}" if event.instance_id else cause.detail
    return Step(time=event.time, actor=cause.actor, what=what)


def _name(number: int | None) -> str:
    try:
        return f"signal {number} ({signal.Signals(number or 0).name})"
    except ValueError:
        return f"signal {number}"
