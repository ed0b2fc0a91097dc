# From posteriors to significance: stages that recipes of speech share. Sourced by their run.sh.
#
# Needs EXP/data/{dev,test}.tsv (id, path, text) and .text (id text), MODEL (a recogniser), NGRAM (a
# word n-gram model) and COUNT (hypotheses of a list). Scales are tuned on dev; test is read once.
# shellcheck shell=bash

LISTS=beam_ngram # what is rescored
SYSTEMS="am am,ngram am,ngram,ar am,ngram,usdm_pll am,ngram,mdlm_nelbo"

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
      --ngram "$NGRAM" --ngram-scale 0.5 --ngram-bonus 1 -o "$EXP/beam_ngram/$part.jsonl"
  done
}

score() {
  for part in dev test; do
    dlmrescore score "$EXP/$LISTS/$part.jsonl" --scorer ar -o "$EXP/$part.1.jsonl"
    dlmrescore score "$EXP/$part.1.jsonl" --scorer usdm --estimator pll -o "$EXP/$part.2.jsonl"
    dlmrescore score "$EXP/$part.2.jsonl" --scorer mdlm --estimator nelbo \
      -o "$EXP/$part.scored.jsonl"
  done
}

fuse() {
  for scores in $SYSTEMS; do
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
  for scores in $SYSTEMS; do
    name=${scores//,/+}
    dlmrescore eval "$EXP/$name.jsonl" --baseline "$EXP/greedy/test.jsonl" \
      -o "$EXP/$name.eval.json"
  done
}

run_stages() {
  for stage in "$@"; do
    "$stage"
  done
}
