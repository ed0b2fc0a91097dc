"""From scores to decisions: weights, totals, decisions, the line search, tuning, sweeps."""
