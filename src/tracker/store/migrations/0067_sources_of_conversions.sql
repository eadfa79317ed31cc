-- The source of a conversion's own earlier id. It may be another than the name of the import that stored it.
-- NULL: the import's. That is also what earlier versions go on writing.
ALTER TABLE conversion ADD legacy_source text;
