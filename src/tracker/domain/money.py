"""Money in responses as exact decimals, and the currencies of ISO 4217."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Context, Decimal

from tracker.domain.normalise import trim

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
"""Codes in use, and codes that were withdrawn since 2020: orders may be that old."""

_WITHOUT_DECIMALS = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"
_WITH_THREE = "BHD IQD JOD KWD LYD OMR TND"
_DECIMALS = {
    **dict.fromkeys(_WITHOUT_DECIMALS.split(), 0),
    **dict.fromkeys(_WITH_THREE.split(), 3),
    "CLF": 4,
}
"""Decimals of the currencies with another number than two (ISO 4217, minor unit of table A.1)."""
_UNITS = {code: Decimal(1).scaleb(-_DECIMALS.get(code, 2)) for code in CURRENCIES}
_CENT = Decimal("0.01")
_WIDE = Context(prec=50)  # precise enough for any amount times any percentage


def unit(currency: str) -> Decimal:
    """The smallest payable amount of a currency: 1 JPY, 0.001 KWD, mostly 0.01 (ISO 4217)."""
    return _UNITS.get(currency, _CENT)


def too_fine(amount: Decimal, currency: str) -> str:
    """Why an amount cannot be paid out as it is, or "". It has more decimals than its currency."""
    smallest = unit(currency)
    if not amount % smallest:
        return ""
    return f"{show(amount)} {currency} is finer than the currency's unit of {smallest}"


def of_percent(percentage: Decimal, amount: Decimal, currency: str) -> Decimal:
    """A percentage of an amount, rounded once to the unit of its currency, half away from zero."""
    product = _WIDE.multiply(amount, percentage).scaleb(-2, context=_WIDE)
    return product.quantize(unit(currency), rounding=ROUND_HALF_UP, context=_WIDE)


def show(amount: Decimal) -> str:
    """An amount with all its decimals, at least two: "12.50", "0.123456"."""
    whole, _, decimals = f"{amount:.6f}".partition(".")
    return f"{whole}.{decimals.rstrip('0'):0<2}"


def in_unit(amount: Decimal, currency: str) -> str:
    """An amount with the decimals of its currency: "1250" JPY, "1.500" KWD. A finer one has all six."""
    smallest, amount = unit(currency), amount or Decimal(0)  # 0 has no sign
    exact = amount.quantize(smallest, context=_WIDE) if amount % smallest == 0 else None
    return f"{amount:.6f}" if exact is None else f"{exact:f}"


def show_millionths(amount: int) -> str:
    """The same of a whole number of millionths, in a third of the time."""
    if amount < 0:
        return f"-{show_millionths(-amount)}"
    rest = amount % 1_000_000
    if rest % 10_000:
        return f"{amount // 1_000_000}.{rest:06}".rstrip("0")
    return f"{amount // 1_000_000}.{rest // 10_000:02}"


def read_currency(text: str) -> str:
    """The code of a currency in capitals.

    Raises:
        ValueError: it is not a currency.
    """
    code = trim(text)
    code = code.upper() if code.isascii() else ""
    if code not in CURRENCIES:
        raise ValueError("must be a currency of ISO 4217, like EUR")
    return code
