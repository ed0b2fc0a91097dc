"""A small CTC acoustic model of AN4 (42 minutes of speech): real posteriors for try_checkout.py.

It predicts characters with a strided convolution and a two-layer bidirectional GRU.
Data: a tar with `an4/{train,test}.tsv` (id, speaker, seconds, transcript) and
`an4/{train,test}/{id}.flac`. The last training speakers are the dev set.
Shapes: N utterances, F feature frames of 10 ms, T = ceil(F / 3) frames of 30 ms, C symbols: blank,
space, apostrophe, letters.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

SYMBOLS = ["<blk>", "|", "'", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
DEV_SPEAKERS = 10


@dataclass(frozen=True)
class Utterance:
    id: str
    speaker: str
    text: str
    features: torch.Tensor  # (F, 80)


def load(folder: Path, half: str) -> list[Utterance]:
    """Return the utterances of `folder/{half}.tsv`; features are cached beside it."""
    cache = folder / f"{half}.features.pt"
    rows = [
        line.split("\t")
        for line in (folder / f"{half}.tsv").read_text(encoding="utf-8").splitlines()
    ]
    rows = [row for row in rows if row[0] != "id"]
    if not cache.exists():
        import soundfile  # noqa: PLC0415
        from lhotse import Fbank, FbankConfig  # noqa: PLC0415

        fbank = Fbank(FbankConfig(num_mel_bins=80))
        extracted = {}
        for row in rows:
            samples, rate = soundfile.read(folder / half / f"{row[0]}.flac", dtype="float32")
            extracted[row[0]] = torch.from_numpy(fbank.extract(samples, rate))
        torch.save(extracted, cache)
    features = torch.load(cache, weights_only=True)
    return [Utterance(row[0], row[1], row[3].upper(), features[row[0]]) for row in rows]


def split(utterances: list[Utterance]) -> tuple[list[Utterance], list[Utterance]]:
    """Return (train, dev): the last speakers in alphabetical order are dev."""
    dev = set(sorted({u.speaker for u in utterances})[-DEV_SPEAKERS:])
    return [u for u in utterances if u.speaker not in dev], [
        u for u in utterances if u.speaker in dev
    ]


def encode(text: str) -> list[int]:
    """Return the symbols of a text, a space before every word."""
    return [SYMBOLS.index(character) for character in "|" + text.replace(" ", "|")]


class Ctc(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Conv1d(80, 160, 7, stride=3, padding=3)
        self.body = nn.GRU(
            160, 160, num_layers=2, bidirectional=True, batch_first=True, dropout=0.2
        )
        self.out = nn.Linear(320, len(SYMBOLS))

    def forward(
        self, features: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, F, 80), (N,) -> log probabilities (N, T, C), lengths (N,)."""
        hidden = torch.relu(self.front(features.transpose(1, 2))).transpose(1, 2)
        lengths = (lengths + 2) // 3
        packed = nn.utils.rnn.pack_padded_sequence(
            hidden, lengths, batch_first=True, enforce_sorted=False
        )
        hidden, _ = nn.utils.rnn.pad_packed_sequence(self.body(packed)[0], batch_first=True)
        return self.out(hidden).log_softmax(-1), lengths


def batches(
    utterances: list[Utterance], size: int
) -> Iterator[tuple[list[Utterance], torch.Tensor, torch.Tensor]]:
    """Yield (utterances, normalised features (N, F, 80), lengths (N,)), longest first."""
    for start in range(0, len(utterances), size):
        batch = sorted(utterances[start : start + size], key=lambda u: -len(u.features))
        normal = [(u.features - u.features.mean(0)) / (u.features.std(0) + 1e-5) for u in batch]
        yield (
            batch,
            nn.utils.rnn.pad_sequence(normal, batch_first=True),
            torch.tensor([len(f) for f in normal]),
        )


def train(utterances: list[Utterance], minutes: float, seed: int = 0) -> Ctc:
    """Train until the minutes are over, with masked bands and stretches of the features.

    The learning rate falls to zero on the way.
    """
    torch.manual_seed(seed)
    model = Ctc().train()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    loss_of = nn.CTCLoss(zero_infinity=True)
    begin, epoch = time.monotonic(), 0
    while (spent := (time.monotonic() - begin) / 60 / minutes) < 1:
        pairs = list(batches([utterances[i] for i in torch.randperm(len(utterances))], 16))
        losses = []
        for batch, features, lengths in pairs:
            spent = min(1.0, (time.monotonic() - begin) / 60 / minutes)
            optimizer.param_groups[0]["lr"] = 2e-3 * min(1.0, 2 * (1 - spent)) + 1e-6
            targets = [encode(u.text) for u in batch]
            for _ in range(2):
                band, at = (
                    int(torch.randint(70, ())),
                    int(torch.randint(max(1, int(lengths.min()) - 30), ())),
                )
                features[:, :, band : band + int(torch.randint(12, ()))] = 0
                features[:, at : at + int(torch.randint(25, ()))] = 0
            log_probs, frames = model(features, lengths)
            flat = torch.tensor([symbol for target in targets for symbol in target])
            loss = loss_of(
                log_probs.transpose(0, 1),
                flat,
                frames,
                torch.tensor([len(target) for target in targets]),
            )
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            losses.append(float(loss))
        epoch += 1
        print(
            f"epoch {epoch}: CTC loss {sum(losses) / len(losses):.3f} a symbol, "
            f"{(time.monotonic() - begin) / 60:.1f} minutes",
            flush=True,
        )
    return model.eval()
