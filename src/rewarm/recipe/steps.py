"""What is done to the text of a recipe before it is tokenized: the settings of each step.

A step is chosen by its ``kind``; what it does lies in ``rewarm.data.steps``, in a module of the same
name. A limit that is not set comes from the profile of the language, and without one the rule is off.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, Self, TypeGuard, get_args

from pydantic import Field, model_validator

from rewarm.core.config import Frozen

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Personal = Literal["email", "phone", "ip", "iban", "card"]


def is_path(profile: str | None) -> TypeGuard[str]:
    """Whether a profile is named by its file rather than by its language."""
    return profile is not None and ("/" in profile or profile.endswith(".json"))


class Cleaning(Frozen):
    """The base of all steps. ``kind`` names the module that does it."""

    kind: str

    def located(self, at: Callable[[str], str]) -> Self:
        """The step with the paths in it made absolute by ``at``."""
        return self


class Profiled(Cleaning):
    """A step whose limits may come from the profile of a language."""

    profile: str | None = Field(None, description="vie_Latn, eng_Latn, or a JSON file of rewarm data thresholds")

    def located(self, at: Callable[[str], str]) -> Self:
        return self.model_copy(update={"profile": at(self.profile)}) if is_path(self.profile) else self


class Filed(Cleaning):
    """A step that reads a file."""

    path: str | None = None

    def located(self, at: Callable[[str], str]) -> Self:
        return self.model_copy(update={"path": at(self.path)}) if self.path else self


class Extract(Cleaning):
    """Text out of HTML or Markdown."""

    kind: Literal["extract"]
    markup: Literal["auto", "html", "markdown"] = Field(
        "auto", description="what the documents are; auto: HTML where one begins like it, else left as it is"
    )
    main_content: bool = Field(True, description="of HTML, leave out navigation, headers, footers and comments")


class Normalise(Cleaning):
    """Characters that carry no text removed or repaired. NFC always happens, without any step."""

    kind: Literal["normalise"]
    control: bool = Field(True, description="remove control characters, and make all line ends \\n")
    zero_width: bool = Field(True, description="remove zero-width and direction marks that no script here needs")
    mojibake: bool = Field(True, description="repair text that was decoded with the wrong encoding (ftfy)")
    line_ends: bool = Field(True, description="remove white space at line ends, and more than one empty line")


class Language(Profiled):
    """Keeps the documents of one language."""

    kind: Literal["language"]
    language: str = Field(min_length=2, description="vi, vie or vie_Latn")
    min_score: Share | None = Field(None, description="of the detector, for this language")


class Limits(Profiled):
    """A step that is nothing but limits."""

    @model_validator(mode="after")
    def _some_limit(self) -> Self:
        if not self.model_dump(exclude={"kind"}, exclude_none=True):
            raise ValueError("give a profile, or at least one limit")
        return self


class Quality(Limits):
    """Drops what does not read like prose (Gopher, arXiv 2112.11446; FineWeb, 2406.17557)."""

    kind: Literal["quality"]
    min_words: Count | None = Field(None, description="words of a document, at least")
    max_words: Count | None = Field(None, description="words of a document, at most")
    min_word_length: Annotated[float, Field(ge=0, le=1000)] | None = Field(
        None, description="mean characters of a word, at least"
    )
    max_word_length: Annotated[float, Field(ge=0, le=1000)] | None = Field(
        None, description="mean characters of a word, at most"
    )
    max_symbols_per_word: Annotated[float, Field(ge=0, le=100)] | None = Field(
        None, description="# signs, and ellipses, for each word"
    )
    max_bullet_lines: Share | None = Field(None, description="share of lines that begin with a bullet")
    max_ellipsis_lines: Share | None = Field(None, description="share of lines that end with an ellipsis")
    min_alphabetic_words: Share | None = Field(None, description="share of words with a letter in them")
    stop_words: list[str] | None = Field(None, description="the commonest words of the language")
    min_stop_words: Count | None = Field(None, description="occurrences of stop words in a document")
    min_line_punctuation: Share | None = Field(None, description="share of lines that end like a sentence")
    max_short_lines: Share | None = Field(None, description="share of lines of at most short_line characters")
    short_line: Count | None = Field(None, description="characters of a short line; 30 when no one says")
    max_new_lines_per_word: Annotated[float, Field(ge=0, le=100)] | None = Field(
        None, description="line breaks for each word: lists have many"
    )


class Repetition(Limits):
    """Drops what says the same thing again and again (Gopher, arXiv 2112.11446, table A1)."""

    kind: Literal["repetition"]
    max_duplicate_lines: Share | None = Field(None, description="share of lines that came before")
    max_duplicate_line_characters: Share | None = Field(None, description="share of characters in such lines")
    max_top_2_gram: Share | None = Field(None, description="share of characters in the commonest 2 words in a row")
    max_top_3_gram: Share | None = Field(None, description="share of characters in the commonest 3 words in a row")
    max_top_4_gram: Share | None = Field(None, description="share of characters in the commonest 4 words in a row")
    max_duplicated_5_gram: Share | None = Field(None, description="share of characters in repeated 5 words in a row")
    max_duplicated_6_gram: Share | None = Field(None, description="share of characters in repeated 6 words in a row")
    max_duplicated_7_gram: Share | None = Field(None, description="share of characters in repeated 7 words in a row")
    max_duplicated_8_gram: Share | None = Field(None, description="share of characters in repeated 8 words in a row")
    max_duplicated_9_gram: Share | None = Field(None, description="share of characters in repeated 9 words in a row")
    max_duplicated_10_gram: Share | None = Field(None, description="share of characters in repeated 10 words in a row")


class Pii(Cleaning):
    """Replaces what identifies a person by a mark such as <EMAIL>."""

    kind: Literal["pii"]
    mask: list[Personal] = Field(
        default_factory=lambda: list(get_args(Personal)), min_length=1, description="what is masked"
    )


class WordList(Filed):
    """Drops documents that hold too many words of a list, such as a list of insults."""

    kind: Literal["word_list"]
    path: str = Field(min_length=1, description="file of words, one a line, UTF-8; # begins a comment")
    max_share: Share = Field(0.01, description="share of the document's words that may be on the list")


class Decontaminate(Filed):
    """Drops documents that share a run of words with a benchmark item (GPT-3, arXiv 2005.14165)."""

    kind: Literal["decontaminate"]
    path: str | None = Field(
        None, min_length=1, description='jsonl file of {"task", "id", "text"}; the recipe\'s own tasks when unset'
    )
    words: int = Field(13, ge=5, le=50, description="words in a row that count as a match")


Step = Annotated[
    Extract | Normalise | Language | Quality | Repetition | Pii | WordList | Decontaminate,
    Field(discriminator="kind"),
]


class NearDuplicates(Frozen):
    """Of documents that share most of their text, the longest is kept. Compared are shingles: words in a row."""

    threshold: float = Field(
        0.75, ge=0, le=1, description="least share of equal hashes (the estimate of the Jaccard similarity)"
    )
    earlier: list[str] = Field(
        default_factory=list, description="datasets that the base has learned: what is like their text is left out"
    )
    words: int = Field(5, ge=1, le=20, description="words of a shingle")
    bands: int = Field(14, ge=1, le=64, description="bands of the signature: documents that share one are compared")
    rows: int = Field(8, ge=1, le=32, description="hashes of a band")
