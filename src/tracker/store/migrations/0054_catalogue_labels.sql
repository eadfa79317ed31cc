-- What the network keeps for itself about its partners and offers. Edges and partners do not read it.

ALTER TABLE advertiser
    ADD email        text   NOT NULL DEFAULT '',
    ADD contact      text   NOT NULL DEFAULT '',
    ADD note         text   NOT NULL DEFAULT '',
    ADD external_id  text   CHECK (external_id <> ''),
    ADD tags         text[] NOT NULL DEFAULT '{}';
ALTER TABLE affiliate
    ADD email        text   NOT NULL DEFAULT '',
    ADD contact      text   NOT NULL DEFAULT '',
    ADD note         text   NOT NULL DEFAULT '',
    ADD external_id  text   CHECK (external_id <> ''),
    ADD tags         text[] NOT NULL DEFAULT '{}';
ALTER TABLE offer
    ADD category     text   NOT NULL DEFAULT '',
    ADD note         text   NOT NULL DEFAULT '',
    ADD external_id  text   CHECK (external_id <> ''),
    ADD tags         text[] NOT NULL DEFAULT '{}';

-- Another system names one row by it. An archived row does not keep its successor from having it.
CREATE UNIQUE INDEX advertiser_external_id ON advertiser (external_id) WHERE external_id IS NOT NULL AND NOT is_archived;
CREATE UNIQUE INDEX affiliate_external_id  ON affiliate  (external_id) WHERE external_id IS NOT NULL AND NOT is_archived;
CREATE UNIQUE INDEX offer_external_id      ON offer      (external_id) WHERE external_id IS NOT NULL AND NOT is_archived;
