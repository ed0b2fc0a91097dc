"""Make the .pt files of this folder with k2 itself.

`python make_samples.py`, under Python 3.10 with k2 1.23.4 and torch 1.13.1.

The paths of every lattice, as k2 sees them, go to `paths.json`:
tests/lattice/test_lattice_k2_pt.py compares with them.
"""

from __future__ import annotations

import json
from pathlib import Path

import k2
import torch

HERE = Path(__file__).parent

#     the/-1.25     <eps>/-0.5
#   0 ---------- 1 ----------- 3 --- 4      words: 1 the, 2 cat, 3 hat, 4 sat;
#   the last arc is k2's final arc, label -1
#    \__ the/-2.5 __ 2 __ hat/-0.75 __/
DIAMOND = """0 1 7 1 -1.25
0 2 8 1 -2.5
1 3 0 0 -0.5
2 3 9 3 -0.75
3 4 -1 -1 -0.125
4
"""
CHAIN = """0 1 5 2 -3.5
1 2 6 4 -1.0
2 3 -1 -1 0
3
"""


def transducer(text: str) -> k2.Fsa:
    return k2.Fsa.from_str(text, aux_label_names=["aux_labels"])


def scored(fsa: k2.Fsa) -> k2.Fsa:
    """With the n-gram's part of every score and one more attribute of each kind."""
    count = fsa.arcs.num_elements() if len(fsa.shape) == 3 else fsa.scores.numel()
    fsa.lm_scores = -0.25 * torch.arange(count, dtype=torch.float32)
    fsa.confidence = -0.0625 * torch.arange(count, dtype=torch.float32)
    fsa.frame = torch.arange(count, dtype=torch.int32)
    return fsa


def ragged(fsa: k2.Fsa) -> k2.Fsa:
    """The first arc has two words, the second none, the others their own."""
    words = [[int(word)] for word in fsa.aux_labels]
    words[0], words[1] = [1, 4], []
    fsa.aux_labels = k2.RaggedTensor(words)
    return fsa


def paths(fsa: k2.Fsa) -> list[list[object]]:
    """(words, total, n-gram score) of every path of one lattice, sorted, by k2's own arcs."""
    arcs = fsa.arcs.values()[:, :3].tolist()
    words = fsa.aux_labels.tolist()
    found: list[list[object]] = []

    def walk(state: int, said: list[int], total: float, lm: float) -> None:
        for number, (source, target, label) in enumerate(arcs):
            if source != state:
                continue
            here = words[number] if isinstance(words[number], list) else [words[number]]
            step = (
                said + [word for word in here if word > 0],
                total + fsa.scores[number].item(),
                lm + fsa.lm_scores[number].item(),
            )
            if label == -1:
                found.append(list(step))
            else:
                walk(target, *step)

    walk(0, [], 0.0, 0.0)
    return sorted(found)


def three() -> k2.Fsa:
    """The second has no path to its end, so that k2.connect leaves nothing of it."""
    return k2.connect(
        k2.create_fsa_vec(
            [transducer(DIAMOND), transducer("0 1 5 2 -3.5\n2 3 -1 -1 0\n3\n"), transducer(CHAIN)]
        )
    )


def main() -> None:
    batch, batch_ragged = scored(three()), ragged(scored(three()))
    samples = {
        "single.pt": scored(transducer(DIAMOND)),
        "single_ragged.pt": ragged(scored(transducer(DIAMOND))),
        "batch.pt": batch,
        "batch_ragged.pt": batch_ragged,
        "no_lm_scores.pt": transducer(CHAIN),
        "no_aux_labels.pt": k2.Fsa.from_str("0 1 5 -3.5\n1 2 -1 0\n2\n"),
    }
    expected = {}
    for name, fsa in samples.items():
        torch.save(fsa.as_dict(), HERE / name)
        if not name.startswith("no_"):
            expected[name] = (
                [paths(fsa)]
                if len(fsa.shape) == 2
                else [paths(fsa[i]) for i in range(fsa.shape[0])]
            )
    torch.save(
        {
            "cut-1": scored(transducer(CHAIN)).as_dict(),
            "cut-2": scored(transducer(DIAMOND)).as_dict(),
        },
        HERE / "by_cut.pt",
    )
    torch.save([scored(transducer(CHAIN)).as_dict(), batch.as_dict()], HERE / "list.pt")
    (HERE / "paths.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
