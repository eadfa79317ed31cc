-- Ids of earlier trackers belong to a source, the operator's name of that tracker. Two sources may have the same id.

-- '': created over the API, or imported by a version that did not note the source. That version goes on writing this.
ALTER TABLE legacy_click ADD source text NOT NULL DEFAULT '';
ALTER TABLE legacy_click DROP CONSTRAINT legacy_click_pkey, ADD PRIMARY KEY (legacy_id, source);
CREATE INDEX legacy_click_hash ON legacy_click (hash);

-- The clicks that imports stored. A click that was there before its import has no row here.
CREATE TABLE imported_click (
    hash    uuid PRIMARY KEY,
    source  text NOT NULL
);

-- NULL: no import stored it, or an earlier version's import. `legacy_id` is the conversion's own id, not its click's.
ALTER TABLE conversion ADD import_source text, ADD legacy_id text;
CREATE INDEX conversion_imported  ON conversion (import_source, id) WHERE import_source IS NOT NULL;
CREATE INDEX conversion_legacy_id ON conversion (legacy_id) WHERE legacy_id IS NOT NULL;
