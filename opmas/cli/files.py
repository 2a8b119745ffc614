"""The verb `files put`: store files that runs may be given."""

from pathlib import Path

from opmas.cli import paper
from opmas.cli.answer import calling
from opmas.cli.failure import Failure
from opmas.cli.selection import Json


def put_files(*files: Path, json: Json = False) -> None:
    """Store files; runs take their ids (`opmas run --file` does both).

    Args:
        files: which
        json: one JSON document: {files: [{fileId, name, type, size}, …]}
    """
    if not files:
        raise Failure("cannot store files: none is named", "opmas files put report.pdf", "usage")
    with calling("store files") as client:
        stored = [client.upload(file) for file in files]
    if json:
        paper.document({"files": [file.model_dump(mode="json") for file in stored]})
        return
    paper.table(
        ("FILE", "NAME", "TYPE", "SIZE"),
        [(file.file_id, file.name, file.type, paper.size(file.size)) for file in stored],
        ("SIZE", "TYPE"),
    )
