"""How the servers log: JSON lines unless a person watches, each with its correlation id, never with a secret."""

import logging
import re
import sys

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from opmas.bus import correlation_id

# What a token looks like in a header, and a password in a URL; and the admin token itself, wherever it turns up.
_SECRETS = re.compile(r"(?i)(\bbearer\s+)[^\s'\"]+|(://[^/\s:@]*:)[^\s@/]+(?=@)|\bopmas_[\w-]{20,}")


def configure(level: str) -> None:
    """Send every library's lines through one chain to stderr."""
    terminal = sys.stderr.isatty()
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_correlation,
    ]
    last: list[Processor] = [structlog.processors.format_exc_info, mask_secrets, structlog.processors.JSONRenderer()]
    if terminal:
        last = [mask_secrets, structlog.dev.ConsoleRenderer()]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
    )
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Where in the code, and by which thread and process, a line was written is not told: finding out takes longer.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    for talkative in ("uvicorn.error", "alembic"):  # their steps of start and end are no news
        logging.getLogger(talkative).setLevel("WARNING")
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def mask_secrets(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Replace what looks like a token or a password in any text of the line."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = _SECRETS.sub(lambda found: f"{found[1] or found[2] or ''}***", value)
    return event


def _add_correlation(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    if identity := correlation_id():
        event["correlation_id"] = identity
    return event
