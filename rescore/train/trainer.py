"""A plain trainer: AdamW or Muon, warm-up, constant and decay, averaged weights, gradient clipping, resumable to the same curve.

Everything random is drawn from (seed, step) or (seed, epoch), so a run that was killed continues with the batches and the noise it would have had.
The run directory holds `corpus/` (unless it is elsewhere), `state.pt` (weights, averages, moments, step; written atomically), `log.csv` and its plot, and
at the end the checkpoint.
"""

from __future__ import annotations

import contextlib
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
from tqdm import tqdm

from rescore.errors import ModelError, TrainError
from rescore.models.checkpoint import PREDICTIONS, Checkpoint, Objective, Prediction, load, save
from rescore.models.embedded import EMBEDDED
from rescore.models.network import Network, NetworkConfig
from rescore.models.tokenizer import Tokenizer, read_tokenizer, train_tokenizer
from rescore.text import normalizer
from rescore.train.corpus import (
    Corpus,
    batches,
    collate,
    encode_corpus,
    joined,
    open_corpus,
    read_text,
)
from rescore.train.objectives import loss_of
from rescore.train.optimizers import Average, OptimizerName, Optimizers, schedule
from rescore.train.speed import matmul_peak, step_flops

__all__ = ["TrainOptions", "prepare", "train"]

#: Validation while training: this many batches of this many tokens, the same for every run. The last validation reads everything.
_VALID_BATCHES, _VALID_TOKENS = 16, 4096

#: Steps between two looks at the loss: on a GPU every look waits for it.
_LOOK_EVERY = 10


_SIZES = ("width", "layers", "heads", "feed_forward")


@dataclass(frozen=True)
class TrainOptions:
    """What decides a run. Two runs with equal options on the same machine have the same curve.

    `decay` is the share of the steps with a falling learning rate, `average` the decay of the moving average of the weights, which is what is validated
    and saved (0: none). `start_from` is a checkpoint directory whose weights the run starts with, of any objective with the same shape.
    """

    objective: Objective
    prediction: Prediction | None = (
        None  # usdm: leave_one_out (its bound is trained) or posterior (cross-entropy); None: the objective's first
    )
    steps: int = 3000
    batch_tokens: int = 4096
    optimizer: OptimizerName = "adamw"
    learning_rate: float = 2e-3
    warmup: int = 150
    decay: float = 0.5
    weight_decay: float = 0.1
    clip: float = 1.0
    average: float = 0.995
    seed: int = 0
    width: int = 256
    layers: int = 6
    heads: int = 4
    feed_forward: int = 704
    time_input: bool | None = None  # None: only where the objective needs it (usdm)
    normalizer: str = "librispeech"
    bf16: bool = True
    device: str = "cpu"
    compile: bool = False
    start_from: str | None = None
    evaluate_every: int = 250
    save_every: int = 250


def prepare(
    text: Sequence[Path],
    valid: Sequence[Path],
    directory: Path,
    *,
    vocab_size: int,
    tokenizer_path: Path | None,
    join: float,
    seed: int,
    normalize: str,
) -> None:
    """Train or copy the vocabulary and tokenise the text into `directory`; nothing is done twice.

    `join` is the probability that a line continues the text before it. Raises TrainError or ModelError on unusable text.
    """
    settings = {
        "text": list(map(str, text)),
        "valid": list(map(str, valid)),
        "join": join,
        "seed": seed,
        "normalizer": normalize,
    }
    settings |= {"tokenizer": str(tokenizer_path)} if tokenizer_path else {"vocab_size": vocab_size}
    ready = directory / "ready.json"
    if ready.exists():
        if json.loads(ready.read_text(encoding="utf-8")) != settings:
            raise TrainError(
                f"{ready}: this corpus was prepared from other text or settings; use the same ones or another --corpus folder"
            )
        return
    directory.mkdir(parents=True, exist_ok=True)
    clean = normalizer(normalize)
    tokenizer = (
        read_tokenizer(tokenizer_path)
        if tokenizer_path
        else _trained_tokenizer(read_text(text, clean), vocab_size)
    )
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


#: The columns of log.csv; the last is the share of the matmul speed measured when the run began.
LOG = [
    "step",
    "tokens",
    "train_nats_per_token",
    "valid_nats_per_token",
    "valid_perplexity_per_word",
    "tokens_per_second",
    "matmul_share",
]


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


def start_of(model: str | None, sizes: dict[str, Any]) -> Path | None:
    """The directory of the checkpoint to start from: a path, or the name of an embedded model. Unset (None) sizes in `sizes` are filled from it.

    Raises ModelError if there is no such checkpoint.
    """
    directory = (
        None if model is None else EMBEDDED / model if (EMBEDDED / model).is_dir() else Path(model)
    )
    if directory is not None and not (directory / "config.json").is_file():
        raise ModelError(
            f"--start-from {model}: no such checkpoint; give a directory that `dlmrescore train` made, or one of mdlm, usdm, ar"
        )
    config = TrainOptions("mdlm") if directory is None else load(directory).network.config
    for size in _SIZES:
        if sizes[size] is None:
            sizes[size] = getattr(config, size)
    return directory


def start_from(network: Network, directory: Path, tokenizer: Tokenizer) -> None:
    """Copy every weight that another checkpoint shares; a mask row is dropped or stays fresh, a time input that it lacks stays fresh.

    Raises ModelError if the checkpoint's sizes or its vocabulary differ: the same numbers would mean something else.
    """
    checkpoint = load(directory)
    if checkpoint.tokenizer.serialized != tokenizer.serialized:
        raise ModelError(
            f"{directory}: its vocabulary is not the corpus's; prepare the corpus with --tokenizer {directory / 'tokenizer.model'}"
        )
    for size in _SIZES:
        found, expected = getattr(checkpoint.network.config, size), getattr(network.config, size)
        if found != expected:
            raise ModelError(
                f"{directory}: its {size} is {found}, expected {expected}; start from a model of the same size"
            )
    ours, theirs = network.state_dict(), checkpoint.network.state_dict()
    rows = min(len(ours["embedding.weight"]), len(theirs["embedding.weight"]))
    ours["embedding.weight"][:rows] = theirs.pop("embedding.weight")[:rows]
    network.load_state_dict(
        {**ours, **{name: weight for name, weight in theirs.items() if name in ours}}
    )


def train(corpus: Path, directory: Path, options: TrainOptions, card: dict[str, Any]) -> Checkpoint:
    """Train on a prepared corpus, resuming `directory/state.pt` if it is there, and write the checkpoint into `directory`.

    Raises TrainError if the corpus is too small, the state belongs to other options or the disk is full (the last state stays).
    """
    _check_directory(directory, options.objective)
    tokenizer = read_tokenizer(corpus / "tokenizer.model")
    run = _Run(
        options,
        tokenizer,
        open_corpus(corpus / "train", tokenizer),
        open_corpus(corpus / "valid", tokenizer),
        directory,
    )
    run.resume()
    run.fit()
    run.average.swap()
    result = run.validate(whole=True)
    network = run.network.to("cpu")
    training = {
        **asdict(options),
        "tokens": run.tokens,
        "valid_nats_per_token": result.nats_per_token,
        "valid_perplexity_per_word": result.perplexity_per_word,
    }
    card = {
        **card,
        "parameters": sum(p.numel() for p in network.parameters()),
        "training": training,
    }
    checkpoint = Checkpoint(
        network.eval(), tokenizer, options.objective, run.prediction, options.normalizer, card
    )
    with _disk(directory):
        save(checkpoint, directory, torch.float16)
    return checkpoint


def _check_directory(directory: Path, objective: Objective) -> None:
    """Make the run directory. Raises TrainError if a finished checkpoint of another objective, or one without its run, is there."""
    directory.mkdir(parents=True, exist_ok=True)
    if (directory / "config.json").exists():
        found = load(directory).objective
        if found != objective:
            raise TrainError(
                f"{directory}: there is a checkpoint of objective {found} here, expected {objective}; give another --output"
            )
        if not (directory / "state.pt").exists():
            raise TrainError(
                f"{directory}: there is a checkpoint here but no run to go on with; give another --output, or fine-tune it with --start-from"
            )


@dataclass(frozen=True)
class Validation:
    """Sums over validation text: `nats` (a bound, for diffusion), scored `tokens` (EOS included), `words`."""

    nats: float
    tokens: int
    words: int

    @property
    def nats_per_token(self) -> float:
        """The mean over scored tokens."""
        return self.nats / self.tokens

    @property
    def perplexity_per_word(self) -> float:
        """exp(nats / words): the ends of sentences are paid for but not counted as words."""
        return math.exp(min(700.0, self.nats / self.words))


@contextlib.contextmanager
def _disk(directory: Path) -> Iterator[None]:
    """A write that fails is one line, and what was there before stays."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # torch's zip writer raises RuntimeError
        for left in directory.glob("*.tmp"):
            left.unlink()
        reason = (
            error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        ).splitlines()[0]
        raise TrainError(
            f"{directory}: cannot be written ({reason}); free some space and run this again, it goes on from the last state"
        ) from error


class _Run:
    """The state of one training run."""

    def __init__(
        self,
        options: TrainOptions,
        tokenizer: Tokenizer,
        corpus: Corpus,
        valid: Corpus,
        directory: Path,
    ) -> None:
        self.options, self.tokenizer, self.corpus, self.valid, self.directory = (
            options,
            tokenizer,
            corpus,
            valid,
            directory,
        )
        self.prediction: Prediction = options.prediction or PREDICTIONS[options.objective][0]
        if self.prediction not in PREDICTIONS[options.objective]:
            raise TrainError(
                f"objective {options.objective} cannot predict {self.prediction!r}; choose from {', '.join(PREDICTIONS[options.objective])}"
            )
        self.loss, self.bound = loss_of(options.objective, self.prediction)
        self.network = build_network(options, tokenizer)
        if options.start_from is not None:
            start_from(self.network, Path(options.start_from), tokenizer)
        self.network.to(options.device)
        if options.compile:
            for block in self.network.blocks:
                block.compile()
        self.optimizers = Optimizers(
            self.network, options.optimizer, options.learning_rate, options.weight_decay
        )
        self.average = Average(self.network.parameters(), options.average)
        self.step, self.tokens, self.running = (
            0,
            0,
            0.0,
        )  # tokens scored so far; the smoothed training loss
        self.valid_batches = batches(
            valid, tokenizer, min(_VALID_TOKENS, int(valid.lengths.sum())), seed=0
        )

    def fit(self) -> None:
        """Run to the last step, logging and saving on the way."""
        if self.step == self.options.steps:
            return
        peak = matmul_peak(
            self.options.device, torch.bfloat16 if self.options.bf16 else torch.float32
        )
        started, before, flops, losses = time.monotonic(), self.tokens, 0.0, []
        with tqdm(
            total=self.options.steps,
            initial=self.step,
            desc=f"train {self.options.objective}",
            unit="step",
            mininterval=5,
        ) as progress:
            for rows in self._batches():
                loss, count, spent = self._update(rows)
                losses.append(loss)
                flops += spent
                self.tokens += count
                self.step += 1
                progress.update()
                last = self.step == self.options.steps
                logged, saved = (
                    last or self.step % every == 0
                    for every in (self.options.evaluate_every, self.options.save_every)
                )
                if logged or saved or self.step % _LOOK_EVERY == 0:
                    self._look(torch.stack(losses).tolist())
                    losses = []
                    progress.set_postfix_str(f"{self.running:.3f} nats/token", refresh=False)
                if logged:
                    seconds = time.monotonic() - started
                    self._log(
                        self.validate(), (self.tokens - before) / seconds, flops / seconds / peak
                    )
                    started, before, flops = (
                        time.monotonic(),
                        self.tokens,
                        0.0,
                    )  # validation does not count
                if saved:
                    self._save()

    def _look(self, losses: list[float]) -> None:
        """Take losses into the smoothed one. Raises TrainError if one is not finite."""
        for number, value in enumerate(losses, self.step - len(losses)):
            if not math.isfinite(value):
                raise TrainError(
                    f"{self.directory}: the loss is {value} at step {number}; start again in another directory with a lower --learning-rate"
                )
            self.running = 0.98 * self.running + 0.02 * value if self.running else value

    def _batches(self) -> Iterator[np.ndarray]:
        """The batches from the current step to the last."""
        seen = 0
        epoch = 0
        while self.step < self.options.steps:
            epoch_batches = batches(
                self.corpus,
                self.tokenizer,
                self.options.batch_tokens,
                self.options.seed * 1000 + epoch,
            )
            for rows in epoch_batches[max(0, self.step - seen) :]:
                if self.step >= self.options.steps:
                    return
                yield rows
            seen, epoch = seen + len(epoch_batches), epoch + 1

    def _update(self, rows: np.ndarray) -> tuple[torch.Tensor, int, float]:
        """One optimiser step; returns nats per scored token, the number of scored tokens and the FLOPs."""
        tokens, padding = collate(self.corpus, rows, self.tokenizer)
        generator = torch.Generator().manual_seed(self.options.seed * 1_000_003 + self.step)
        with self._autocast():
            loss, read_out = self.loss(self.network, tokens, padding, generator)
        count = int((~padding).sum()) - len(tokens)  # BOS is not scored
        loss = loss / count
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.options.clip)
        self.optimizers.step(
            schedule(self.step, self.options.steps, self.options.warmup, self.options.decay)
        )
        self.average.update()
        return loss.detach(), count, step_flops(self.network, len(rows), tokens.shape[1], read_out)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            torch.device(self.options.device).type, dtype=torch.bfloat16, enabled=self.options.bf16
        )

    @torch.no_grad()
    def validate(self, *, whole: bool = False) -> Validation:
        """The bound on the same batches with the same noise every time, of the averaged weights while training."""
        if not whole:
            self.average.swap()
        self.network.eval()
        chosen = self.valid_batches if whole else self.valid_batches[:_VALID_BATCHES]
        nats, scored, words = 0.0, 0, 0
        for number, rows in enumerate(chosen):
            tokens, padding = collate(self.valid, rows, self.tokenizer)
            with self._autocast():
                nats += float(
                    self.bound(
                        self.network, tokens, padding, torch.Generator().manual_seed(number)
                    )[0]
                )
            scored += int((~padding).sum()) - len(tokens)
            words += self.tokenizer.count_words(tokens.numpy())
        self.network.train()
        if not whole:
            self.average.swap()
        return Validation(nats, scored, words)

    def _log(self, valid: Validation, speed: float, share: float) -> None:
        path = self.directory / "log.csv"
        new = not path.exists()
        with _disk(self.directory), path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(LOG)
            row = [
                self.step,
                self.tokens,
                f"{self.running:.4f}",
                f"{valid.nats_per_token:.4f}",
                f"{valid.perplexity_per_word:.2f}",
            ]
            writer.writerow([*row, f"{speed:.0f}", f"{share:.3f}"])

    def _save(self) -> None:
        """Write the state; it appears whole or not at all."""
        numbers = {
            "step": self.step,
            "tokens": self.tokens,
            "running": self.running,
            "averaged": self.average.steps,
            "options": asdict(self.options),
        }
        state = {
            "run": json.dumps(numbers),
            "network": self.network.state_dict(),
            "average": self.average.values,
            "optimizers": self.optimizers.state(),
        }
        temporary = self.directory / "state.pt.tmp"
        with _disk(self.directory):
            with temporary.open("wb") as file:
                torch.save(state, file)
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
            run = json.loads(
                state["run"]
            )  # text, because torch 1.13 reads no floats with weights_only
        except Exception as error:
            raise TrainError(
                f"{path}: the saved state cannot be read ({str(error).splitlines()[0]}); delete it to start over"
            ) from error
        self._check_options(run, path)
        self.network.load_state_dict(state["network"])
        self.optimizers.load(state["optimizers"])
        self.average.values = [value.to(self.options.device) for value in state["average"]]
        self.step, self.tokens, self.running, self.average.steps = (
            run["step"],
            run["tokens"],
            run["running"],
            run["averaged"],
        )

    def _check_options(self, run: dict[str, Any], path: Path) -> None:
        """The same options, but for the number of steps while the learning rate has not begun to fall, and for where and when things are done."""
        saved, asked = run["options"], asdict(self.options)
        free = {"evaluate_every", "save_every", "compile"}
        if run["step"] <= (1 - self.options.decay) * min(saved["steps"], self.options.steps):
            free.add("steps")
        changed = sorted(
            name for name, value in asked.items() if name not in free and saved.get(name) != value
        )
        if changed:
            raise TrainError(
                f"{path}: the run was started with other options ({', '.join(changed)}); use the same options or another directory"
            )

    def _trim_log(self) -> None:
        """Drop the lines of steps that were done after the last save: they are done, and logged, again."""
        path = self.directory / "log.csv"
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        kept = [
            line
            for i, line in enumerate(lines)
            if line.endswith(b"\n") and (i == 0 or int(line.split(b",")[0]) <= self.step)
        ]
        if len(kept) > 1:
            path.write_bytes(b"".join(kept))
        else:
            path.unlink(missing_ok=True)
