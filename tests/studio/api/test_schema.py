"""Whatever the schema allows, and what it does not: no answer is an error of ours or one that is not documented."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance
from sqlalchemy import update

from rewarm.core.workspace import Workspace
from rewarm.studio.api.app import build_app
from rewarm.studio.context import open_studio
from rewarm.studio.store.tables import TokenRow
from tests.studio.conftest import HOME, token_of

CHECKS = [not_a_server_error, status_code_conformance, response_schema_conformance]
ENDLESS = "/api/v1/runs/{run}/stream"


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The schema over a real application, asked with an administrator's token."""
    studio = open_studio(Workspace(tmp_path_factory.mktemp("schema") / "home"))
    headers = {"Authorization": f"Bearer {token_of(studio, 'administrator')}", "Host": HOME.partition("//")[2]}
    with studio.database.write() as session:
        session.execute(update(TokenRow).values(id=2**40))  # no random number removes it
    yield schemathesis.openapi.from_asgi("/api/v1/openapi.json", build_app(studio), headers=headers), headers
    studio.database.close()


def _try_all(described: Any, examples: int) -> int:
    schema, headers = described
    tried = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path == ENDLESS:
            continue
        tried += 1

        @settings(
            max_examples=examples,
            database=None,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def ask(case: Any) -> None:
            case.call_and_validate(headers=headers, checks=CHECKS)

        ask()
    return tried


def test_no_server_error_and_no_undocumented_status(described: Any) -> None:
    assert _try_all(described, 5) > 20


@pytest.mark.nightly
def test_no_server_error_and_no_undocumented_status_in_many_tries(described: Any) -> None:
    assert _try_all(described, 300) > 20
