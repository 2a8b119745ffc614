"""Text of an `agent.yaml` in, a Manifest or every problem out."""

from pydantic import ValidationError

from opmas.wire.errors import PackageInvalid
from opmas.wire.manifest.document import DocumentBroken, Path, read_document
from opmas.wire.manifest.model import Manifest
from opmas.wire.manifest.problems import describe

_HINT = "Correct the file; `opmas schema agent` prints all that may stand in it, `opmas validate PATH` reads it again."


def parse_manifest(text: str, filename: str) -> Manifest:
    """Read a manifest; raise PackageInvalid with one line `filename:line:column: what` per problem."""
    try:
        document = read_document(text, _is_text)
    except DocumentBroken as broken:
        raise PackageInvalid(f"{filename}:{broken.line}:{broken.column}: {broken.words}", _HINT) from None
    try:
        return Manifest.model_validate(document.value)
    except ValidationError as error:
        raise PackageInvalid("\n".join(describe(error, Manifest, document, filename)), _HINT) from None


def _is_text(path: Path) -> bool:
    """Name the fields that hold text whatever it looks like: version 1.10 is not 1.1, and PORT=08080 not 8080."""
    match path:
        case ("name" | "version" | "type" | "description",) | ("environment" | "labels" | "command", _):
            return True
        case _:
            return False
