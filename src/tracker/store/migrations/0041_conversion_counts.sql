-- Conversions added up for reports, without the tests: per day (UTC) and dimension of their clicks, and all of them per
-- quarter-hour. A quarter-hour and a dimension have about one conversion, so reports read those one by one.
CREATE TABLE conversion_count (
    basis             text     NOT NULL CHECK (basis IN ('click', 'conversion')),  -- slot is of the click, or its own
    quarters          smallint NOT NULL CHECK (quarters IN (1, 96)),  -- how many quarter-hours from slot on
    dimension         text     NOT NULL,
    slot              integer  NOT NULL,
    key               text     NOT NULL COLLATE "C",  -- as in report_count
    outcome           text     NOT NULL,              -- status of the conversions
    payout_currency   text     NOT NULL,
    revenue_currency  text     NOT NULL,
    conversions       bigint   NOT NULL,
    over_cap          bigint   NOT NULL,              -- of those conversions
    payout            numeric  NOT NULL,
    revenue           numeric  NOT NULL,
    PRIMARY KEY (basis, quarters, dimension, slot, key, outcome, payout_currency, revenue_currency)
) WITH (fillfactor = 60);

-- Changes of conversions that are not in conversion_count yet. Triggers only insert here, so writers wait for nobody.
-- A worker adds the rows up once a second, and deletes them. Readers add both in one snapshot.
CREATE TABLE conversion_delta (
    click_second       bigint   NOT NULL,
    conversion_second  bigint   NOT NULL,
    offer_id           bigint   NOT NULL,
    offer_url_id       bigint,
    affiliate_id       bigint   NOT NULL,
    country_code       text,
    device_type        text     NOT NULL,
    device_os          text     NOT NULL,
    browser            text     NOT NULL,
    outcome            text     NOT NULL,
    payout_currency    text     NOT NULL,
    revenue_currency   text     NOT NULL,
    conversions        smallint NOT NULL,  -- 1, or -1 for what a conversion was before
    over_cap           smallint NOT NULL,
    payout             numeric  NOT NULL,
    revenue            numeric  NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

CREATE FUNCTION note_conversions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO conversion_delta
        SELECT click_second, floor(extract(epoch FROM created_at)), offer_id, offer_url_id, affiliate_id, country_code,
               device_type, device_os, browser, status, payout_currency, revenue_currency,
               -1, -is_over_cap::integer, -payout, -revenue
        FROM old_rows WHERE NOT is_test;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO conversion_delta
        SELECT click_second, floor(extract(epoch FROM created_at)), offer_id, offer_url_id, affiliate_id, country_code,
               device_type, device_os, browser, status, payout_currency, revenue_currency,
               1, is_over_cap::integer, payout, revenue
        FROM new_rows WHERE NOT is_test;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER note_inserted AFTER INSERT ON conversion REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION note_conversions();
CREATE TRIGGER note_updated AFTER UPDATE ON conversion REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION note_conversions();
CREATE TRIGGER note_deleted AFTER DELETE ON conversion REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION note_conversions();

INSERT INTO conversion_count
SELECT basis, quarters, dimension, slot, key, status, payout_currency, revenue_currency,
       count(*), count(*) FILTER (WHERE is_over_cap), sum(payout), sum(revenue)
FROM conversion
CROSS JOIN LATERAL (VALUES
    ('click', click_second), ('conversion', floor(extract(epoch FROM created_at))::bigint)
) AS time (basis, second)
CROSS JOIN LATERAL (VALUES
    (1, 'all', ''), (96, 'all', ''), (96, 'offer', offer_id::text), (96, 'offer_url', coalesce(offer_url_id::text, '')),
    (96, 'affiliate', affiliate_id::text), (96, 'country', coalesce(country_code, '')), (96, 'device_type', device_type),
    (96, 'os', device_os), (96, 'browser', browser)
) AS of (quarters, dimension, key)
CROSS JOIN LATERAL (SELECT (second / 900 / quarters * quarters)::integer AS slot) AS place
WHERE NOT is_test
GROUP BY basis, quarters, dimension, slot, key, status, payout_currency, revenue_currency;
