"""Methods that propose new hypotheses."""
