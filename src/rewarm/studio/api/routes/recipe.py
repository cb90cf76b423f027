"""What can be said of a recipe while it is written; nothing is saved."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from rewarm.studio.api.access import TheStudio, Viewer, routes
from rewarm.studio.api.errors import documented
from rewarm.studio.service import recipes as verbs
from rewarm.studio.service.recipes import Converted, Verdict

router = routes("/recipe", "pipelines")
EXAMPLE = (
    "name: legal-vi\nbase_model: HuggingFaceTB/SmolLM2-135M\ndata:\n  sources:\n    - {name: law, path: uploads/law}\n"
)
Recipe = Annotated[str, Field(max_length=1_000_000, description="YAML or JSON", examples=[EXAMPLE])]
Override = Annotated[str, Field(max_length=10_000)]
Overrides = Annotated[
    list[Override],
    Field(max_length=1000, description="KEY=VALUE, in place of the recipe's", examples=[["hyperparameters.epochs=2"]]),
]


class Text(BaseModel):
    model_config = ConfigDict(extra="forbid")
    recipe: Recipe
    overrides: Overrides = []


class Given(BaseModel):
    model_config = ConfigDict(extra="forbid")
    text: str = Field(
        max_length=1_000_000, description="a recipe as YAML or JSON, or a block of hyperparameters", examples=[EXAMPLE]
    )
    into: str = Field("", max_length=1_000_000, description="the recipe whose hyperparameters the block replaces")


@router.get("/schema")
def schema(user: Viewer) -> dict[str, Any]:
    """The JSON Schema of a recipe, with a line of help for each field and the group of each hyperparameter."""
    return verbs.schema()


@router.post("/convert")
def convert(user: Viewer, body: Given) -> Converted:
    """The same recipe as YAML and as JSON."""
    return verbs.convert(body.text, body.into)


@router.post("/check", responses=documented(507))
def check(
    studio: TheStudio,
    user: Viewer,
    body: Text,
    estimate: Annotated[bool, Query(description="tokens, memory, disk and time as well, which takes seconds")] = False,
) -> Verdict:
    """What is wrong with a recipe, and what of it has no effect: the words of `rewarm check`."""
    return verbs.check(studio, user, body.recipe, body.overrides, with_estimate=estimate)
