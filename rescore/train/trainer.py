"""A plain trainer: AdamW, warm-up and linear decay to zero, gradient clipping, resumable to the same curve.

Everything random is drawn from (seed, step) or (seed, epoch), so a run that was killed continues with the batches and the noise it would have had.
The run directory holds `corpus/`, `state.pt` (weights, optimiser, step; written atomically), `log.csv`, and at the end the checkpoint.
"""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from rescore.errors import ModelError, TrainError
from rescore.models.checkpoint import PREDICTIONS, Checkpoint, Objective, load, save
from rescore.models.network import Network, NetworkConfig
from rescore.models.tokenizer import Tokenizer, read_tokenizer, train_tokenizer
from rescore.text import normalizer
from rescore.train.corpus import Corpus, batches, collate, encode_corpus, joined, read_text
from rescore.train.objectives import LOSSES

__all__ = ["TrainOptions", "prepare", "train"]


@dataclass(frozen=True)
class TrainOptions:
    """What decides a run. Two runs with equal options on the same machine have the same curve."""

    objective: Objective
    steps: int = 3000
    batch_tokens: int = 4096
    learning_rate: float = 2e-3
    warmup: int = 150
    weight_decay: float = 0.1
    clip: float = 1.0
    seed: int = 0
    width: int = 256
    layers: int = 6
    heads: int = 4
    feed_forward: int = 704
    time_input: bool | None = None  # None: only where the objective needs it (usdm)
    normalizer: str = "librispeech"
    bf16: bool = True
    start_from: str | None = None  # a checkpoint directory whose weights the run starts with, of any objective with the same shape
    evaluate_every: int = 250
    save_every: int = 250


def prepare(
    text: Sequence[Path], valid: Sequence[Path], directory: Path, *, vocab_size: int, tokenizer_path: Path | None, join: float, seed: int, normalize: str
) -> None:
    """Train or copy the vocabulary and tokenise the text into `directory`; nothing is done twice.

    `join` is the probability that a line continues the text before it. Raises TrainError or ModelError on unusable text.
    """
    settings = {"text": list(map(str, text)), "valid": list(map(str, valid)), "join": join, "seed": seed, "normalizer": normalize}
    settings |= {"tokenizer": str(tokenizer_path)} if tokenizer_path else {"vocab_size": vocab_size}
    ready = directory / "ready.json"
    if ready.exists():
        if json.loads(ready.read_text(encoding="utf-8")) != settings:
            raise TrainError(f"{ready}: this corpus was prepared from other text or settings; use the same ones or another --corpus folder")
        return
    directory.mkdir(parents=True, exist_ok=True)
    clean = normalizer(normalize)
    tokenizer = read_tokenizer(tokenizer_path) if tokenizer_path else _trained_tokenizer(read_text(text, clean), vocab_size)
    (directory / "tokenizer.model").write_bytes(tokenizer.serialized)
    encode_corpus(joined(read_text(text, clean), join, seed), tokenizer, directory / "train")
    encode_corpus(joined(read_text(valid, clean), join, seed), tokenizer, directory / "valid")
    ready.write_text(json.dumps(settings) + "\n", encoding="utf-8")


def _trained_tokenizer(lines: Iterator[str], vocab_size: int) -> Tokenizer:
    """Train a vocabulary; what goes wrong while the text is read stays what it is, where SentencePiece would make it an error of its own."""
    failed: list[BaseException] = []

    def watched() -> Iterator[str]:
        try:
            yield from lines
        except (TrainError, KeyboardInterrupt) as error:
            failed.append(error)
            raise

    try:
        return train_tokenizer(watched(), vocab_size)
    except ModelError as error:
        if failed:
            raise failed[0] from error
        raise


def _open_corpus(directory: Path, tokenizer: Tokenizer) -> Corpus:
    kind = np.uint16 if tokenizer.size < 2**16 else np.uint32
    return Corpus(np.memmap(directory / "tokens.bin", dtype=kind, mode="r"), np.load(directory / "offsets.npy", mmap_mode="r"), 0)


def build_network(options: TrainOptions, tokenizer: Tokenizer) -> Network:
    """A freshly initialised network for the objective, drawn from the seed."""
    torch.manual_seed(options.seed)
    time_input = options.objective == "usdm" if options.time_input is None else options.time_input
    return Network(
        NetworkConfig(
            vocab_size=tokenizer.size + (options.objective == "mdlm"), width=options.width, layers=options.layers, heads=options.heads,
            feed_forward=options.feed_forward, causal=options.objective == "ar", time_input=time_input,
        )
    )  # fmt: skip


def start_from(network: Network, directory: Path, tokenizer: Tokenizer) -> None:
    """Copy every weight that another checkpoint shares; a mask row is dropped or stays fresh, a time input that it lacks stays fresh.

    Raises ModelError if the checkpoint's sizes or its vocabulary differ: the same numbers would mean something else.
    """
    checkpoint = load(directory)
    if checkpoint.tokenizer.serialized != tokenizer.serialized:
        raise ModelError(f"{directory}: its vocabulary is not the corpus's; prepare the corpus with --tokenizer {directory / 'tokenizer.model'}")
    for size in ("width", "layers", "heads", "feed_forward"):
        found, expected = getattr(checkpoint.network.config, size), getattr(network.config, size)
        if found != expected:
            raise ModelError(f"{directory}: its {size} is {found}, expected {expected}; start from a model of the same size")
    ours, theirs = network.state_dict(), checkpoint.network.state_dict()
    rows = min(len(ours["embedding.weight"]), len(theirs["embedding.weight"]))
    ours["embedding.weight"][:rows] = theirs.pop("embedding.weight")[:rows]
    network.load_state_dict({**ours, **{name: weight for name, weight in theirs.items() if name in ours}})


def train(corpus: Path, directory: Path, options: TrainOptions, card: dict[str, Any]) -> Checkpoint:
    """Train on a prepared corpus, resuming `directory/state.pt` if it is there, and write the checkpoint into `directory`.

    Raises TrainError if the corpus is too small or the state belongs to other options.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = read_tokenizer(corpus / "tokenizer.model")
    run = _Run(options, tokenizer, _open_corpus(corpus / "train", tokenizer), _open_corpus(corpus / "valid", tokenizer), directory)
    run.resume()
    run.fit()
    card = {**card, "training": {**asdict(options), "tokens": options.steps * options.batch_tokens, "valid_nats_per_token": run.evaluate()}}
    checkpoint = Checkpoint(run.network.eval(), tokenizer, options.objective, PREDICTIONS[options.objective][0], options.normalizer, card)
    save(checkpoint, directory, torch.float16)
    return checkpoint


class _Run:
    """The state of one training run."""

    def __init__(self, options: TrainOptions, tokenizer: Tokenizer, corpus: Corpus, valid: Corpus, directory: Path) -> None:
        self.options, self.tokenizer, self.corpus, self.directory = options, tokenizer, corpus, directory
        self.network = build_network(options, tokenizer)
        if options.start_from is not None:
            start_from(self.network, Path(options.start_from), tokenizer)
        self.optimizer = self._optimizer()
        self.step, self.running = 0, 0.0  # running: the smoothed training loss
        self.valid_batches = batches(valid, tokenizer, min(options.batch_tokens, int(valid.lengths.sum())), seed=0)[:16]
        self.valid = valid

    def _optimizer(self) -> torch.optim.Optimizer:
        matrices = [p for p in self.network.parameters() if p.ndim > 1]
        vectors = [p for p in self.network.parameters() if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": self.options.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=self.options.learning_rate, betas=(0.9, 0.98), eps=1e-8)

    def fit(self) -> None:
        """Run to the last step, logging and saving on the way."""
        started, tokens = time.monotonic(), 0
        progress = tqdm(total=self.options.steps, initial=self.step, desc=f"train {self.options.objective}", unit="step", mininterval=5)
        for rows in self._batches():
            loss, count = self._update(rows)
            tokens, self.running = tokens + count, loss if not self.running else 0.98 * self.running + 0.02 * loss
            self.step += 1
            progress.update()
            progress.set_postfix_str(f"{self.running:.3f} nats/token, {tokens / (time.monotonic() - started):.0f} tokens/s", refresh=False)
            last = self.step == self.options.steps
            if last or self.step % self.options.evaluate_every == 0:
                self._log(self.evaluate(), tokens / (time.monotonic() - started))
            if last or self.step % self.options.save_every == 0:
                self._save()
        progress.close()

    def _batches(self) -> Iterator[np.ndarray]:
        """The batches from the current step to the last."""
        seen = 0
        epoch = 0
        while self.step < self.options.steps:
            epoch_batches = batches(self.corpus, self.tokenizer, self.options.batch_tokens, self.options.seed * 1000 + epoch)
            for rows in epoch_batches[max(0, self.step - seen) :]:
                if self.step >= self.options.steps:
                    return
                yield rows
            seen, epoch = seen + len(epoch_batches), epoch + 1

    def _update(self, rows: np.ndarray) -> tuple[float, int]:
        """One optimiser step; returns nats per scored token and the number of tokens."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.learning_rate * self._schedule()
        loss, count = self._loss(rows, self.options.seed * 1_000_003 + self.step)
        value = float(loss.detach()) / count
        if not math.isfinite(value):
            raise TrainError(f"{self.directory}: the loss is {value} at step {self.step}; start again in another directory with a lower --learning-rate")
        (loss / count).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.options.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return value, count

    def _schedule(self) -> float:
        warm = min(1.0, (self.step + 1) / self.options.warmup)
        return warm * (1 - self.step / self.options.steps)

    def _loss(self, rows: np.ndarray, seed: int, corpus: Corpus | None = None) -> tuple[Tensor, int]:
        tokens, padding = collate(corpus or self.corpus, rows, self.tokenizer)
        generator = torch.Generator().manual_seed(seed)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.options.bf16):
            loss = LOSSES[self.options.objective](self.network, tokens, padding, generator)
        return loss, int((~padding).sum()) - len(tokens)  # BOS is not scored

    @torch.no_grad()
    def evaluate(self) -> float:
        """Nats per scored token on the same batches and the same noise every time (a bound, for diffusion)."""
        self.network.eval()
        losses = [self._loss(rows, number, self.valid) for number, rows in enumerate(self.valid_batches)]
        self.network.train()
        return sum(float(loss) for loss, _ in losses) / sum(count for _, count in losses)

    def _log(self, valid: float, speed: float) -> None:
        path = self.directory / "log.csv"
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["step", "tokens", "train_nats_per_token", "valid_nats_per_token", "tokens_per_second"])
            writer.writerow([self.step, self.step * self.options.batch_tokens, f"{self.running:.4f}", f"{valid:.4f}", f"{speed:.0f}"])

    def _save(self) -> None:
        run = json.dumps({"step": self.step, "running": self.running, "options": asdict(self.options)})
        state = {"run": run, "network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()["state"]}
        temporary = self.directory / "state.pt.tmp"
        torch.save(state, temporary)
        temporary.replace(self.directory / "state.pt")

    def resume(self) -> None:
        """Continue from `state.pt` if there is one. Raises TrainError if it was made with other options."""
        path = self.directory / "state.pt"
        if path.exists():
            self._load(path)
        self._trim_log()

    def _load(self, path: Path) -> None:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise TrainError(f"{path}: the saved state cannot be read ({str(error).splitlines()[0]}); delete it to start over") from error
        run = json.loads(state["run"])  # text, because torch 1.13 reads no floats with weights_only
        if run["options"] != asdict(self.options):
            changed = sorted(k for k, v in asdict(self.options).items() if run["options"].get(k) != v)
            raise TrainError(f"{path}: the run was started with other options ({', '.join(changed)}); use the same options or another directory")
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict({"state": state["optimizer"], "param_groups": self.optimizer.state_dict()["param_groups"]})
        self.step, self.running = run["step"], run["running"]

    def _trim_log(self) -> None:
        """Drop the lines of steps that were done after the last save: they are done, and logged, again."""
        path = self.directory / "log.csv"
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        kept = [line for i, line in enumerate(lines) if line.endswith(b"\n") and (i == 0 or int(line.split(b",")[0]) <= self.step)]
        if len(kept) > 1:
            path.write_bytes(b"".join(kept))
        else:
            path.unlink(missing_ok=True)
