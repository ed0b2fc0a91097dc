"""Audio, and what a CTC recogniser says of it: posteriors frame by frame.

Reading order: `utterance`, `manifests` (which audio there is), `audio` (samples), `features`;
`symbols` (columns and text), `posteriors` (the record), `posterior_file` (the file), `formats`
(posteriors of other tools); `encoder` (what turns audio into posteriors), `recogniser` (ours),
`hub`, `windows` (long audio), `recognition` (the work of `dlmrescore posteriors`); `ctc`
(log-probabilities of texts), `ctc_paths` (greedy, alignment), `prefix_beam` (N-best lists),
`label_prior`.
"""

from rescore.acoustic.posteriors import Posteriors
from rescore.acoustic.symbols import Symbols

__all__ = ["Posteriors", "Symbols"]
