"""The API's errors in the words of pages."""

from __future__ import annotations

import pytest

from tracker.dashboard.fault_words import by_field, field_called, in_one_line, said
from tracker.errors import in_words

# What the API says, and what a page says.
SAID = [
    (
        "The token lacks the scope offers:write.",
        "You may not change the catalogue.",
    ),
    ("The token lacks the scope clicks:read or admin.", "You may not read clicks."),
    ("The token lacks the scope admin.", "You may not do what administrators do."),
    ("needs the scope conversions:write", "You may not create conversions and set their statuses"),
    ("This path shows money, and the token hides it.", "You do not see amounts."),
    ("This path needs a token of one affiliate.", "This is only for an affiliate."),
    (
        "This token belongs to affiliates. It reads only under /backend/open-api/v1/affiliates.",
        "This is not for affiliates.",
    ),
    ("List should have at least 1 item after validation, not 0", "needs at least one"),
    ("List should have at most 20 items after validation, not 21", "has more than 20"),
    ("String should have at least 1 character", "is empty"),
    ("String should have at most 500 characters", "has more than 500 characters"),
    ("must be greater than or equal to 60", "is less than 60"),
    ("must be a valid integer, unable to parse string as an integer", "is not a whole number"),
    ("must be a valid boolean, unable to interpret input", "is neither yes nor no"),
    ("must be 'active', 'paused' or 'draft'", "must be active, paused or draft"),
    ("is not after starts_at", "is not after “Starts at”"),
    ("or advertiser_id is missing", "or “Advertiser” is missing"),
    ("is missing: this token is of several affiliates", "is missing: you see the rows of several affiliates"),
    ("needs the macro {aff_sub}", "needs the macro {aff_sub}"),
    ("is not one of: last_7_days, today", "is not one of: last_7_days, today"),
    ("'aff_sub': is not a country", "'aff_sub': is not a country"),
    ("is null", "is empty"),
    ("must be user_agent or is_test", "must be user_agent or is_test"),
    ("It is still used by offers/3, offers/65.", "It is still used by offer 3, offer 65."),
    ("is not a whole number from 1 to 999999999999999999, written without leading zeros", "is not an id"),
]
CALLED = [
    ("offer_id", "Offer"),
    ("exclude_country_code", "Country is not"),
    ("url", "URL"),
    ("group_by", "Group by"),
    ("lines.3.booked_at", "Line 3, booked_at"),
    ("lines.3", "Line 3"),
    ("statuses.0", "Statuses 1"),
    ("body", "File"),
]


@pytest.mark.parametrize(("text", "words"), SAID)
def test_error_is_said_to_a_person(text: str, words: str) -> None:
    assert said(text) == words
    assert said(words) == words


@pytest.mark.parametrize(("name", "label"), CALLED)
def test_field_has_a_label(name: str, label: str) -> None:
    assert field_called(name) == label


def test_error_of_fields_is_said_with_their_labels() -> None:
    errors = {
        "offer_id": ["is missing"],
        "statuses": ["List should have at least 1 item after validation, not 0"],
    }
    assert in_one_line(in_words(errors), errors) == "Offer: is missing; Statuses: needs at least one"
    assert in_one_line("Nothing is booked.", errors) == "Nothing is booked."
    assert by_field(errors) == {"offer_id": "is missing", "statuses": "needs at least one"}
