"""Check digits: numbers published as examples, and what the checks say of their neighbours."""

from __future__ import annotations

import pytest

from operations.deid.text import numbers

VALID = [
    (numbers.luhn, "4111111111111111", "the test card of every payment processor"),
    (numbers.luhn, "5555555555554444", "as above"),
    (numbers.npi, "1234567893", "the example of the NPI check digit rule of CMS"),
    (numbers.inn, "7707083893", "Sberbank, an organisation's number that everybody can look up"),
    (numbers.inn, "500100732259", "the example of the Russian tax service's rule"),
    (numbers.snils, "11223344595", "the example of the Pension Fund's rule"),
    (numbers.nhs, "9434765919", "the example of the NHS data dictionary"),
    (numbers.iban, "UA213223130000026007233566001", "the example of the National Bank of Ukraine"),
    (numbers.iban, "GB29 NWBK 6016 1331 9268 19", "the example of the registry"),
    (numbers.vin, "1M8GDM9AXKP042788", "the example of 49 CFR 565"),
    (numbers.ssn, "219099999", "no check digit: any number of a given area"),
]


@pytest.mark.parametrize(("check", "number", "source"), VALID)
def test_a_published_number_is_valid(check, number, source):
    assert check(number), source


@pytest.mark.parametrize(("check", "number", "source"), VALID)
def test_a_changed_digit_is_seen(check, number, source):
    if check is numbers.ssn:
        return
    last = number[-1]
    other = str((int(last) + 1) % 10)
    assert not check(number[:-1] + other)


def test_the_ukrainian_taxpayer_number_is_checked_by_its_weights():
    """-1*3 + 5*1 + 7*8 + 9*4 + 4*7 + 6*1 + 10*0 + 5*0 + 7*3 = 149; 149 mod 11 = 6."""
    assert numbers.rnokpp("3184710036")
    assert not numbers.rnokpp("3184710037")


@pytest.mark.parametrize(
    "number", ["000123456", "666123456", "900123456", "123006789", "123450000"]
)
def test_a_social_security_number_that_is_never_given_out(number):
    assert not numbers.ssn(number)
