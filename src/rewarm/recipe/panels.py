"""General texts by name, for ``evaluation.panels``: what a base model can do that no new text should cost it.

Each is one file of a public data set on the hub, at a pinned commit, so that a score means the same next year. How
many records it holds is known, and another number is an error. A panel of the user's own with the same name wins.
"""

from __future__ import annotations

from typing import Any

from rewarm.core.config import nearest

# name: (file at a commit of a data set of the hub, field of the text, records)
_SQUAD = "rajpurkar/squad@7b6d24c440a36b6815f21b70d25016731768db1f/plain_text/validation-00000-of-00001.parquet"
_MBPP = "google-research-datasets/mbpp@4bb6404fdc6cacfda99d4ac4205087b89d32030c/full/test-00000-of-00001.parquet"
_C4 = "allenai/c4@1588ec454efa1a09f29cd18ddd04fe05fc8653a2/en/c4-validation.00000-of-00008.json.gz"
_BELEBELE = "facebook/belebele@75b399394a9803252cfec289d103de462763db7c/data"
_FILES = {
    "web": (_C4, "text", 45_576),
    "encyclopedia": (_SQUAD, "context", 10_570),  # a paragraph of Wikipedia for each question; copies are dropped
    "code": (_MBPP, "code", 500),
    "maths": ("HuggingFaceH4/MATH-500@6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be/test.jsonl", "solution", 500),
    "french": (f"{_BELEBELE}/fra_Latn.jsonl", "flores_passage", 900),
    "german": (f"{_BELEBELE}/deu_Latn.jsonl", "flores_passage", 900),
    "spanish": (f"{_BELEBELE}/spa_Latn.jsonl", "flores_passage", 900),
    "thai": (f"{_BELEBELE}/tha_Thai.jsonl", "flores_passage", 900),
}
GROUPS = {"general_quick": ("web", "encyclopedia", "code", "maths"), "general_full": tuple(_FILES)}
"""Called as the groups of tasks are that ask for general ability."""


def with_named(panels: Any) -> Any:
    """The panels as a recipe gives them, with what is only named (as a word, or a name without a path) written out.

    Raises:
        ValueError: for a word that names no panel.
    """
    return [whole for panel in panels for whole in _written_out(panel)] if isinstance(panels, list) else panels


def _written_out(panel: Any) -> list[Any]:
    given = {"name": panel} if isinstance(panel, str) else panel
    name, known = given.get("name") if isinstance(given, dict) else None, {**GROUPS, **_FILES}
    if isinstance(panel, str) and panel not in known:
        guess = nearest(panel, [*known])
        hint = f"did you mean {guess!r}?" if guess else ", ".join(known)
        raise ValueError(f"there is no panel called {panel!r}; {hint}")
    if not isinstance(name, str) or name not in known or "path" in given:
        return [panel]  # one of the user's own
    hub = [(one, *_FILES[one]) for one in GROUPS.get(name, (name,))]
    return [
        {"path": f"hf://datasets/{file}", "text_column": column, "records": records, **given, "name": one}
        for one, file, column, records in hub
    ]
