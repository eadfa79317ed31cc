-- Clicks, append-only, partitioned by time through their hash (a UUIDv7 sorts by its millisecond).
-- Daily partitions click_YYYYMMDD are created ahead by housekeeping; whatever falls outside them lands in
-- click_default, which housekeeping empties into partitions of its own.

CREATE SEQUENCE click_id;

CREATE TABLE click (
    hash                uuid     NOT NULL PRIMARY KEY,
    id                  bigint   NOT NULL DEFAULT nextval('click_id'),
    group_hash          uuid,              -- hash of the visitor's first click in the window
    is_unique           boolean  NOT NULL,
    status              text     NOT NULL, -- accepted, forwarded, rejected
    reason              smallint NOT NULL, -- numbers of tracker.model.Reason
    is_bot              boolean  NOT NULL,
    bot_reason          text,
    is_test             boolean  NOT NULL,
    verdict_late        boolean  NOT NULL, -- the stream's verdict came after the answer
    requested_offer_id  bigint   NOT NULL,
    requested_url_id    bigint,
    offer_id            bigint   NOT NULL,
    offer_url_id        bigint,
    advertiser_id       bigint   NOT NULL,
    brand_id            bigint,
    affiliate_id        bigint   NOT NULL,
    aff_group_id        bigint,
    aff_sub   text NOT NULL, aff_sub2  text NOT NULL, aff_sub3  text NOT NULL, aff_sub4  text NOT NULL,
    aff_sub5  text NOT NULL, aff_sub6  text NOT NULL, aff_sub7  text NOT NULL, aff_sub8  text NOT NULL,
    aff_sub9  text NOT NULL, aff_sub10 text NOT NULL, aff_sub11 text NOT NULL, aff_sub12 text NOT NULL,
    aff_sub13 text NOT NULL, aff_sub14 text NOT NULL, aff_sub15 text NOT NULL, aff_sub16 text NOT NULL,
    aff_sub17 text NOT NULL, aff_sub18 text NOT NULL, aff_sub19 text NOT NULL, aff_sub20 text NOT NULL,
    adv_sub   text NOT NULL, adv_sub2  text NOT NULL, adv_sub3  text NOT NULL, adv_sub4  text NOT NULL,
    adv_sub5  text NOT NULL,
    affiliate_source    text     NOT NULL,
    external_id         text     NOT NULL,
    gaid                text     NOT NULL,
    idfa                text     NOT NULL,
    visitor_key         bigint   NOT NULL, -- 64-bit keyed hash of the visitor, as a signed number
    ip                  text     NOT NULL,
    user_agent          text     NOT NULL,
    client_hints        text     NOT NULL,
    language            text     NOT NULL,
    referrer            text     NOT NULL,
    host                text     NOT NULL,
    fetch_dest          text     NOT NULL,
    fetch_user          text     NOT NULL,
    device_os           text     NOT NULL,
    device_os_version   text     NOT NULL,
    device_brand        text     NOT NULL,
    device_model        text     NOT NULL,
    device_type         text     NOT NULL,
    platform            text     NOT NULL,
    browser             text     NOT NULL,
    browser_version     text     NOT NULL,
    country_code        text,
    region_code         text,
    city                text,
    isp                 text,
    mobile_carrier      text     NOT NULL,
    requested_link      text     NOT NULL,
    redirected_link     text     NOT NULL
) PARTITION BY RANGE (hash);

CREATE INDEX click_offer     ON click (offer_id, hash);
CREATE INDEX click_affiliate ON click (affiliate_id, hash);
CREATE INDEX click_by_id     ON click (id);

CREATE TABLE click_default PARTITION OF click DEFAULT;

-- A hash's time, for people who read the table with SQL.
CREATE FUNCTION click_time(hash uuid) RETURNS timestamptz LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT to_timestamp(('x0000' || left(replace(hash::text, '-', ''), 12))::bit(64)::bigint / 1000.0)
$$;

-- The quarter-hour a click belongs to, in Unix seconds / 900.
CREATE FUNCTION click_slot(hash uuid) RETURNS integer LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT (('x0000' || left(replace(hash::text, '-', ''), 12))::bit(64)::bigint / 900000)::integer
$$;

-- Clicks per quarter-hour and one dimension, counted in the transaction that stores them: exact totals
-- and the places of deep pages come from here.
CREATE TABLE click_count (
    dimension  text    NOT NULL CHECK (dimension IN ('all', 'offer', 'affiliate')),
    key        bigint  NOT NULL,  -- the offer's or affiliate's id; 0 for 'all'
    slot       integer NOT NULL,
    clicks     bigint  NOT NULL,
    PRIMARY KEY (dimension, key, slot)
);
