-- Clicks of finished days (UTC) by several columns at once, without the tests. Housekeeping builds a day from its clicks.
-- An hour of such pairs has as many rows as clicks, so there are only days.
CREATE TABLE offer_day (
    day                 integer  NOT NULL,  -- since 1970
    offer_id            bigint   NOT NULL,
    requested_offer_id  bigint   NOT NULL,
    advertiser_id       bigint   NOT NULL,
    brand_id            bigint,
    status              text     NOT NULL,
    reason              smallint NOT NULL,
    gross               bigint   NOT NULL,  -- as in report_count, with the next two
    clicks              bigint   NOT NULL,
    uniques             bigint   NOT NULL
);
CREATE INDEX offer_day_day ON offer_day (day);

CREATE TABLE affiliate_day (
    day           integer  NOT NULL,
    affiliate_id  bigint   NOT NULL,
    aff_group_id  bigint,
    status        text     NOT NULL,
    reason        smallint NOT NULL,
    gross         bigint   NOT NULL,
    clicks        bigint   NOT NULL,
    uniques       bigint   NOT NULL
);
CREATE INDEX affiliate_day_day ON affiliate_day (day);

CREATE TABLE offer_affiliate_day (
    day                 integer  NOT NULL,
    offer_id            bigint   NOT NULL,
    requested_offer_id  bigint   NOT NULL,
    advertiser_id       bigint   NOT NULL,
    brand_id            bigint,
    affiliate_id        bigint   NOT NULL,
    aff_group_id        bigint,
    status              text     NOT NULL,
    reason              smallint NOT NULL,
    gross               bigint   NOT NULL,
    clicks              bigint   NOT NULL,
    uniques             bigint   NOT NULL
);
CREATE INDEX offer_affiliate_day_day       ON offer_affiliate_day (day);
CREATE INDEX offer_affiliate_day_offer     ON offer_affiliate_day (offer_id, day);
CREATE INDEX offer_affiliate_day_affiliate ON offer_affiliate_day (affiliate_id, day);

-- The days that the rollups have. A day without a row, or that is not built, is read from its clicks.
CREATE TABLE rolled_up_day (
    day       integer PRIMARY KEY,
    is_built  boolean NOT NULL
);
