-- Test clicks, which are few. The counts of reports leave them out, so totals of lists add them.

CREATE INDEX click_test ON click (hash) WHERE is_test;
