-- Conversions told of through the API, and what lists of conversions and postbacks are found by.

-- Requests with an Idempotency-Key: what was told in them, in order, by the hashes of the postback log.
CREATE TABLE conversion_request (
    token_id  bigint NOT NULL,
    key       text   NOT NULL,
    digest    bytea  NOT NULL,  -- SHA-256 of what was told
    hashes    uuid[] NOT NULL,
    PRIMARY KEY (token_id, key)
);

CREATE INDEX conversion_order_id ON conversion (order_id) WHERE order_id IS NOT NULL;

-- The click that a postback names, as it was written: by the rules of tracker.conversion.
CREATE FUNCTION told_click(parameters jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(nullif(parameters->>'hash', ''), nullif(parameters->>'click_id', ''),
                    nullif(parameters->>'clickid', ''), nullif(parameters->>'transaction_id', ''))
$$;
CREATE INDEX postback_click ON postback (told_click(parameters), hash);
CREATE INDEX postback_conversion ON postback (conversion_id, hash);
CREATE INDEX postback_advertiser ON postback (advertiser_id, hash);
