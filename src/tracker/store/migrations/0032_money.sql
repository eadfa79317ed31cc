-- Prices that somebody set, refunds, the order of postbacks, and caps that count from when they are there.

-- A base goal is made together with its offer, and nobody has set what it pays until somebody does: 0 counts.
-- Other goals are made by somebody, so what they pay is set. So are base goals that ever paid anything.
ALTER TABLE goal ADD is_priced boolean NOT NULL DEFAULT true;

DELETE FROM goal_price AS noted USING goal
WHERE goal.id = noted.goal_id AND goal.is_base AND (noted.affiliate_id, noted.country_code) IS NULL
    AND (noted.payout, noted.revenue) = (0, 0)
    AND NOT EXISTS (
        SELECT FROM goal_price AS earlier
        WHERE earlier.goal_id = noted.goal_id AND (earlier.affiliate_id, earlier.country_code) IS NULL
            AND earlier.valid_from < noted.valid_from AND (earlier.payout, earlier.revenue) <> (0, 0)
    );
UPDATE goal SET is_priced = false
WHERE is_base AND NOT EXISTS (
    SELECT FROM goal_price WHERE goal_id = goal.id AND (affiliate_id, country_code) IS NULL
);

-- Of one moment the later row holds. A catalogue is imported in one transaction, and so holds from one moment on.
ALTER TABLE goal_price
    ADD id bigint GENERATED ALWAYS AS IDENTITY,
    ALTER valid_from SET DEFAULT now();

CREATE OR REPLACE FUNCTION add_base_goal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO goal (offer_id, name, is_base, is_priced) VALUES (NEW.id, 'Conversion', true, false);
    RETURN NULL;
END $$;

-- A price that is taken back ends with a row without amounts, as terms do.
CREATE OR REPLACE FUNCTION note_goal_price() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO goal_price (goal_id, payout_type, payout, revenue_type, revenue, currency)
    SELECT NEW.id, NEW.payout_type, CASE WHEN NEW.is_priced THEN NEW.payout END, NEW.revenue_type,
           CASE WHEN NEW.is_priced THEN NEW.revenue END, NEW.currency
    WHERE NEW.is_priced OR (TG_OP = 'UPDATE' AND OLD.is_priced);
    INSERT INTO goal_price (goal_id, affiliate_id, country_code, payout_type, payout, revenue_type, revenue, currency)
    SELECT NEW.id, affiliate_id, country_code, NEW.payout_type, coalesce(payout, NEW.payout), NEW.revenue_type,
           coalesce(revenue, NEW.revenue), NEW.currency
    FROM goal_terms WHERE goal_id = NEW.id;
    RETURN NULL;
END $$;
DROP TRIGGER note_price ON goal;
CREATE TRIGGER note_price
    AFTER INSERT OR UPDATE OF payout_type, payout, revenue_type, revenue, currency, is_priced ON goal
    FOR EACH ROW EXECUTE FUNCTION note_goal_price();

-- An amount that is not 0 is set, whoever writes it.
CREATE FUNCTION price_goal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.is_priced := NEW.is_priced OR NEW.payout <> 0 OR NEW.revenue <> 0;
    RETURN NEW;
END $$;
CREATE TRIGGER price_goal BEFORE INSERT OR UPDATE ON goal FOR EACH ROW EXECUTE FUNCTION price_goal();

-- The window of a goal with a parent is heeded from now on. The usual one is not: nobody set it for such a goal.
UPDATE goal SET click_window = NULL WHERE parent_goal_id IS NOT NULL AND click_window = 2592000;

ALTER TABLE conversion
    ADD is_unpriced boolean NOT NULL DEFAULT false,        -- nobody had set what its goal pays
    ADD refunded    numeric(20, 6) NOT NULL DEFAULT 0;     -- of sale_amount, in its currency

-- Refunds that advertisers gave an id: each is a step, and is taken once.
CREATE TABLE conversion_refund (
    conversion_id  bigint NOT NULL REFERENCES conversion,
    refund_id      text   NOT NULL,
    amount         numeric(20, 6) NOT NULL,
    postback_hash  uuid   NOT NULL,
    PRIMARY KEY (conversion_id, refund_id)
);

ALTER TABLE conversion_entry
    DROP CONSTRAINT conversion_entry_kind_check,
    ADD CONSTRAINT conversion_entry_kind_check CHECK (kind IN ('approval', 'reversal', 'correction'));

-- The order in which postbacks came off the stream. Hashes are in the order of the edges' clocks.
CREATE SEQUENCE postback_arrival;
ALTER TABLE postback
    ADD arrival     bigint,
    ADD click_hash  uuid,  -- of the click that it names
    ADD order_id    text,
    ALTER arrival SET DEFAULT nextval('postback_arrival'),
    DROP CONSTRAINT postback_result_check,
    ADD CONSTRAINT postback_result_check CHECK (
        result IN ('stored', 'updated', 'unchanged', 'parked', 'held', 'rejected'));
ALTER SEQUENCE postback_arrival OWNED BY postback.arrival;

WITH parked AS (
    SELECT hash, replace(lower(told_click(parameters)), '-', '') AS click, told_click(parameters) AS legacy_id,
           row_number() OVER (ORDER BY hash) AS arrival
    FROM postback WHERE result = 'parked'
)
UPDATE postback SET
    arrival = parked.arrival,
    click_hash = CASE WHEN parked.click ~ '^[0-9a-f]{32}$' THEN parked.click::uuid ELSE legacy_click.hash END,
    order_id = coalesce(nullif(parameters->>'order_id', ''), nullif(parameters->>'tid', ''),
                        nullif(parameters->>'action_id', ''), nullif(parameters->>'conversion_unique_id', ''),
                        nullif(parameters->>'transaction_id', ''))
FROM parked LEFT JOIN legacy_click USING (legacy_id) WHERE parked.hash = postback.hash;
SELECT setval('postback_arrival', (SELECT count(*) + 1 FROM postback WHERE result = 'parked'));

CREATE INDEX postback_parked_arrival ON postback (arrival) WHERE result = 'parked';
CREATE INDEX postback_parked_click ON postback (click_hash, arrival) WHERE result = 'parked';
CREATE INDEX postback_parked_order ON postback (advertiser_id, order_id, arrival) WHERE result = 'parked';
CREATE INDEX postback_held_click ON postback (click_hash, arrival) WHERE result = 'held';

-- A cap counts from when it is there. One on conversions counts those that are stored after it; one on clicks has a
-- counter of its own where there was such a cap before. Caps that are there go on counting as they did.
ALTER TABLE cap
    ADD counts_after  bigint  NOT NULL DEFAULT 0,  -- id of a conversion
    ADD series        integer NOT NULL DEFAULT 0;  -- how many such caps there were before
CREATE TABLE former_cap (
    offer_id      bigint  NOT NULL,
    affiliate_id  bigint,
    counts        text    NOT NULL,
    period        text    NOT NULL,
    series        integer NOT NULL,  -- of the next one
    UNIQUE NULLS NOT DISTINCT (offer_id, affiliate_id, counts, period)
);

CREATE FUNCTION begin_cap() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' OR (NEW.counts, NEW.period) <> (OLD.counts, OLD.period) THEN
        NEW.counts_after := coalesce((SELECT max(id) FROM conversion), 0);
        NEW.series := coalesce((
            SELECT series FROM former_cap
            WHERE (offer_id, counts, period) = (NEW.offer_id, NEW.counts, NEW.period)
                AND affiliate_id IS NOT DISTINCT FROM NEW.affiliate_id), 0);
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER begin_cap BEFORE INSERT OR UPDATE OF counts, period ON cap
    FOR EACH ROW EXECUTE FUNCTION begin_cap();

CREATE FUNCTION end_cap() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR (NEW.counts, NEW.period) <> (OLD.counts, OLD.period) THEN
        INSERT INTO former_cap VALUES (OLD.offer_id, OLD.affiliate_id, OLD.counts, OLD.period, OLD.series + 1)
        ON CONFLICT (offer_id, affiliate_id, counts, period) DO UPDATE SET series = excluded.series;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER end_cap AFTER DELETE OR UPDATE OF counts, period ON cap
    FOR EACH ROW EXECUTE FUNCTION end_cap();

-- What a blocked or archived affiliate is not told is held. Of one conversion and URL a later change waits for
-- the earlier one.
ALTER TABLE sent_postback
    DROP CONSTRAINT sent_postback_state_check,
    ADD CONSTRAINT sent_postback_state_check CHECK (state IN ('waiting', 'sent', 'failed', 'held'));
CREATE INDEX sent_postback_unsent ON sent_postback (conversion_id, affiliate_postback_id, change_id)
    WHERE state = 'waiting';
CREATE INDEX sent_postback_held ON sent_postback (affiliate_id, id) WHERE state = 'held';
