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
EXP=${EXP:-exp/an4} MODEL=${MODEL:-${EXP:-exp/an4}/ctc} COUNT=${COUNT:-20} DEV=${DEV:-100}
HERE=$(dirname "$0")
TRAIN=${TRAIN:-"--width 144 --layers 5 --feed-forward 384 --optimizer muon --learning-rate 3e-3
  --warmup 30 --steps 1470 --decay 0.2 --batch-seconds 30 --time-masks 3 --save-every 84"}
NGRAM=$EXP/ngram
. "$HERE/../speech_stages.sh"

data() {
  python "$HERE/manifests.py" "$AN4" --dev "$DEV" -o "$EXP/data"
}

train() {
  # shellcheck disable=SC2086 - TRAIN is a list of options
  dlmrescore train ctc --audio "$EXP/data/train.tsv" --valid "$EXP/data/dev.tsv" -o "$EXP/ctc" \
    --corpus "$EXP/features" $TRAIN
  dlmrescore train ngram --text "$EXP/data/train.txt" --valid "$EXP/data/dev.txt" --join 0 \
    --order 3 --prune 0,0,0 -o "$NGRAM"
}

unseen() { # the same, without the utterances whose text is in the training data
  mkdir -p "$EXP/unseen"
  for name in greedy/test beam/test beam_ngram/test ${SYSTEMS//,/+}; do
    part=$EXP/unseen/${name%/test}
    python "$HERE/unseen.py" "$EXP/$name.jsonl" "$EXP/data/train.txt" "$EXP/data/dev.txt" \
      -o "$part.jsonl"
    dlmrescore eval "$part.jsonl" -o "$part.eval.json"
  done
}

# shellcheck disable=SC2086 - STAGES is a list of names
run_stages ${STAGES:-data train posteriors decode score fuse evaluate unseen}
