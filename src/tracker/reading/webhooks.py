"""The log of requests to webhooks."""

from __future__ import annotations

from tracker.domain.webhooks import EVENTS, TEST
from tracker.parameters import Id, Text, about, choice
from tracker.reading.deliveries import LogQuery


class SentWebhookQuery(LogQuery):
    """Which requests."""

    webhook_id: Id = about("Requests to this webhook.")
    type: choice(*EVENTS, TEST) = about("Requests with events of this type.")  # type: ignore[valid-type]
    subject: Text = about("Requests about this object, as in conversions/17.")
    state: choice("waiting", "sent", "failed") = about("Requests in this state.")  # type: ignore[valid-type]
