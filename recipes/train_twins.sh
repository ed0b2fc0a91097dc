#!/usr/bin/env bash
# Train the twins: one long AR run, then its weights as a masked model (attention opened), then
# those as a uniform-state one. Same text, vocabulary and size. By default about 28 million
# parameters, three epochs of 80 million tokens for the AR model, and a quarter of its steps for
# each of the others. Every token teaches an AR model and only the hidden ones a masked model, so
# half a million tokens from AR weights do what millions from scratch do. Give the same command
# again to resume a run that was stopped.
#
#   TEXT="books_1.txt books_2.txt novels.txt" VALID=valid.txt OUT=runs DEVICE=cuda recipes/train_twins.sh
#
# Further variables: SIZE (options of the network), STEPS of the first run and ADAPT of each
# following one, BATCH (tokens), OBJECTIVES (in order: each starts from the one before), START (a
# checkpoint for the first), EXTRA (any other options).
set -euo pipefail
: "${TEXT:?name the training files, separated by spaces}" "${VALID:?name the validation file}"
OUT=${OUT:-runs} DEVICE=${DEVICE:-cuda} STEPS=${STEPS:-3800} BATCH=${BATCH:-65536} START=${START:-}
ADAPT=${ADAPT:-$(((STEPS + 3) / 4))}
SIZE=${SIZE:-"--width 512 --layers 8 --heads 8 --feed-forward 1408"}
read -ra files <<<"$TEXT"
steps=$STEPS
for objective in ${OBJECTIVES:-ar mdlm usdm}; do
  # shellcheck disable=SC2086 - SIZE and EXTRA are lists of options
  dlmrescore train "$objective" "${files[@]/#/--text=}" --valid "$VALID" --corpus "$OUT/corpus" \
    -o "$OUT/$objective" ${START:+--start-from "$START"} --steps "$steps" --batch-tokens "$BATCH" \
    --optimizer muon --learning-rate 4e-3 --decay 0.4 $SIZE --device "$DEVICE" ${EXTRA:-}
  START=$OUT/$objective steps=$ADAPT
done
