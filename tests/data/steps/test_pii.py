"""What identifies a person is masked; the numbers of laws, dates and versions are not."""

from __future__ import annotations

import pytest

from tests.data.steps.conftest import applied


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("mail a.b+c@ex-am.co.vn, x@localhost", "mail <EMAIL>, x@localhost"),
        ("0912 345 678, (024) 3825 1234, +84 91 234 5678", "<PHONE>, <PHONE>, <PHONE>"),
        ("8.8.8.8 and 2001:4860:4860::8888.", "<IP> and <IP>."),
        (
            "127.0.0.1 192.168.1.1 ::1 1.2.3.4.5 v1.2.3.4 12:30:45",
            "127.0.0.1 192.168.1.1 ::1 1.2.3.4.5 v1.2.3.4 12:30:45",
        ),
        ("4111 1111 1111 1111, not 4111 1111 1111 1112", "<CARD>, not 4111 1111 1111 1112"),
        ("DE89 3704 0044 0532 0130 00, GB82WEST12345698765432", "<IBAN>, <IBAN>"),
        ("GB82WEST12345698765433", "GB82WEST12345698765433"),
        (
            "Luật số 45/2019/QH14, Điều 12.3, 20/11/2019, 2019-11-20",
            "Luật số 45/2019/QH14, Điều 12.3, 20/11/2019, 2019-11-20",
        ),
        ("1.000.000 đồng, 0,5 %, 3.14159265358979", "1.000.000 đồng, 0,5 %, 3.14159265358979"),
    ],
)
def test_by_shape_and_check(text: str, masked: str) -> None:
    assert applied(text, "pii") == masked


def test_only_what_is_named_is_masked() -> None:
    text = "a@b.org 8.8.8.8"
    assert applied(text, "pii", mask=["ip"]) == "a@b.org <IP>"
    assert applied(text, "pii", mask=["email"]) == "<EMAIL> 8.8.8.8"


@pytest.mark.parametrize("unit", ["a@", "1", "1 ", "1-", "AB12 ", "0:", "a.", "+84 ", "(0", "a" * 99 + "@b."])
def test_time_is_in_proportion_to_length(unit: str) -> None:
    applied(unit * 50_000, "pii")
