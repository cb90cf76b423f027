"""Templates: recipes to begin with."""

from __future__ import annotations

from rewarm.studio.api.access import Viewer, routes
from rewarm.studio.api.errors import documented
from rewarm.studio.service import templates as verbs
from rewarm.studio.service.templates import Template

router = routes("/templates", "pipelines")


@router.get("")
def list_templates(user: Viewer) -> list[Template]:
    """All templates, the blank one first."""
    return verbs.list_templates()


@router.get("/{name}", responses=documented(404))
def template(name: str, user: Viewer) -> Template:
    """One template."""
    return verbs.template(name)
