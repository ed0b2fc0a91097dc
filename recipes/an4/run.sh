#!/usr/bin/env bash
# From AN4's audio to significance. A command that was stopped resumes; a stage whose output is there
# is done again. Run single stages with STAGES.
#
#   AN4=path/to/an4 EXP=exp/an4 recipes/an4/run.sh
#   AN4=path/to/an4 EXP=exp/an4 STAGES="decode score" recipes/an4/run.sh
#
# Further variables: TRAIN (options of `train ctc`), MODEL (a recogniser in place of EXP/ctc), COUNT
# (hypotheses of a list), DEV (training utterances held out).
set -euo pipefail
: "${AN4:?name the folder with train.tsv, test.tsv and the audio}"
EXP=${EXP:-exp/an4} MODEL=${MODEL:-${EXP:-exp/an4}/ctc} COUNT=${COUNT:-100} DEV=${DEV:-100}
HERE=$(dirname "$0")
TRAIN=${TRAIN:-"--width 144 --layers 5 --feed-forward 384 --optimizer muon --learning-rate 3e-3
  --warmup 30 --steps 9000 --decay 0.2 --batch-seconds 30 --time-masks 3 --save-every 84"}
LISTS=$EXP/beam_ngram # what is rescored

data() {
  python "$HERE/manifests.py" "$AN4" --dev "$DEV" -o "$EXP/data"
}

train() {
  # shellcheck disable=SC2086 - TRAIN is a list of options
  dlmrescore train ctc --audio "$EXP/data/train.tsv" --valid "$EXP/data/dev.tsv" -o "$EXP/ctc" \
    --corpus "$EXP/features" $TRAIN
  dlmrescore train ngram --text "$EXP/data/train.txt" --valid "$EXP/data/dev.txt" --join 0 \
    --order 3 --prune 0,0,0 -o "$EXP/ngram"
}

posteriors() {
  for part in dev test; do
    dlmrescore posteriors "$EXP/data/$part.tsv" --model "$MODEL" -o "$EXP/$part.safetensors"
  done
}

decode() {
  mkdir -p "$EXP/greedy" "$EXP/beam" "$EXP/beam_ngram"
  for part in dev test; do
    references=(--refs "$EXP/data/$part.text")
    dlmrescore decode "$EXP/$part.safetensors" --method ctc_greedy "${references[@]}" \
      -o "$EXP/greedy/$part.jsonl"
    dlmrescore decode "$EXP/$part.safetensors" --method ctc_beam -n "$COUNT" "${references[@]}" \
      -o "$EXP/beam/$part.jsonl"
    dlmrescore decode "$EXP/$part.safetensors" --method ctc_beam -n "$COUNT" "${references[@]}" \
      --ngram "$EXP/ngram" --ngram-scale 0.5 --ngram-bonus 1 -o "$EXP/beam_ngram/$part.jsonl"
  done
}

score() {
  for part in dev test; do
    dlmrescore score "$LISTS/$part.jsonl" --scorer ar -o "$EXP/$part.1.jsonl"
    dlmrescore score "$EXP/$part.1.jsonl" --scorer usdm:pll -o "$EXP/$part.2.jsonl"
    dlmrescore score "$EXP/$part.2.jsonl" --scorer mdlm:nelbo -o "$EXP/$part.scored.jsonl"
  done
}

fuse() {
  for scores in am am,ngram am,ngram,ar am,ngram,usdm_pll am,ngram,mdlm_nelbo; do
    name=${scores//,/+}
    dlmrescore tune "$EXP/dev.scored.jsonl" --scores "$scores" -o "$EXP/$name.fusion.json"
    dlmrescore fuse "$EXP/test.scored.jsonl" --fusion "$EXP/$name.fusion.json" \
      -o "$EXP/$name.jsonl"
  done
}

evaluate() {
  dlmrescore eval "$EXP/greedy/test.jsonl" -o "$EXP/greedy.eval.json"
  for name in beam beam_ngram; do
    dlmrescore eval "$EXP/$name/test.jsonl" --baseline "$EXP/greedy/test.jsonl" \
      -o "$EXP/$name.eval.json"
  done
  for name in am am+ngram am+ngram+ar am+ngram+usdm_pll am+ngram+mdlm_nelbo; do
    dlmrescore eval "$EXP/$name.jsonl" --baseline "$EXP/greedy/test.jsonl" \
      -o "$EXP/$name.eval.json"
    python "$HERE/unseen.py" "$EXP/$name.jsonl" "$EXP/data/train.txt" "$EXP/data/dev.txt" \
      -o "$EXP/$name.unseen.jsonl"
    dlmrescore eval "$EXP/$name.unseen.jsonl" -o "$EXP/$name.unseen.eval.json"
  done
}

for stage in ${STAGES:-data train posteriors decode score fuse evaluate}; do
  "$stage"
done
