-- Money that is booked by hand: entries of a party, and corrected amounts of conversions.

-- What no conversion says: a bonus, a fee, a chargeback, a payment. An entry is undone by another that reverses it.
CREATE TABLE manual_entry (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    affiliate_id   bigint REFERENCES affiliate,
    advertiser_id  bigint REFERENCES advertiser,
    kind           text NOT NULL CHECK (kind IN ('bonus', 'fee', 'chargeback', 'payment')),
    amount         numeric(20, 6) NOT NULL CHECK (amount > 0),
    currency       text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    change         numeric(20, 6) NOT NULL CHECK (abs(change) = amount),  -- of the party's balance
    booked_at      timestamptz NOT NULL,
    reason         text NOT NULL CHECK (reason <> ''),
    reference      text NOT NULL DEFAULT '',  -- such as the number of a bank transfer. '' without one
    reverses       bigint UNIQUE REFERENCES manual_entry,
    author         text NOT NULL,             -- name of the token
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (num_nonnulls(affiliate_id, advertiser_id) = 1)
);
CREATE INDEX manual_entry_affiliate ON manual_entry (affiliate_id, booked_at) WHERE affiliate_id IS NOT NULL;
CREATE INDEX manual_entry_advertiser ON manual_entry (advertiser_id, booked_at) WHERE advertiser_id IS NOT NULL;
CREATE INDEX manual_entry_booked ON manual_entry (booked_at, id);
CREATE INDEX manual_entry_reference ON manual_entry (reference) WHERE reference <> '';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON manual_entry
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Requests under an Idempotency-Key that booked money, with their answers.
CREATE TABLE money_request (
    token_id  bigint NOT NULL,
    key       text   NOT NULL,
    digest    bytea  NOT NULL,  -- SHA-256 of the path and the body
    answer    text   NOT NULL,  -- JSON
    PRIMARY KEY (token_id, key)
);

-- Amounts of conversions that the operator set. Later postbacks do not change the amounts of such conversions.
ALTER TABLE conversion ADD corrected text[] NOT NULL DEFAULT '{}'
    CHECK (corrected <@ '{payout,revenue,sale_amount}');
CREATE TABLE conversion_correction (
    id                  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    conversion_id       bigint NOT NULL REFERENCES conversion,
    at                  timestamptz NOT NULL DEFAULT clock_timestamp(),
    payout_before       numeric(20, 6) NOT NULL,
    payout              numeric(20, 6) NOT NULL,
    revenue_before      numeric(20, 6) NOT NULL,
    revenue             numeric(20, 6) NOT NULL,
    sale_amount_before  numeric(20, 6),
    sale_amount         numeric(20, 6),
    reason              text NOT NULL CHECK (reason <> ''),
    author              text NOT NULL  -- name of the token
);
CREATE INDEX conversion_correction_conversion ON conversion_correction (conversion_id, id);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON conversion_correction
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
