-- Clicks of finished days (UTC) by country and device type, alone and with offers or affiliates, as in 0047.
CREATE TABLE visitor_day (
    day           integer  NOT NULL,  -- since 1970
    country_code  text,
    device_type   text     NOT NULL,
    status        text     NOT NULL,
    reason        smallint NOT NULL,
    gross         bigint   NOT NULL,  -- as in report_count, with the next two
    clicks        bigint   NOT NULL,
    uniques       bigint   NOT NULL
);
CREATE INDEX visitor_day_day ON visitor_day (day);

CREATE TABLE offer_visitor_day (
    day                 integer  NOT NULL,
    offer_id            bigint   NOT NULL,
    requested_offer_id  bigint   NOT NULL,
    advertiser_id       bigint   NOT NULL,
    brand_id            bigint,
    country_code        text,
    device_type         text     NOT NULL,
    status              text     NOT NULL,
    reason              smallint NOT NULL,
    gross               bigint   NOT NULL,
    clicks              bigint   NOT NULL,
    uniques             bigint   NOT NULL
);
CREATE INDEX offer_visitor_day_day   ON offer_visitor_day (day);
CREATE INDEX offer_visitor_day_offer ON offer_visitor_day (offer_id, day);

CREATE TABLE affiliate_visitor_day (
    day           integer  NOT NULL,
    affiliate_id  bigint   NOT NULL,
    aff_group_id  bigint,
    country_code  text,
    device_type   text     NOT NULL,
    status        text     NOT NULL,
    reason        smallint NOT NULL,
    gross         bigint   NOT NULL,
    clicks        bigint   NOT NULL,
    uniques       bigint   NOT NULL
);
CREATE INDEX affiliate_visitor_day_day       ON affiliate_visitor_day (day);
CREATE INDEX affiliate_visitor_day_affiliate ON affiliate_visitor_day (affiliate_id, day);

-- Days that are built have none of these rows yet. Housekeeping builds them again, the latest first.
ALTER TABLE rolled_up_day ADD has_visitors boolean NOT NULL DEFAULT false;
