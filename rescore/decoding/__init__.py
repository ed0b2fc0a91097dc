"""Methods that propose hypotheses.

Reading order: `base` (what a method of `dlmrescore decode` is), `ctc` (greedy and beam lists of
posteriors), `lattice_search` (the search of a lattice with a whole-sentence scorer).
"""
