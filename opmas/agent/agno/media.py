"""The files of a run as Agno's media, so that a model sees them."""

from typing import Any

from agno.media import Audio, File, Image, Video

from opmas.agent import RunContext
from opmas.wire.errors import InvalidRequest

_KINDS: dict[str, tuple[str, type[Image] | type[Audio] | type[Video]]] = {
    "image": ("images", Image),
    "audio": ("audio", Audio),
    "video": ("videos", Video),
}


async def media(ctx: RunContext) -> dict[str, Any]:
    """Fetch the run's files and return the arguments of `arun` that hold them. `InvalidRequest` for empty ones."""
    arguments: dict[str, list[Any]] = {}
    for file in ctx.files:
        content = await file.read()
        if not content:
            raise InvalidRequest(f"cannot show {file.name} to the model: it is empty", "Leave it out.")
        kind, _, form = file.type.partition("/")
        if kind in _KINDS:
            argument, made = _KINDS[kind]
            arguments.setdefault(argument, []).append(
                made(id=file.file_id, content=content, mime_type=file.type, format=form)
            )
        else:
            # Agno refuses types that it does not know; which of the others a model can read, the model says.
            known = file.type if file.type in File.valid_mime_types() else None
            named: dict[str, str] = {"id": file.file_id, "filename": file.name, "name": file.name}
            arguments.setdefault("files", []).append(File(content=content, mime_type=known, **named))
    return arguments
