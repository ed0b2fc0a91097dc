"""Methods that propose hypotheses: the search of a lattice with a whole-sentence scorer."""
