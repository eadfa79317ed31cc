-- Conversions of which nobody but a browser has told yet: their order ids are an advertiser's server's to take.
ALTER TABLE conversion ADD COLUMN told_by_browser boolean NOT NULL DEFAULT false;

UPDATE conversion SET told_by_browser = true
WHERE status = 'pending' AND id IN (
    SELECT conversion_id FROM conversion_change GROUP BY conversion_id HAVING bool_and(source = 'pixel')
);
