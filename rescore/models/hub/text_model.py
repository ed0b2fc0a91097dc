"""Hugging Face masked diffusion LMs behind a speech prompt: LLaDA, Dream, any masked LM.

The network takes embeddings (`inputs_embeds`), so a prompt can stand in front of a text. Rows run
without their padding, together with rows of equal length, and without an attention mask: LLaDA's
published code does not read its mask, and Dream's takes one of another kind. So a row has the same
numbers in any company.

    model_type  class                 predicts at i  its EOS
    llada       AutoModel, own code   token i        may be hidden
    Dream       AutoModel, own code   token i + 1    is never hidden, like BOS
    others      AutoModelForMaskedLM  token i        is never hidden: BERT's are not trained for it

Sources: LLaDA, arXiv:2502.09992; Dream, arXiv:2508.15487. Shapes: B rows, n positions, D width, V
rows of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rescore.errors import ModelError
from rescore.models.audio_network import SpecialRows
from rescore.models.hub.files import check_tokens
from rescore.models.hub.loading import load_parts, weights_digest
from rescore.models.hub.masked_head import UNFIT
from rescore.models.hub.tokenizer import HubTokenizer
from rescore.models.low_rank import add_adapters
from rescore.models.opening import opening

__all__ = ["HubText", "HubTextModel", "load_text_model"]

_ADVICE = "give a masked diffusion LM, such as LLaDA or Dream, or a masked LM"

#: Tokens of the text on which a network is tried.
_PROBE_LENGTH = 8

#: Largest difference of logits that is rounding, as a share of their spread.
_ROUNDING = 1e-4


class _Layout(NamedTuple):
    """How the models of a type are published: class of transformers, shift, whether EOS hides."""

    kind: str
    shift: int
    hides_end: bool


_LAYOUTS = {"llada": _Layout("AutoModel", 0, True), "Dream": _Layout("AutoModel", 1, False)}
_MASKED_LM = _Layout("AutoModelForMaskedLM", 0, False)


class HubTextModel(nn.Module):
    """A network of transformers as a `rescore.models.prompted.SequenceModel`.

    The network is no submodule: only what learns (`learned`, the very parameters by their names
    with "/" for ".") is moved, averaged and saved with the module. `model` and `digest` name the
    rest. `rank` is that of its adapters, 0: it has none.
    """

    is_causal: bool = False
    follows_places: bool = False
    network: Any
    _head: nn.Module | None

    def __init__(
        self, network: Any, rows: SpecialRows, layout: _Layout, model: str, digest: str
    ) -> None:
        super().__init__()
        self.__dict__["network"] = network.float().eval().requires_grad_(False)
        network.config.use_cache = False
        self.rows, self.shift, self.hides_end = rows, layout.shift, layout.hides_end
        self.model, self.digest, self.rank = model, digest, 0
        self.learned = nn.ParameterDict()
        with torch.no_grad():
            trial = _Trial(network, model)
        self.width, self.output_rows = trial.width, trial.output_rows
        self.__dict__["_head"] = trial.head

    def learn(self, what: str, rank: int) -> None:
        """What learns from now on: nothing ("projector"), all ("whole"), adapters ("low_rank").

        Raises ModelError where weights that were learned before do not go with it.
        """
        if what == "whole":
            self._check(not self.rank, "has adapters; go on with low_rank or projector")
            self._keep(lambda name: True)
        elif what == "low_rank":
            whole = bool(self.learned) and not self.rank
            self._check(not whole, "was fine-tuned whole; go on with whole or projector")
            self._check(self.rank in (0, rank), f"has adapters of rank {self.rank}; give --rank")
            self.add_adapters(rank)
        self.requires_grad_(what != "projector")

    def _check(self, is_right: bool, problem: str) -> None:
        if not is_right:
            raise ModelError(f"{self.model}: the language model {problem}")

    def add_adapters(self, rank: int) -> None:
        """Put adapters of this rank into the network, if it has none. Raises ModelError."""
        if not self.rank:
            add_adapters(self.network, rank)
            self.network.requires_grad_(False)
            self.rank = rank
            self._keep(lambda name: ".lora_" in name)

    def keep_named(self, names: Iterable[str]) -> None:
        """Let parameters of these names, as `learned` has them, be learned ones.

        Raises ModelError for a name that the network does not have.
        """
        known = {name.replace(".", "/") for name, _ in self.network.named_parameters()}
        chosen = set(names)
        self._check(chosen <= known, "has no parameters of the names that were learned")
        self._keep(lambda name: name.replace(".", "/") in chosen)

    def _keep(self, is_chosen: Callable[[str], bool]) -> None:
        for name, weight in self.network.named_parameters():
            if is_chosen(name):
                self.learned[name.replace(".", "/")] = weight

    def train(self, mode: bool = True) -> HubTextModel:
        """As a module; the network drops out only while something of it learns."""
        super().train(mode)
        is_learning = any(weight.requires_grad for weight in self.learned.values())
        self.network.train(mode and is_learning)
        return self

    def _apply(self, *arguments: Any, **options: Any) -> HubTextModel:
        """Move the network too, for `to`, `float` and the like."""
        super()._apply(*arguments, **options)  # type: ignore[no-untyped-call]
        self.network._apply(*arguments, **options)
        return self

    @property
    def blocks(self) -> nn.ModuleList:
        """Its blocks: the longest list of modules."""
        lists = [part for part in self.network.modules() if isinstance(part, nn.ModuleList)]
        return max(lists, key=len, default=nn.ModuleList())

    def embed(self, tokens: Tensor) -> Tensor:
        """See SequenceModel."""
        embedded: Tensor = self.network.get_input_embeddings()(tokens)
        return embedded

    def states(self, x: Tensor, places: Tensor, seen: Tensor) -> Tensor:
        """See SequenceModel; 0 at positions that nothing sees. All others see each other."""
        del places
        inside = seen[:, 0].any(1)  # (B, n)
        sizes = inside.sum(1)
        hidden: Tensor | None = None
        for size in sorted(set(sizes.tolist())):
            is_here = sizes == size
            rows = x[is_here][inside[is_here]].view(-1, size, x.shape[-1])
            part = _hidden(self.network(inputs_embeds=rows, **self._asked), self._head)
            if hidden is None:
                hidden = part.new_zeros(*inside.shape, part.shape[-1])
            hidden[inside & is_here[:, None]] = part.flatten(0, 1)
        if hidden is None:
            raise ValueError("a batch without rows")
        return hidden

    @property
    def _asked(self) -> dict[str, bool]:
        return {} if self._head is None else {"output_hidden_states": True}

    def readout(self, hidden: Tensor) -> Tensor:
        """See SequenceModel; hidden states are logits where the head cannot be taken alone."""
        return hidden if self.output_weight is None else hidden @ self.output_weight.T

    @property
    def output_weight(self) -> Tensor | None:
        """See SequenceModel."""
        return None if self._head is None else self._head.weight  # type: ignore[return-value]


class _Trial:
    """What a short text shows of a network. Raises ModelError for one that takes no prompt.

    It takes embeddings, a token sees those behind it, and its logits are, or are not, the output
    layer of its last hidden states.
    """

    def __init__(self, network: Any, model: str) -> None:
        embedding = network.get_input_embeddings()
        tokens = torch.arange(_PROBE_LENGTH)[None] * (len(embedding.weight) - 1) // _PROBE_LENGTH
        other = tokens.clone()
        other[0, -1] = 1
        try:
            output = network(inputs_embeds=embedding(tokens), output_hidden_states=True)
            expected = network(input_ids=tokens).logits
            changed = network(input_ids=other).logits
        except UNFIT as error:
            raise ModelError(f"{model}: takes no embeddings for tokens; {_ADVICE}") from error
        rounding = _ROUNDING * float(expected.max() - expected.min())
        if _distance(output.logits, expected) > rounding:
            raise ModelError(f"{model}: embeddings have other logits than tokens; {_ADVICE}")
        if _distance(changed[:, 0], expected[:, 0]) <= rounding * 1e-3:
            raise ModelError(f"{model}: no token sees those behind it; {_ADVICE}")
        self.width, self.output_rows = embedding.weight.shape[1], expected.shape[-1]
        self.head = _head(network, output, rounding)


def _distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max()) if one.shape == other.shape else float("inf")


def _head(network: Any, output: Any, rounding: float) -> nn.Module | None:
    """The layer whose weight alone makes the logits of the last hidden states; None: there is none.

    It is found by trying, as types of models scale, cap or transform before it.
    """
    head, states = network.get_output_embeddings(), output.hidden_states
    if head is None or getattr(head, "bias", None) is not None or not states:
        return None
    if states[-1].shape[-1] != head.weight.shape[-1]:
        return None
    is_alone = _distance(states[-1] @ head.weight.T, output.logits) <= rounding
    return head if is_alone else None


def _hidden(output: Any, head: nn.Module | None) -> Tensor:
    """The last hidden states of a network's output, or its logits where it has no head alone."""
    hidden: Tensor = output.logits if head is None else output.hidden_states[-1]
    return hidden


class HubText(NamedTuple):
    """A language model of Hugging Face with its tokenizer."""

    language_model: HubTextModel
    tokenizer: HubTokenizer


def load_text_model(model: str, remote_code: bool = False) -> HubText:
    """Load a masked diffusion LM, or a masked LM, by Hub id or directory.

    Raises ModelError, also for code of its own that was not asked for.
    """
    with opening(model, _ADVICE):
        [config] = load_parts("AutoConfig", model, remote_code, ())
        layout = _LAYOUTS.get(config.model_type, _MASKED_LM)
        network, tokenizer = load_parts(layout.kind, model, remote_code)
        digest = weights_digest(network, tokenizer)
        check_tokens(tokenizer, len(network.get_input_embeddings().weight), model)
        directory = Path(model)
        name = str(directory.resolve()) if directory.is_dir() else model
        rows = _special_rows(config, tokenizer, model)
        return HubText(
            HubTextModel(network, rows, layout, name, digest), HubTokenizer(tokenizer, model)
        )


def _special_rows(config: Any, tokenizer: Any, model: str) -> SpecialRows:
    """BOS and EOS of the tokenizer (CLS and SEP where it has no others), padding, mask."""
    eos, bos = (
        getattr(tokenizer, f"{first}_token_id")
        if getattr(tokenizer, f"{first}_token_id") is not None
        else getattr(tokenizer, f"{second}_token_id")
        for first, second in (("eos", "sep"), ("bos", "cls"))
    )
    mask = getattr(config, "mask_token_id", None)
    mask = tokenizer.mask_token_id if mask is None else mask
    if mask is None or eos is None:
        raise ModelError(f"{model}: has no mask token or no end of sentence; {_ADVICE}")
    padding = eos if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    return SpecialRows(padding, eos, eos if bos is None else bos, mask)
