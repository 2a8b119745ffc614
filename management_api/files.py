"""Routes of files: what a caller stores for runs to read, as a form with one or several parts named `file`.

Parts are spooled to disk as they come and go on from there piece by piece: an upload costs no memory to speak of.
"""

import re
from collections.abc import AsyncIterator
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response as HttpResponse
from starlette.datastructures import FormData, UploadFile

from management_api import run_examples as examples
from management_api.auth import TheCaller, requires
from management_api.auth.principal import Principal
from management_api.invocations import TheRuns
from management_api.openapi import answers
from management_api.run_views import file_view, shown
from management_api.runs import Runs
from management_api.runs.visibility import scope_of, speaks_for
from management_api.settings import FILES_PATH, RunSettings
from management_api.store.rows import FileRow
from opmas.wire.errors import FileNotFound, InvalidRequest
from opmas.wire.invocation import FileList, FileView

router = APIRouter(prefix=FILES_PATH, tags=["files"])

# As many as one run may have.
_MOST = 20
# Between disk and database.
_PIECE_BYTES = 256 << 10
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_LONGEST_NAME = 255
_UNKNOWN_TYPE = "application/octet-stream"

_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "array", "items": {"type": "string", "format": "binary"}, "maxItems": _MOST}
                    },
                }
            }
        },
    }
}


async def limits_of(request: Request) -> RunSettings:
    """Find what files may be."""
    settings: RunSettings = request.app.state.settings.runs
    return settings


@router.post(
    "",
    status_code=201,
    response_model=FileView | FileList,
    dependencies=[requires("runs:write")],
    responses=answers(413, example=examples.FILE, success=201),
    openapi_extra=_FORM,
)
async def upload_files(
    request: Request, runs: TheRuns, caller: TheCaller, limits: Annotated[RunSettings, Depends(limits_of)]
) -> HttpResponse:
    """Store files for runs to read. One is answered as itself, several as `{"files": […]}`."""
    async with request.form(max_files=_MOST, max_fields=_MOST) as form:
        parts = _parts(form, limits)
        views = [file_view(await _stored(runs, caller, part, limits.file_max_bytes)) for part in parts]
    return shown(views[0] if len(views) == 1 else FileList(files=tuple(views)), 201)


@router.get(
    "/{file_id}",
    response_model=FileView,
    dependencies=[requires("runs:read")],
    responses=answers(404, example=examples.FILE),
)
async def get_file(runs: TheRuns, caller: TheCaller, file_id: str) -> HttpResponse:
    """What a stored file is called, its type and size."""
    workspace, user = scope_of(caller)
    found = await runs.ledger.files([file_id], workspace)
    if not found or user not in {None, found[0].user_id}:
        raise FileNotFound(f"there is no file {file_id[:80]!r}", "POST /api/v1/files stores one")
    return shown(file_view(found[0]))


def _parts(form: FormData, limits: RunSettings) -> list[UploadFile]:
    parts = [part for part in form.getlist("file") if isinstance(part, UploadFile)]
    if not parts:
        raise InvalidRequest(
            "cannot store files: there are none", "send a form with parts named file: curl -F file=@NAME"
        )
    for part in parts:
        if not any(fnmatchcase(_type(part), pattern) for pattern in limits.file_types):
            raise InvalidRequest(
                f"cannot store {_name(part)!r}: files of type {_type(part)!r} are not taken",
                f"the Content-Type of its part may be {', '.join(limits.file_types)}; runs.file_types allows others",
            )
    return parts


async def _stored(runs: Runs, caller: Principal, part: UploadFile, max_bytes: int) -> FileRow:
    return await runs.ledger.add_file(
        workspace=caller.workspace,
        user_id=speaks_for(caller, None),
        name=_name(part),
        type=_type(part),
        content=_pieces(part),
        max_bytes=max_bytes,
    )


async def _pieces(part: UploadFile) -> AsyncIterator[bytes]:
    while piece := await part.read(_PIECE_BYTES):
        yield piece


def _name(part: UploadFile) -> str:
    """Take the last part of whatever path was sent, and nothing that a terminal or a browser would act upon."""
    name = PurePosixPath(_UNPRINTABLE.sub("", part.filename or "").replace("\\", "/")).name.strip()
    return name[-_LONGEST_NAME:] if name not in {"", ".", ".."} else "file"


def _type(part: UploadFile) -> str:
    return (part.content_type or _UNKNOWN_TYPE).partition(";")[0].strip().lower()[:200]
