-- The book added up by month (UTC) and by line of statements. Entries never change, so no trigger is needed: the entries
-- up to the ids of book_carried are in book_month, and readers add the later ones. Housekeeping carries them over, also
-- those from before this migration, some thousands at a time.
CREATE TABLE book_month (
    party     text    NOT NULL CHECK (party IN ('affiliate', 'advertiser')),
    party_id  bigint  NOT NULL,
    currency  text    NOT NULL,
    month     date    NOT NULL,  -- its first day
    line      text    NOT NULL,  -- of a statement: booked, adjustments, or the kind of an entry by hand
    entries   bigint  NOT NULL,  -- those that are not 0
    amount    numeric NOT NULL,
    PRIMARY KEY (party, party_id, currency, month, line)
);
CREATE TABLE book_carried (
    is_only           boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    conversion_entry  bigint NOT NULL,  -- the last id that is in book_month
    manual_entry      bigint NOT NULL
);
INSERT INTO book_carried (conversion_entry, manual_entry) VALUES (0, 0);

-- The last ids of the book. A transaction that books may commit an id below those that are there. Under this lock no such
-- transaction is open. Bookings wait for it at most so long, and only if another transaction keeps it waiting.
CREATE FUNCTION last_entries(OUT conversion_entry bigint, OUT manual_entry bigint)
LANGUAGE plpgsql SET lock_timeout = '200ms' AS $$
BEGIN
    LOCK TABLE conversion_entry, manual_entry IN SHARE MODE;
    SELECT coalesce(max(id), 0) INTO conversion_entry FROM conversion_entry;
    SELECT coalesce(max(id), 0) INTO manual_entry FROM manual_entry;
END $$;

-- A statement names the closed periods that adjustments are of. They are few.
CREATE INDEX conversion_entry_adjustment ON conversion_entry (booked_at) WHERE is_adjustment;
