-- Caps that were nearly full or full in a period, and what needs the operator's attention.

-- Each is noted once in a period. A cap with another amount is another one.
CREATE TABLE cap_mark (
    cap_id        bigint      NOT NULL,
    affiliate_id  bigint      NOT NULL,  -- whose count it is, 0 = everybody's
    starts_at     timestamptz NOT NULL,  -- of the period
    amount        bigint      NOT NULL,
    percent       smallint    NOT NULL CHECK (percent IN (90, 100)),
    offer_id      bigint      NOT NULL,
    counts        text        NOT NULL,
    period        text        NOT NULL,
    closes        boolean     NOT NULL,  -- the offer, when it is full
    ends_at       timestamptz NOT NULL,  -- infinity: never
    at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (cap_id, affiliate_id, counts, period, starts_at, amount, percent)
);
CREATE INDEX cap_mark_end ON cap_mark (ends_at);

-- What needs attention now. A worker compares it with what it finds, and notes and tells the differences.
CREATE TABLE alert (
    kind       text        NOT NULL,
    subject    text        NOT NULL,  -- path of the object, as in the API
    text       text        NOT NULL,
    raised_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (kind, subject)
);
