-- Postbacks that wait for dead letters: their click may be among them.

ALTER TABLE postback
    ADD waits_until timestamptz,  -- of a waiting one: then it is rejected
    DROP CONSTRAINT postback_result_check,
    ADD CONSTRAINT postback_result_check CHECK (
        result IN ('stored', 'updated', 'unchanged', 'parked', 'waiting', 'held', 'rejected', 'refused'));
CREATE INDEX postback_waiting ON postback (waits_until) WHERE result = 'waiting';
DROP INDEX postback_parked_click;
CREATE INDEX postback_unsettled_click ON postback (click_hash, arrival) WHERE result IN ('parked', 'waiting');
