"""Conditional changes: versions as entity tags (RFC 9110, section 8.8.3)."""

from __future__ import annotations

import re

# Possessive: nothing is tried twice, however long the header is.
_LISTED_TAG = re.compile(r'[ \t]*+(?:(W/)?"([\x21\x23-\x7e\x80-\xff]*+)")?[ \t]*+(?:,|\Z)')


def etag(version: int) -> str:
    return f'"{version}"'


def if_match_holds(condition: str, version: int) -> bool:
    """Whether If-Match holds (RFC 9110, section 13.1.1). Weak tags and unreadable lists never do.

    A tag's form is that of section 8.8.3, a list's that of section 5.6.1.2, which may have empty elements.
    """
    if condition.strip(" \t") == "*":
        return True
    is_matched, at = False, 0
    while at < len(condition):
        element = _LISTED_TAG.match(condition, at)
        if element is None:
            return False
        is_matched |= element.groups() == (None, str(version))
        at = element.end()
    return is_matched
