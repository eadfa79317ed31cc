"""A made-up history for `tracker demo`, which comes in through the ordinary import."""
