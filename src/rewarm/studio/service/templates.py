"""Templates: recipes to begin with. Each is a file whose first comment is its title, and the second what it is for."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field

from rewarm.core.errors import NotFound

FOLDER = Path(__file__).parent.parent / "templates"


class Template(BaseModel):
    name: str = Field(examples=["new-language"])
    title: str = Field(examples=["A new language"])
    description: str
    recipe: str = Field(description="YAML", examples=["name: new-language\nbase_model: ..."])


def list_templates() -> list[Template]:
    """All there are, the blank one first."""
    paths = sorted(FOLDER.glob("*.yaml"), key=lambda path: (path.stem != "blank", path.stem))
    return [_read(path) for path in paths]


def template(name: str) -> Template:
    """Raises ``NotFound``."""
    found = {known.name: known for known in list_templates()}
    if name not in found:
        raise NotFound(f"there is no template {name[:100]!r}", remedy=f"there are: {', '.join(found)}")
    return found[name]


def _read(path: Path) -> Template:
    title, description, recipe = path.read_text(encoding="utf-8").split("\n", 2)
    return Template(
        name=path.stem, title=title.removeprefix("# "), description=description.removeprefix("# "), recipe=recipe
    )
