-- The backup that a database was restored from, until an operator says that it takes the original's place: a copy sends
-- nothing to others.
ALTER TABLE deployment ADD COLUMN copy_of timestamptz;
