"""Pipelines are saved, changed by one at a time, and deleted by those who mean it."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from rewarm.core.errors import Conflict, Forbidden, NotFound, UserError
from rewarm.studio.context import OWNER, Role, Studio
from rewarm.studio.service import pipelines, runs
from rewarm.studio.store.audit import entries
from tests.studio.conftest import user_with
from tests.studio.service.test_recipes import BLANK


def test_a_pipeline_is_made_from_a_template_or_another(studio: Studio) -> None:
    made = pipelines.create(studio, OWNER, name="law", template="new-domain", description="monthly")
    assert made.recipe.startswith("name: law\n") and made.template == "new-domain" and made.revision == 1
    other = pipelines.create(studio, OWNER, clone="law")
    assert re.fullmatch(r"pipeline-\d{14}", other.name)
    assert other.recipe == made.recipe
    assert [p.name for p in pipelines.list_pipelines(studio, OWNER)] == ["law", other.name]
    assert [p.name for p in pipelines.list_pipelines(studio, OWNER, after="law")] == [other.name]
    assert [p.name for p in pipelines.list_pipelines(studio, OWNER, text="MONTH")] == ["law"]
    with pytest.raises(UserError, match="give one of"):
        pipelines.create(studio, OWNER, template="blank", clone="law")
    with pytest.raises(NotFound):
        pipelines.create(studio, OWNER, template="none")


def test_the_recipe_stays_as_it_was_given(studio: Studio) -> None:
    text = "# mine\n" + BLANK + "hyperparameters: {learning_rate: 4e-5}   # tried\n"
    pipelines.create(studio, OWNER, name="a", recipe=text)
    assert pipelines.show(studio, OWNER, "a").recipe == text
    with pytest.raises(UserError, match="epochs"):
        pipelines.create(studio, OWNER, name="b", recipe=BLANK + "hyperparameters: {epochs: 0}\n")


@pytest.mark.parametrize("name", ["", "-a", "_a", "a b", "a/b", "..", "a" * 101, "ä", "a\n"])
def test_names_follow_the_rule(studio: Studio, name: str) -> None:
    with pytest.raises(UserError, match="name begins"):
        pipelines.create(studio, OWNER, name=name, template="blank")


def test_one_of_twenty_gets_the_name(studio: Studio) -> None:
    def create(_: int) -> bool:
        try:
            return bool(pipelines.create(studio, OWNER, name="same", template="blank"))
        except Conflict:
            return False

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(create, range(20))) == 1


def test_who_edits_an_older_revision_is_told(studio: Studio) -> None:
    made = pipelines.create(studio, OWNER, name="a", template="blank")
    edited = pipelines.edit(studio, OWNER, "a", made.revision, new_name="b", description="x")
    assert (edited.name, edited.description, edited.revision) == ("b", "x", 2)
    with pytest.raises(Conflict, match="revision 2"):
        pipelines.edit(studio, OWNER, "b", made.revision, description="y")
    pipelines.create(studio, OWNER, name="c", template="blank")
    with pytest.raises(Conflict, match="of this name"):
        pipelines.edit(studio, OWNER, "c", 1, new_name="b")
    with pytest.raises(UserError, match="200"):
        pipelines.edit(studio, OWNER, "c", 1, description="x" * 201)
    with studio.database.read() as session:
        found = [(row.user, row.action, row.object) for row in entries(session, object="pipeline/a")]
    assert found == [("owner", "edit", "pipeline/a"), ("owner", "create", "pipeline/a")]


def test_deleting_asks_for_the_name_and_keeps_the_runs(studio: Studio) -> None:
    pipelines.create(studio, OWNER, name="a", recipe=BLANK)
    run = runs.start(studio, OWNER, "a")
    with pytest.raises(UserError, match="confirm"):
        pipelines.delete(studio, OWNER, "a", "delete")
    with pytest.raises(Conflict, match="live"):
        pipelines.delete(studio, OWNER, "a", "a")
    runs.stop(studio, OWNER, run.id)
    pipelines.delete(studio, OWNER, "a", "a")
    with pytest.raises(NotFound):
        pipelines.show(studio, OWNER, "a")
    assert runs.show(studio, OWNER, run.id).pipeline is None


def test_a_viewer_only_looks(studio: Studio) -> None:
    viewer = user_with(studio, Role.viewer)
    pipelines.create(studio, OWNER, name="a", template="blank")
    assert pipelines.show(studio, viewer, "a").name == "a"
    for verb in (
        lambda: pipelines.create(studio, viewer, template="blank"),
        lambda: pipelines.edit(studio, viewer, "a", 1),
        lambda: pipelines.delete(studio, viewer, "a", "a"),
        lambda: runs.start(studio, viewer, "a"),
    ):
        with pytest.raises(Forbidden):
            verb()
