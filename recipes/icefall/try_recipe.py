"""Run a patched recipe of a real icefall checkout on AN4, from its main() to RESULTS.md.

    python recipes/icefall/try_recipe.py /path/to/icefall zipformer/ctc_decode \\
        --an4 /path/to/an4 --model out/ctc.pt --work work -- --decoding-method nbest-dump

A trained model is missing; a stand-in takes its place. The recipe's own code runs: flags, data
module, get_lattice, the patch, store_transcripts, write_error_stats, its file names. Replaced are
the model (the CTC of try_checkout.py; for zipformer/decode.py the recipe's own small zipformer with
random weights) and the data: AN4's dev and test utterances under the names of LibriSpeech's sets.
What follows `--` goes to the recipe.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

HERE = Path(__file__).resolve().parent
COMMON = (
    "--exp-dir exp --lang-dir data/lang --manifest-dir data/fbank --on-the-fly-feats 1"
    " --max-duration 60 --num-workers 0 --avg 1 --epoch 1"
)
SMALL = (
    "--num-encoder-layers 1,1,1,1,1,1 --feedforward-dim 64,64,64,64,64,64"
    " --encoder-dim 64,64,64,64,64,64 --encoder-unmasked-dim 48,48,48,48,48,48"
    " --query-head-dim 16 --pos-head-dim 4 --value-head-dim 8 --num-heads 2,2,2,2,2,2"
    " --decoder-dim 64 --joiner-dim 64 --pos-dim 16"
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("icefall", type=Path)
    parser.add_argument(
        "recipe", choices=["zipformer/ctc_decode", "zipformer/decode", "conformer_ctc/decode"]
    )
    parser.add_argument("--an4", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--utterances", type=int, default=40, help="of each of the four sets")
    arguments, recipe_flags = sys.argv[1:], []
    if "--" in arguments:
        separator = arguments.index("--")
        arguments, recipe_flags = arguments[:separator], arguments[separator + 1 :]
    options = parser.parse_args(arguments)
    folder, _, module = options.recipe.partition("/")
    recipes = options.icefall.resolve() / "egs/librispeech/ASR"
    sys.path[:0] = [str(recipes / folder), str(options.icefall.resolve()), str(HERE)]
    model, work = options.model.resolve(), options.work.resolve()
    prepare(work, options.an4.resolve(), recipes, options.utterances)
    os.chdir(work)
    recipe = importlib.import_module(module)
    replace_model = {
        "zipformer/ctc_decode": as_ctc,
        "conformer_ctc/decode": as_conformer,
        "zipformer/decode": as_transducer,
    }[options.recipe]
    model_flags = replace_model(recipe, model)
    script = str(recipes / f"{options.recipe}.py")
    sys.argv = [script, *COMMON.split(), *model_flags.split(), *recipe_flags]
    recipe.main()


def prepare(work: Path, an4: Path, recipes: Path, utterances: int) -> None:
    """Make the folder of an egs recipe.

    It holds data/lang as compile_hlg.py leaves it, cuts, and links to shared/ and to our files.
    """
    if (work / "shared").exists():
        return
    import an4_ctc  # noqa: PLC0415
    import k2  # noqa: PLC0415
    import sentencepiece  # noqa: PLC0415
    from lhotse import CutSet, MonoCut, Recording, SupervisionSegment  # noqa: PLC0415
    from try_checkout import make_hlg  # noqa: PLC0415

    for name in ("data/lang", "data/fbank", "exp"):
        (work / name).mkdir(parents=True, exist_ok=True)
    train, dev = an4_ctc.split(an4_ctc.load(an4, "train"))
    graph, words = make_hlg([u.text for u in train])
    torch.save(graph.as_dict(), work / "data/lang/HLG.pt")
    torch.save(k2.linear_fsa([[1]]).as_dict(), work / "data/lang/Linv.pt")  # only training reads it
    (work / "data/lang/words.txt").write_text(
        "".join(f"{word} {i}\n" for i, word in enumerate([*words, "#0", "<UNK>"]))
    )
    (work / "data/lang/tokens.txt").write_text(
        "".join(f"{symbol} {i}\n" for i, symbol in enumerate(an4_ctc.SYMBOLS))
    )
    (work / "text").write_text("\n".join(u.text for u in train))
    sentencepiece.SentencePieceTrainer.train(
        input=str(work / "text"), model_prefix=str(work / "data/lang/bpe"), vocab_size=60,
        user_defined_symbols=["<blk>", "<sos/eos>"], unk_id=2, bos_id=-1, eos_id=-1, minloglevel=2,
    )  # fmt: skip
    halves = {"dev-clean": (dev[0::2], "train"), "dev-other": (dev[1::2], "train")}
    test = an4_ctc.load(an4, "test")
    for name, (utterances_of_set, half) in {
        **halves,
        "test-clean": (test[0::2], "test"),
        "test-other": (test[1::2], "test"),
    }.items():
        cuts = []
        for u in utterances_of_set[:utterances]:
            recording = Recording.from_file(an4 / half / f"{u.id}.flac", recording_id=u.id)
            said = SupervisionSegment(
                u.id, u.id, 0.0, recording.duration, text=u.text, speaker=u.speaker
            )
            cuts.append(
                MonoCut(f"{u.id}-0", 0.0, recording.duration, 0, [said], recording=recording)
            )
        CutSet.from_cuts(cuts).to_jsonl(work / f"data/fbank/librispeech_cuts_{name}.jsonl.gz")
    (work / "dlm_rescore").symlink_to(HERE / "dlm_rescore")
    (work / "dlm_rescoring.sh").symlink_to(HERE / "librispeech/dlm_rescoring.sh")
    (work / "shared").symlink_to(recipes / "shared")


class StandIn(torch.nn.Module):
    """AN4's CTC with the methods that decode.py calls."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        import an4_ctc  # noqa: PLC0415

        self.ctc = an4_ctc.Ctc()
        self.ctc.load_state_dict(torch.load(path, weights_only=True))

    def forward_encoder(
        self, features: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        normal = [
            (f[:n] - f[:n].mean(0)) / (f[:n].std(0) + 1e-5)
            for f, n in zip(features, lengths.tolist(), strict=True)
        ]
        log_probs, frames = self.ctc(
            torch.nn.utils.rnn.pad_sequence(normal, batch_first=True), lengths.cpu()
        )
        return log_probs, frames

    def ctc_output(self, log_probs: torch.Tensor) -> torch.Tensor:
        return log_probs

    def forward(
        self, features: torch.Tensor, supervisions: dict[str, Any]
    ) -> tuple[torch.Tensor, None, None]:
        if supervisions["sequence_idx"].tolist() != list(range(len(features))):
            raise ValueError(
                "a cut of this batch has no or several supervisions; the stand-in model needs one"
            )
        return self.forward_encoder(features, supervisions["num_frames"])[0], None, None


def _subsampling(recipe: Any, factor: int) -> None:
    original = recipe.get_params

    def changed() -> Any:
        params = original()
        params.subsampling_factor = factor
        return params

    recipe.get_params = changed


def as_ctc(recipe: Any, model: Path) -> str:
    _subsampling(recipe, 3)
    recipe.get_model = lambda params: StandIn(model)
    recipe.load_checkpoint = lambda *_, **__: None
    return "--use-averaged-model 0 --hlg-scale 1.0"


def as_conformer(recipe: Any, model: Path) -> str:
    _subsampling(recipe, 3)
    recipe.Conformer = lambda **_: StandIn(model)
    recipe.load_checkpoint = lambda *_, **__: None
    recipe.BpeCtcTrainingGraphCompiler = lambda *_, **__: SimpleNamespace(sos_id=1, eos_id=1)
    return ""


def as_transducer(recipe: Any, model: Path) -> str:
    del model
    torch.manual_seed(0)
    recipe.load_checkpoint = lambda *_, **__: None
    return f"--use-averaged-model 0 --bpe-model data/lang/bpe.model {SMALL}"


if __name__ == "__main__":
    main()
    print(subprocess.run(["ls", "-R", "exp"], capture_output=True, text=True, check=True).stdout)
