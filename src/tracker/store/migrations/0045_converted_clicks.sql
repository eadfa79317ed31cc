-- More of the click, frozen, so that its filters count and find clicks with a conversion without reading the clicks.
-- Null: the click was gone when these columns came. Then no filter finds it.
ALTER TABLE conversion
    ADD click_status text,  -- `status` is the conversion's own
    ADD is_unique    boolean,
    ADD is_bot       boolean;

-- No sum of conversions changes, so nothing is noted. OFFSET 0: each click is looked up in its partition by its hash.
ALTER TABLE conversion DISABLE TRIGGER note_updated;
UPDATE conversion SET (click_status, is_unique, is_bot) = (of_click.status, of_click.is_unique, of_click.is_bot)
FROM (
    SELECT click_hash, click.* FROM (SELECT DISTINCT click_hash FROM conversion) AS converted
    CROSS JOIN LATERAL (SELECT status, is_unique, is_bot FROM click WHERE hash = click_hash OFFSET 0) AS click
) AS of_click
WHERE conversion.click_hash = of_click.click_hash;
ALTER TABLE conversion ENABLE TRIGGER note_updated;

-- Counts by these columns need only the index. With the goal, a postback finds its conversion among thousands of a click.
DROP INDEX conversion_click;
CREATE INDEX conversion_click ON conversion (click_hash, goal_id) INCLUDE (click_status, is_unique, is_bot);
