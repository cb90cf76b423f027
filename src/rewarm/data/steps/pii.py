"""Masks what identifies a person: e-mail addresses, telephone, account and card numbers, IP addresses.

Found by their shape and, where the shape has a check digit or a range, by that too, so that the numbers
of an article of law or a version stay. Names and addresses of people are not found.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any

from rewarm.data.steps.rule import Apply, each
from rewarm.recipe.steps import Pii

VERSION = 1
CHANGES = True


def _luhn(number: str) -> bool:
    """ISO/IEC 7812: the sum of the digits, every second one from the right doubled, ends with 0."""
    digits = [int(c) for c in number if c.isdigit()]
    doubled = [d if i % 2 == 0 else sum(divmod(2 * d, 10)) for i, d in enumerate(reversed(digits))]
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and sum(doubled) % 10 == 0


def _iban(number: str) -> bool:
    """ISO 13616: the country moved behind the rest and read as a number leaves 1 modulo 97."""
    text = number.replace(" ", "")
    return 15 <= len(text) <= 34 and int("".join(str(int(c, 36)) for c in text[4:] + text[:4])) % 97 == 1


def _ip(address: str) -> bool:
    """A public address: 127.0.0.1 and 192.168.1.1 stand in every manual and identify nobody."""
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:
        return False


def _phone(number: str) -> bool:
    """E.164 in its written forms: eight to fifteen digits."""
    return 8 <= sum(c.isdigit() for c in number) <= 15


# The longest shapes first: part of a card number looks like a telephone number.
_SHAPES: dict[str, tuple[str, re.Pattern[str], Callable[[str], bool] | None]] = {
    "email": ("<EMAIL>", re.compile(r"(?<![\w.%+-])[\w.%+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}\b"), None),
    "iban": ("<IBAN>", re.compile(r"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"), _iban),
    "card": ("<CARD>", re.compile(r"(?<![\w.+-])[0-9](?:[ -]?[0-9]){12,18}(?![\w-]|\.[0-9])"), _luhn),
    "ip": (
        "<IP>",
        re.compile(
            r"(?<![\w.:])(?:(?:[0-9]{1,3}\.){3}[0-9]{1,3}|(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{1,4})(?![\w:]|\.[0-9])"
        ),
        _ip,
    ),
    # With its country code, or with its area code in brackets or after a 0: anything looser finds dates and statutes.
    "phone": (
        "<PHONE>",
        re.compile(
            r"(?<![\w.,:/+-])(?:"
            r"(?:\+|00)[1-9][0-9]{0,2}[ .-]?(?:\(0?[0-9]{1,4}\)[ .-]?)?[0-9]{2,4}(?:[ .-]?[0-9]{2,4}){1,4}"
            r"|\(0?[0-9]{2,4}\)[ .-]?[0-9]{3,4}[ .-]?[0-9]{3,4}"
            r"|0[0-9]{1,3}[ .-]?[0-9]{3,4}(?:[ .-]?[0-9]{3,4}){1,2}"
            r")(?![\w-]|[.,/][0-9])"
        ),
        _phone,
    ),
}


def build(step: Pii) -> Apply:
    shapes = [shape for name, shape in _SHAPES.items() if name in step.mask]

    def apply(text: str) -> str:
        for mark, pattern, check in shapes:
            if mark == "<EMAIL>" and "@" not in text:
                continue  # most texts: searching for the shape costs more than looking for its sign

            def masked(found: re.Match[str], mark: str = mark, check: Callable[[str], bool] | None = check) -> str:
                return mark if check is None or check(found[0]) else found[0]

            text = pattern.sub(masked, text)
        return text

    return each(apply)


def facts(step: Pii) -> dict[str, Any]:
    return {"mask": sorted(step.mask)}
