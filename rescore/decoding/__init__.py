"""Methods that propose new hypotheses: today the search of a lattice with a whole-sentence scorer."""
