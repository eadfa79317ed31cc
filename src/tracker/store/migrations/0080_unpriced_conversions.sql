-- Conversions that wait for a price. Operators look at their number, by goal, on each visit of the page of operations.
-- Every update of a conversion writes its indexes already, because its version changes.
CREATE INDEX conversion_unpriced ON conversion (offer_id, goal_id) WHERE is_unpriced AND status IN ('pending', 'hold');
