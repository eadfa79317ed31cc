-- A token is bound to a set of affiliates or of advertisers. A token of one owner keeps showing its id.
ALTER TABLE token
    ADD affiliate_ids   bigint[] NOT NULL DEFAULT '{}',  -- distinct, in order
    ADD advertiser_ids  bigint[] NOT NULL DEFAULT '{}';

-- The secret is the same, so the version is, too.
ALTER TABLE token DISABLE TRIGGER raise_version;
UPDATE token SET affiliate_ids = array_remove(ARRAY[affiliate_id], NULL),
    advertiser_ids = array_remove(ARRAY[advertiser_id], NULL)
WHERE affiliate_id IS NOT NULL OR advertiser_id IS NOT NULL;
ALTER TABLE token ENABLE TRIGGER raise_version;

ALTER TABLE token DROP affiliate_id, DROP advertiser_id;
ALTER TABLE token
    ADD affiliate_id   bigint GENERATED ALWAYS AS (
        CASE cardinality(affiliate_ids) WHEN 1 THEN affiliate_ids[1] END) STORED,
    ADD advertiser_id  bigint GENERATED ALWAYS AS (
        CASE cardinality(advertiser_ids) WHEN 1 THEN advertiser_ids[1] END) STORED,
    ADD CHECK (affiliate_ids = '{}' OR advertiser_ids = '{}');
