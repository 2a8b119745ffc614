"""Files over HTTP: stored under harmless names, within limits, and fetched by the instance whose run names them."""

import base64
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx2
import pytest

from opmas.bus import Bus
from opmas.wire import subjects
from opmas.wire.runs import Assignment, FilePiece, FilePieceRequest, RunEvent
from tests.integration.api.instance import end, working
from tests.integration.api.peer import Peer
from tests.integration.api.server import running

FILES = "/api/v1/files"


async def test_what_is_stored_is_what_the_instance_reads(nats_url: str, http: httpx2.AsyncClient, peer: Peer) -> None:
    content = bytes(range(256)) * 2_500
    stored = await http.post(FILES, files={"file": ("notes.bin", content, "text/plain; charset=utf-8")})
    file = stored.json()

    async with await Bus.connect(nats_url, name="reader") as bus:

        async def script(given: Assignment) -> AsyncGenerator[RunEvent, None]:
            read, offset = b"", 0
            while given.input.files:  # other tests' runs have none
                asked = FilePieceRequest(
                    instance_id="echo-0", run_id=given.run_id, file_id=given.input.files[0].file_id, offset=offset
                )
                piece = FilePiece.model_validate_json((await bus.request(subjects.file("echo"), asked, 5)).data)
                read += base64.b64decode(piece.data)
                if piece.next is None:
                    break
                offset = piece.next
            yield end(str(read == content))

        async with working(nats_url, "echo", script):
            body = {"message": "read", "files": [file["fileId"]]}
            run = (await http.post("/api/v1/agents/echo/runs", json=body, params={"wait": 20})).json()

    assert (stored.status_code, file["name"], file["type"], file["size"]) == (201, "notes.bin", "text/plain", 640_000)
    assert run["content"] == "True"
    assert (await http.get(f"{FILES}/{file['fileId']}")).json() == file


async def test_several_files_come_in_one_form(http: httpx2.AsyncClient) -> None:
    forms = [("file", (f"{n}.txt", b"x" * n, "text/plain")) for n in range(3)]

    answer = await http.post(FILES, files=forms)

    assert [(one["name"], one["size"]) for one in answer.json()["files"]] == [("0.txt", 0), ("1.txt", 1), ("2.txt", 2)]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\a.txt", "a.txt"),
        ("a\x1b[31m\u202eb.txt", "a[31mb.txt"),
        ("..", "file"),
        ("x" * 300 + ".txt", "x" * 251 + ".txt"),
    ],
)
async def test_a_file_s_name_is_only_a_name(http: httpx2.AsyncClient, sent: str, kept: str) -> None:
    answer = await http.post(FILES, files={"file": (sent, b"x", "text/plain")})

    assert answer.json()["name"] == kept


async def test_what_no_run_could_read_is_refused(http: httpx2.AsyncClient) -> None:
    program = await http.post(FILES, files={"file": ("a.exe", b"MZ", "application/x-msdownload")})
    plain = await http.post(FILES, content=b"x", headers={"Content-Type": "text/plain"})
    broken = await http.post(FILES, content=b"--x", headers={"Content-Type": "multipart/form-data; boundary=y"})
    no_file = await http.post(FILES, data={"file": "text"})

    for answer in (program, plain, broken, no_file):
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request"), answer.text
    assert "application/x-msdownload" in program.json()["message"]
    assert (await http.get(f"{FILES}/none")).json()["error"] == "file_not_found"


async def test_an_upload_over_the_limit_is_refused(nats_url: str, tmp_path: Path) -> None:
    with running(tmp_path / "api", nats_url, OPMAS_RUNS__FILE_MAX_BYTES="1000") as api:
        async with httpx2.AsyncClient(base_url=api.url, headers=api.headers, trust_env=False) as client:
            for size, status in ((1000, 201), (1001, 413), (8 << 20, 413)):
                answer = await client.post(FILES, files={"file": ("a.txt", b"x" * size, "text/plain")})
                assert answer.status_code == status, answer.text
                assert status == 201 or answer.json()["error"] == "too_large"
