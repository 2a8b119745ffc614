"""Who may publish and subscribe to what: one role for each kind of client, each with a template of permissions.

nats-server fills `{{name()}}` and `{{tag(x)}}` in from the user's JWT and enforces the result, so a token cannot
grant itself anything. Four findings (nats-server 2.15.1, measured) shaped the templates:

* `allow_responses` is a way around every permission: a client that may publish and subscribe to one subject sends
  itself a message with any reply subject it likes and may then publish there, even against a `deny`. So no role has
  it; to answer, clients may publish to `_INBOX.>`, where a reply subject is a secret only the asker can subscribe to.
* Inboxes are private: `_INBOX.{role}.{name}.>`. The stock `nats` tool asks under `_INBOX.{random}[.{random}]`:
  operators and viewers may subscribe to just these short ones, where nobody's replies but theirs pass.
* A last token `*` also lets its holder subscribe to `>` in that place. These inboxes have a `deny` for that
  reason, and whoever allows an agent `x.*` allows it to read `x.>`.
* nats-server delivers what JetStream stores to any reply or deliver subject, unchecked. Whoever may read a stream can
  therefore have bytes of its own published anywhere in the account. So agents may publish into streams (their granted
  subjects, with acknowledgement) and no more; `Role.STREAMER` adds the JetStream API for the stream, KV bucket and
  object store called like the agent, and is for agents an operator trusts with the account. Stream names are whole
  tokens: `{name}_*` cannot be said.
"""

from dataclasses import dataclass
from enum import StrEnum

from pydantic import JsonValue

from opmas.wire import subjects


class Role(StrEnum):
    """A kind of NATS user; each has a signing key of its own."""

    AGENT = "agent"
    STREAMER = "streamer"
    MANAGER = "manager"
    API = "api"
    OPERATOR = "operator"
    VIEWER = "viewer"

    @property
    def is_agent(self) -> bool:
        """Whether users of this role are instances of agents."""
        return self in {Role.AGENT, Role.STREAMER}


@dataclass(frozen=True, slots=True)
class Permissions:
    """Subjects a user may publish and subscribe to, in NATS's syntax; templates where they stand in a role."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    publish_deny: tuple[str, ...] = ()
    subscribe_deny: tuple[str, ...] = ()

    def claims(self) -> dict[str, JsonValue]:
        """Shape these for a user's JWT or a signing key's template."""
        return {
            "pub": {"allow": list(self.publish), "deny": list(self.publish_deny)},
            "sub": {"allow": list(self.subscribe), "deny": list(self.subscribe_deny)},
            "subs": -1,
            "data": -1,
            "payload": -1,
        }

    def filled(self, name: str, tags: dict[str, tuple[str, ...]]) -> "Permissions":
        """Fill the templates in as nats-server would: for a signing key without a template."""
        return Permissions(
            publish=_filled(self.publish, name, tags),
            subscribe=_filled(self.subscribe, name, tags),
            publish_deny=self.publish_deny,
            subscribe_deny=self.subscribe_deny,
        )


def _filled(templates: tuple[str, ...], name: str, tags: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    done: list[str] = []
    for template in templates:
        choices = [template.replace("{{name()}}", name)]
        for tag, values in tags.items():
            mark = "{{tag(" + tag + ")}}"
            choices = [c.replace(mark, v) for c in choices for v in (values if mark in c else ("",))]
        done += choices
    return tuple(done)


_NAME = "{{name()}}"
_INBOX = "_INBOX.>"
_DISCOVERY = ("$SRV.*", f"$SRV.*.{_NAME}", f"$SRV.*.{_NAME}.*")
_DATA = ("logs.>", "findings.>", "events.>")
_JETSTREAM = ("$JS.API.>", "$JS.ACK.>", "$KV.>", "$O.>")

_AGENT = Permissions(
    publish=(
        subjects.response(_NAME),
        subjects.status(_NAME),
        subjects.metrics(_NAME),
        subjects.log(_NAME),
        subjects.claim(_NAME),
        subjects.frame(_NAME, "*"),
        subjects.file(_NAME),
        subjects.STATUS,
        subjects.METRICS,
        _INBOX,
        "{{tag(pub)}}",
    ),
    subscribe=(
        subjects.command(_NAME),
        subjects.query(_NAME),
        subjects.run(_NAME),
        "_INBOX.agent.{{tag(instance)}}.>",
        *_DISCOVERY,
        "{{tag(sub)}}",
    ),
)

_OWN_STREAMS = (
    "$JS.API.INFO",
    *(
        f"$JS.API.{verb}"
        for stream in (_NAME, f"KV_{_NAME}", f"OBJ_{_NAME}")
        for verb in (
            f"STREAM.*.{stream}",
            f"STREAM.MSG.*.{stream}",
            f"CONSUMER.*.{stream}",
            f"CONSUMER.*.{stream}.>",
            f"CONSUMER.DURABLE.CREATE.{stream}.*",
            f"CONSUMER.MSG.NEXT.{stream}.*",
            f"DIRECT.GET.{stream}",
            f"DIRECT.GET.{stream}.>",
        )
    ),
    *(f"$JS.ACK.{stream}.>" for stream in (_NAME, f"KV_{_NAME}", f"OBJ_{_NAME}")),
    f"$KV.{_NAME}.>",
    f"$O.{_NAME}.>",
)

_WATCHED = (subjects.RESPONSE, subjects.STATUS, subjects.METRICS, subjects.log("*"), *_DATA, "_INBOX.*", "_INBOX.*.*")
_OTHERS_INBOXES = ("_INBOX.*.*.>",)

TEMPLATES: dict[Role, Permissions] = {
    Role.AGENT: _AGENT,
    Role.STREAMER: Permissions(publish=_AGENT.publish + _OWN_STREAMS, subscribe=_AGENT.subscribe),
    Role.MANAGER: Permissions(
        # `_R_.>`: nats-server's own reply subjects for what comes through an identified subject.
        publish=("agent.>", "events.>", "$SRV.>", _INBOX, "_R_.>", *_JETSTREAM),
        publish_deny=(subjects.COMMAND, subjects.QUERY),
        subscribe=("agent.>", "opmas.identified.>", "$SRV.>", "_INBOX.manager.{{name()}}.>"),
    ),
    Role.API: Permissions(
        publish=(
            subjects.COMMAND,
            subjects.QUERY,
            subjects.command("*"),
            subjects.query("*"),
            subjects.run("*"),
            subjects.ALL_LIVE,
            "events.>",
            "$SRV.>",
            _INBOX,
        ),
        subscribe=("agent.>", subjects.ALL_LIVE, "events.>", *_DISCOVERY, "_INBOX.api.{{name()}}.>"),
    ),
    Role.OPERATOR: Permissions(
        # Agents' own queries may be asked directly; commands go through the manager, which keeps the audit.
        publish=(subjects.COMMAND, subjects.query("*"), *_DATA, "$SRV.>", _INBOX, *_JETSTREAM),
        subscribe=_WATCHED,
        subscribe_deny=_OTHERS_INBOXES,
    ),
    # Asks and listens. It answers nobody, and has no JetStream, with which a stored message becomes a command.
    Role.VIEWER: Permissions(publish=(subjects.QUERY, "$SRV.>"), subscribe=_WATCHED, subscribe_deny=_OTHERS_INBOXES),
}
