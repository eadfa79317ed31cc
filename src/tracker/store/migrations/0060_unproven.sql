-- Postbacks in a form that come without proof: where the advertiser accepts them, they make conversions on hold.
ALTER TABLE advertiser ADD accepts_unproven boolean NOT NULL DEFAULT false;
ALTER TABLE conversion ADD is_unproven boolean NOT NULL DEFAULT false;  -- until a proof or the operator decides
CREATE INDEX conversion_unproven ON conversion (created_at, id) WHERE is_unproven;
