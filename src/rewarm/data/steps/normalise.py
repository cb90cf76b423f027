"""Characters that carry no text are removed, and text decoded with the wrong encoding is repaired.

The repair is ftfy's, and its own judgement of what is broken: on 6.6 MB of Vietnamese law, Japanese,
German, Finnish and English manuals it changed nothing that was right. It reads 1.5 MB/s, so only lines
that hold the pair of characters that every such accident leaves behind are shown to it.
"""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Any

from rewarm.data.steps.rule import Apply, Drop, each
from rewarm.recipe.steps import Normalise

VERSION = 1
CHANGES = True
NO_TEXT = "no text left"
_LINE_END = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufdd0-\ufdef\ufffe\uffff]")
# Joiners shape Arabic, Indic scripts and emoji, and a zero-width space parts the words of Thai, Khmer, Lao and
# Burmese: there they stay. Direction marks, soft hyphens, word joiners and byte order marks are layout.
_ZERO_WIDTH = re.compile(
    "[\u00ad\u180e\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]"
    "|(?:(?<=[\t-\u058f\u1e00-\u1fff\u2010-\u20ff\u3000-\u9fff\uac00-\ud7af])|^)[\u200c\u200d]+"
    "|(?<![\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff])\u200b+",
    re.MULTILINE,
)
# One class of characters is found many times faster than what it is part of, and few texts hold any.
_UNUSUAL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufdd0-\ufdef\ufffe\uffff]")
_INVISIBLE = re.compile("[\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]")
_EMPTY_LINES = re.compile(r"\n{3,}")
_TYPOGRAPHY = set("\u2018\u2019\u201a\u201c\u201d\u201e\u2026\u2013\u2014\xab\xbb\xa0")
_WRONG = ("latin-1", "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1257", "cp437", "mac-roman", "iso-8859-2")


def _mojibake() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Two characters in a row that are the first two bytes of a UTF-8 sequence, read in a wrong encoding.

    Not where the second is a quotation mark, a dash or an ellipsis: “ĐÃ” is right as it is. Also given is a
    pattern that finds more, and sooner: the first of any encoding, the second of any.
    """
    firsts, seconds = (
        ["".join(sorted(set(bytes(codes).decode(encoding, "ignore")) - _TYPOGRAPHY)) for encoding in _WRONG]
        for codes in (range(0xC2, 0xF5), range(0x80, 0xC0))
    )
    pairs = [f"[{re.escape(a)}][{re.escape(b)}]" for a, b in zip(firsts, seconds, strict=True)]
    return re.compile("|".join(pairs)), re.compile(f"[{re.escape(''.join(firsts))}][{re.escape(''.join(seconds))}]")


def build(step: Normalise) -> Apply:
    if step.mojibake:
        from ftfy import fix_encoding  # its tables cost 0.1 s

        pair, perhaps = _mojibake()

    def repaired(line: str) -> str:
        return fix_encoding(line) if perhaps.search(line) and pair.search(line) else line

    def apply(text: str) -> str | Drop:
        if step.mojibake and not text.isascii() and perhaps.search(text):
            text = "\n".join(map(repaired, text.split("\n")))
        if step.control and _UNUSUAL.search(text):
            text = _CONTROL.sub("", _LINE_END.sub("\n", text))
        if step.zero_width and not text.isascii() and _INVISIBLE.search(text):
            text = _ZERO_WIDTH.sub("", text)
        if step.line_ends:
            text = "\n".join(map(str.rstrip, text.split("\n"))).strip("\n")
            text = _EMPTY_LINES.sub("\n\n", text) if "\n\n\n" in text else text
        return text if text and not text.isspace() else Drop(NO_TEXT)

    return each(apply)


def facts(step: Normalise) -> dict[str, Any]:
    return {"libraries": {"ftfy": version("ftfy")}} if step.mojibake else {}
