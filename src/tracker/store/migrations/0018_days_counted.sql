-- Clicks per day (UTC) beside those per quarter-hour, at the day's first slot: a total over months is then a sum of
-- a row a day.
ALTER TABLE click_count DROP CONSTRAINT click_count_dimension_check;
ALTER TABLE click_count ADD CONSTRAINT click_count_dimension_check
    CHECK (dimension IN ('all', 'offer', 'affiliate', 'all_day', 'offer_day', 'affiliate_day'));

INSERT INTO click_count (dimension, key, slot, clicks)
SELECT dimension || '_day', key, slot / 96 * 96, sum(clicks) FROM click_count GROUP BY dimension, key, slot / 96;
