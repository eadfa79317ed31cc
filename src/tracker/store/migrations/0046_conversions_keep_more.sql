-- Of the click, frozen like the others, so that reports by these read no click. NULL: written by an earlier version.
ALTER TABLE conversion
    ADD brand_id            bigint,
    ADD aff_group_id        bigint,
    ADD requested_offer_id  bigint,
    ADD region_code         text;

-- No sum changes, so no delta is needed.
ALTER TABLE conversion DISABLE TRIGGER note_updated;
UPDATE conversion SET (brand_id, aff_group_id, requested_offer_id, region_code)
    = (click.brand_id, click.aff_group_id, click.requested_offer_id, click.region_code)
FROM click WHERE click.hash = click_hash;
ALTER TABLE conversion ENABLE TRIGGER note_updated;
