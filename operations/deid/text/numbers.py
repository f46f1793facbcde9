"""Check digits of numbers that name a person, a card or an account."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final


def digits(text: str) -> str:
    """The decimal digits of a text."""
    return "".join(c for c in text if c in "0123456789")


def luhn(number: str) -> bool:
    """ISO/IEC 7812-1 annex B: cards, IMEI, the Russian insurance number."""
    total = 0
    for place, digit in enumerate(reversed(number)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def npi(number: str) -> bool:
    """US National Provider Identifier: Luhn with the prefix 80840 (45 CFR 162.406)."""
    return len(number) == 10 and number[0] in "12" and luhn("80840" + number)


def rnokpp(number: str) -> bool:
    """Ukraine, registration number of the taxpayer's card (ten digits)."""
    return len(number) == 10 and _weighted(number, (-1, 5, 7, 9, 4, 6, 10, 5, 7)) % 11 % 10 == int(
        number[9]
    )


def inn(number: str) -> bool:
    """Russia, taxpayer number: ten digits (organisations) or twelve (persons)."""
    if len(number) == 10:
        return _inn_digit(number, _INN[2:]) == int(number[9])
    return (
        len(number) == 12
        and _inn_digit(number, _INN[1:]) == int(number[10])
        and _inn_digit(number, _INN) == int(number[11])
    )


_INN: Final = (3, 7, 2, 4, 10, 3, 5, 9, 4, 6, 8)


def _inn_digit(number: str, weights: Sequence[int]) -> int:
    return _weighted(number, weights) % 11 % 10


def snils(number: str) -> bool:
    """Russia, insurance number of the personal account: nine digits and two check digits."""
    if len(number) != 11:
        return False
    total = _weighted(number, (9, 8, 7, 6, 5, 4, 3, 2, 1)) % 101
    return total % 100 == int(number[9:])


def ssn(number: str) -> bool:
    """US social security number: no check digit, but areas, groups and serials never given."""
    area, group, serial = number[:3], number[3:5], number[5:]
    return (
        len(number) == 9
        and area not in ("000", "666")
        and area < "900"
        and group != "00"
        and serial != "0000"
    )


def nhs(number: str) -> bool:
    """NHS number of England: modulus 11."""
    if len(number) != 10:
        return False
    check = 11 - _weighted(number, (10, 9, 8, 7, 6, 5, 4, 3, 2)) % 11
    return check % 11 == int(number[9]) and check != 10


def iban(text: str) -> bool:
    """ISO 13616: modulus 97."""
    value = "".join(text.split()).upper()
    if not 15 <= len(value) <= 34 or not value.isalnum() or not value.isascii():
        return False
    moved = value[4:] + value[:4]
    return int("".join(str(int(c, 36)) for c in moved)) % 97 == 1


def vin(text: str) -> bool:
    """Vehicle identification number, 49 CFR 565.15: the ninth sign checks the others."""
    values = [_VIN.get(c) for c in text.upper()]
    if len(values) != 17 or None in values:
        return False
    weights = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)
    check = sum(v * w for v, w in zip(values, weights, strict=True) if v is not None) % 11
    return "0123456789X"[check] == text[8].upper()


_VIN: Final[dict[str, int]] = {c: int(c) for c in "0123456789"} | dict(
    zip("ABCDEFGHJKLMNPRSTUVWXYZ", (*range(1, 9), *range(1, 6), 7, 9, *range(2, 10)), strict=True)
)


def _weighted(number: str, weights: Sequence[int]) -> int:
    return sum(int(d) * w for d, w in zip(number, weights, strict=False))
