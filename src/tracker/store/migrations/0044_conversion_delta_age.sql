-- When a delta was made, so that one which nobody adds up is noticed.
ALTER TABLE conversion_delta ADD made_at timestamptz NOT NULL DEFAULT clock_timestamp();

-- As before. The columns have names now: others may follow.
CREATE OR REPLACE FUNCTION note_conversions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO conversion_delta (
            click_second, conversion_second, offer_id, offer_url_id, affiliate_id, country_code, device_type, device_os,
            browser, outcome, payout_currency, revenue_currency, conversions, over_cap, payout, revenue)
        SELECT click_second, floor(extract(epoch FROM created_at)), offer_id, offer_url_id, affiliate_id, country_code,
               device_type, device_os, browser, status, payout_currency, revenue_currency,
               -1, -is_over_cap::integer, -payout, -revenue
        FROM old_rows WHERE NOT is_test;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO conversion_delta (
            click_second, conversion_second, offer_id, offer_url_id, affiliate_id, country_code, device_type, device_os,
            browser, outcome, payout_currency, revenue_currency, conversions, over_cap, payout, revenue)
        SELECT click_second, floor(extract(epoch FROM created_at)), offer_id, offer_url_id, affiliate_id, country_code,
               device_type, device_os, browser, status, payout_currency, revenue_currency,
               1, is_over_cap::integer, payout, revenue
        FROM new_rows WHERE NOT is_test;
    END IF;
    RETURN NULL;
END $$;
