-- Postbacks that are held until a goal or a status word is known, those that edges refused, and order ids that came
-- as unfilled macros.

-- One was sent, and it was absent: a macro that nobody filled, or a word for nothing. A click has one such of a goal.
ALTER TABLE conversion ADD order_absent boolean NOT NULL DEFAULT false;
CREATE UNIQUE INDEX conversion_order_absent ON conversion (click_hash, goal_id) WHERE order_absent;

ALTER TABLE postback
    ADD click    text,                       -- the click id in its normal form; NULL in rows from before this
    ADD request  text NOT NULL DEFAULT '',   -- method and path of a refused one, without secrets
    ADD held_at  bigint,                     -- catalogue version that a held one was last tried with
    DROP CONSTRAINT postback_result_check,
    ADD CONSTRAINT postback_result_check CHECK (
        result IN ('stored', 'updated', 'unchanged', 'parked', 'held', 'rejected', 'refused'));
CREATE INDEX postback_held ON postback (held_at, hash) WHERE result = 'held';
CREATE INDEX postback_refused ON postback (hash) WHERE result = 'refused';

DROP INDEX postback_click;
CREATE INDEX postback_click ON postback (coalesce(click, told_click(parameters)), hash);
