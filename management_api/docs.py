"""The page `/docs`, which shows the OpenAPI document; all it loads comes from here, and its policy allows no more."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, HTMLResponse
from starlette.exceptions import HTTPException

router = APIRouter(include_in_schema=False)

_ASSETS = Path(__file__).parent / "assets"
_FILES = {
    "swagger-ui-bundle.js": ("swagger-ui/swagger-ui-bundle.js", "text/javascript"),
    "swagger-ui.css": ("swagger-ui/swagger-ui.css", "text/css"),
    "favicon.png": ("swagger-ui/favicon-32x32.png", "image/png"),
    "docs.js": ("docs.js", "text/javascript"),
}
# Swagger UI sets styles on elements and draws icons from data: addresses. Scripts come from files alone.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


@router.get("/docs", response_class=HTMLResponse)
async def show_docs() -> HTMLResponse:
    """Show the page."""
    return HTMLResponse((_ASSETS / "docs.html").read_bytes(), headers=_HEADERS)


@router.get("/docs/{name}", response_class=FileResponse)
async def get_asset(name: str) -> FileResponse:
    """Serve one of the page's files."""
    if name not in _FILES:
        raise HTTPException(404)
    path, media_type = _FILES[name]
    return FileResponse(_ASSETS / path, media_type=media_type, headers=_HEADERS | {"Cache-Control": "max-age=3600"})
