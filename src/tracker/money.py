"""Money as it comes from outside and goes out again: exact decimals, and currencies of ISO 4217."""

from __future__ import annotations

import re
from decimal import Decimal

_AMOUNT = re.compile(r"[0-9]{1,14}(\.[0-9]{1,6})?", re.ASCII)  # what numeric(20, 6) holds

_CODES = """\
AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD
CDF CHF CLF CLP CNY COP CRC CUC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD
GNF GTQ GYD HKD HNL HRK HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT
LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD
OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SLL SOS SRD SSP STN
SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VED VES VND VUV WST XAF XCD XCG XOF
XPF YER ZAR ZMW ZWG ZWL
"""
CURRENCIES = frozenset(_CODES.split())
"""Codes in use, and those that fell out of it since 2020: orders may be as old."""


def read_amount(text: str) -> Decimal:
    """An amount as "12.5".

    Raises:
        ValueError: it is none, and why.
    """
    if not _AMOUNT.fullmatch(text):
        raise ValueError("must be an amount like 12.50: digits, and at most six of them after a point")
    return Decimal(text)


def show(amount: Decimal) -> str:
    """An amount with all its decimals, and two of them at least: "12.50", "0.123456"."""
    whole, _, decimals = f"{amount:.6f}".partition(".")
    return f"{whole}.{decimals.rstrip('0'):0<2}"


def read_currency(text: str) -> str:
    """The code of a currency, in capitals.

    Raises:
        ValueError: it is none.
    """
    code = text.upper()
    if not text.isascii() or code not in CURRENCIES:
        raise ValueError("must be a currency of ISO 4217, like EUR")
    return code
