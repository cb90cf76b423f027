"""Every word that the pages say, once for each language: ``say(language, "runs.title")``.

A language is a module of this package with one dictionary, ``WORDS``; English is the measure of what must be there
(a test compares). Placeholders are ``{name}``, filled as text.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from rewarm.studio.ui.words import en, vi

LANGUAGES: dict[str, tuple[str, dict[str, str]]] = {"en": ("English", en.WORDS), "vi": ("Tiếng Việt", vi.WORDS)}
NAMES = {"vi": vi.NAMES}
COOKIE = "rewarm_language"


def say(language: str, key: str, **values: Any) -> str:
    """The words for ``key``. Raises ``KeyError`` for one that is in no language."""
    text = LANGUAGES[language][1].get(key) or en.WORDS[key]
    return text.format(**values) if values else text


def name_of(language: str, group: str, name: str, english: str = "") -> str:
    """The word for one of our names, such as a stage; ``english``, or the name itself, where there is none."""
    return NAMES.get(language, {}).get(f"{group}.{name}") or english or name


def choose_language(request: Request) -> str:
    """The one that the user has chosen, or the first of the browser's that there is."""
    if (chosen := request.cookies.get(COOKIE)) in LANGUAGES:
        return chosen
    wanted = (part.split(";")[0].strip()[:2].lower() for part in request.headers.get("accept-language", "").split(","))
    return next((language for language in wanted if language in LANGUAGES), "en")
