-- An offer may be a draft: only test clicks are served.

ALTER TABLE offer
    DROP CONSTRAINT offer_status_check,
    ADD CONSTRAINT offer_status_check CHECK (status IN ('active', 'paused', 'draft'));
