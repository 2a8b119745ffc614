"""The OpenAPI document says all that a caller must know, and the page that shows it needs nobody else."""

import re
from typing import Any
from urllib.parse import urljoin

import httpx2
import pytest

from tests.integration.api.server import Server

Operation = dict[str, Any]

# They have no body of ours: nothing, text, or events.
WITHOUT_EXAMPLE = {"delete_agent", "delete_session", "revoke_token", "get_prometheus_metrics", "stream_run"}


@pytest.fixture(scope="module")
def document(api: Server) -> dict[str, Any]:
    found: dict[str, Any] = httpx2.get(f"{api.url}/openapi.json").json()
    return found


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> list[tuple[str, Operation]]:
    return [(path, operation) for path, item in document["paths"].items() for operation in item.values()]


def test_every_operation_has_a_name_of_its_own_a_summary_a_description_and_a_known_tag(
    document: dict[str, Any], operations: list[tuple[str, Operation]]
) -> None:
    names = [operation["operationId"] for _, operation in operations]
    tags = {tag["name"] for tag in document["tags"]}

    assert len(set(names)) == len(names)
    assert [o["operationId"] for _, o in operations if not (o.get("summary") and o.get("description"))] == []
    assert [o["operationId"] for _, o in operations if not (o["tags"] and set(o["tags"]) <= tags)] == []


def test_every_operation_under_api_names_its_errors_and_its_scope(operations: list[tuple[str, Operation]]) -> None:
    for path, operation in operations:
        if path.startswith("/api/"):
            assert set(operation["responses"]) >= {"400", "401", "403", "429", "500", "503"}, path
            assert operation["security"], path
        if "{agent_id}" in path:
            assert "404" in operation["responses"], path


def test_every_body_has_a_type(operations: list[tuple[str, Operation]]) -> None:
    for path, operation in operations:
        for status, response in operation["responses"].items():
            for media_type, content in response.get("content", {}).items():
                assert content.get("schema"), (path, status, media_type)


def test_every_answer_with_a_body_and_every_request_body_has_an_example(
    document: dict[str, Any], operations: list[tuple[str, Operation]]
) -> None:
    schemas = document["components"]["schemas"]
    bare = {
        operation["operationId"]
        for path, operation in operations
        if path.startswith("/api/") and not _has_example(operation)
    }

    assert bare <= WITHOUT_EXAMPLE
    for _, operation in operations:
        if "application/json" in operation.get("requestBody", {}).get("content", {}):
            name = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
            assert schemas[name].get("examples"), name


def _has_example(operation: Operation) -> bool:
    good = next(response for status, response in operation["responses"].items() if status.startswith("2"))
    return bool(good.get("content", {}).get("application/json", {}).get("example"))


async def test_the_page_loads_from_here_and_its_policy_allows_no_other_place(http: httpx2.AsyncClient) -> None:
    page = await http.get("/docs")

    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "://" not in page.text
    named = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(named) == 4
    for name in named:
        asset = await http.get(urljoin("/docs", name))
        assert (asset.status_code, asset.headers["x-content-type-options"]) == (200, "nosniff")
        assert len(asset.content) > 100


async def test_only_the_files_of_the_page_are_served(http: httpx2.AsyncClient) -> None:
    for name in ("README.md", "..%2f..%2fpyproject.toml", "docs.html", "swagger-ui/LICENSE"):
        assert (await http.get(f"/docs/{name}")).status_code == 404
