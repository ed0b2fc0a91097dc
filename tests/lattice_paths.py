"""All paths of a small lattice, by walking it, to compare readers and algorithms with."""

from __future__ import annotations

from rescore.lattice import Lattice, text_of


def paths(lattice: Lattice) -> list[tuple[str, float, float]]:
    """(text, am, lm) of every path, sorted."""
    all_paths: list[tuple[str, float, float]] = []
    last = lattice.states - 1
    arcs = list(
        zip(
            *(
                column.tolist()
                for column in (lattice.source, lattice.target, lattice.word, lattice.am, lattice.lm)
            ),
            strict=True,
        )
    )

    def walk(state: int, words: list[int], am: float, lm: float) -> None:
        if state == last:
            all_paths.append((text_of(lattice.symbols, words), am, lm))
        for source, target, word, arc_am, arc_lm in arcs:
            if source == state:
                walk(target, [*words, word], am + arc_am, lm + arc_lm)

    if lattice.arcs:
        walk(0, [], 0.0, 0.0)
    return sorted(all_paths)
