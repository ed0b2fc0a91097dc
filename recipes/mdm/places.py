"""What the places of frames are worth: any command of dlmrescore with others in cross-attention.

    python places.py scaled train mdm --corpus ... -o runs/scaled
    python places.py scaled decode dev.tsv --method mdm --model runs/scaled -o dev.jsonl

    emitted   a frame stands at the number of symbols that CTC expects to be emitted by then
    scaled    as far along the expected number of symbols as the frame is along the audio
    none      all frames stand at 0

A model has to decode with the places that it was trained with. Canvases are as long as ever.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from rescore.cli import cli
from rescore.models.audio_network import AudioNetwork, Heard

KINDS = ("emitted", "scaled", "none")


def places_of(kind: str, emitted: Tensor, lengths: Tensor) -> Tensor:
    """(B, M) places of frames of utterances of `lengths` (B,) frames."""
    if kind == "emitted":
        return emitted
    if kind == "none":
        return torch.zeros_like(emitted)
    lengths = lengths.to(emitted.device)[:, None]
    frames = torch.arange(1, emitted.shape[1] + 1, device=emitted.device)
    return emitted.gather(1, lengths - 1) * frames / lengths


def use(kind: str) -> None:
    """Let every network place frames so, in this process."""
    remember = AudioNetwork.remember

    def placed(network: AudioNetwork, hidden: Tensor, lengths: Tensor) -> Heard:
        heard = remember(network, hidden, lengths)
        places = places_of(kind, heard.places, lengths)
        return heard._replace(memory=network.decoder.listen(hidden, places, lengths))

    AudioNetwork.remember = placed  # type: ignore[method-assign]


if __name__ == "__main__":
    kind = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if kind not in KINDS:
        sys.exit(f"places.py: got {kind!r}, expected one of {', '.join(KINDS)}")
    use(kind)
    cli()
