-- An offer's or affiliate's counts are of one dimension: who takes the two for independent expects forty times
-- fewer rows than there are, and sorts all where the first would do.
CREATE STATISTICS click_count_keys (dependencies, ndistinct, mcv) ON dimension, key FROM click_count;
