-- Sales that nobody but a browser has told of: a percentage of one is paid once the advertiser or the operator names it.
ALTER TABLE conversion ADD COLUMN sale_by_browser boolean NOT NULL DEFAULT false;

UPDATE conversion SET sale_by_browser = true
FROM postback AS first
WHERE first.hash = conversion.hash AND first.source = 'pixel' AND conversion.sale_amount IS NOT NULL
    AND NOT EXISTS (
        SELECT FROM postback AS later
        WHERE later.conversion_id = conversion.id AND later.source <> 'pixel' AND later.result = 'updated'
            AND later.parameters ->> 'sale_amount' <> ''
    );
