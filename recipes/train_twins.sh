#!/usr/bin/env bash
# Train the MDLM, USDM and AR twins: same text, vocabulary, size, batches and steps. By default
# about 28 million parameters and three epochs of 80 million tokens. Give the same command again to
# resume a run that was stopped.
#
#   TEXT="books_1.txt books_2.txt novels.txt" VALID=valid.txt OUT=runs DEVICE=cuda recipes/train_twins.sh
#
# Further variables: SIZE (options of the network), STEPS, BATCH (tokens), OBJECTIVES, EXTRA (any
# other options).
set -euo pipefail
: "${TEXT:?name the training files, separated by spaces}" "${VALID:?name the validation file}"
OUT=${OUT:-runs} DEVICE=${DEVICE:-cuda} STEPS=${STEPS:-3800} BATCH=${BATCH:-65536}
SIZE=${SIZE:-"--width 512 --layers 8 --heads 8 --feed-forward 1408"}
read -ra files <<<"$TEXT"
for objective in ${OBJECTIVES:-mdlm usdm ar}; do
  # shellcheck disable=SC2086 - SIZE and EXTRA are lists of options
  dlmrescore train "$objective" "${files[@]/#/--text=}" --valid "$VALID" \
    --corpus "$OUT/corpus" -o "$OUT/$objective" --steps "$STEPS" --batch-tokens "$BATCH" \
    --optimizer muon --learning-rate 4e-3 --decay 0.4 $SIZE --device "$DEVICE" ${EXTRA:-}
done
