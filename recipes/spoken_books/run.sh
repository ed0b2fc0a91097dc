#!/usr/bin/env bash
# From a manifest to significance, on synthetic speech. A command that was stopped resumes; a stage
# whose output is there is done again. Run single stages with STAGES.
#
#   TEXT="books.txt novels.txt" VALID=held_out.txt EXP=exp/spoken recipes/spoken_books/run.sh
#   EXP=exp/spoken STAGES="noise" SNR="2 12" recipes/spoken_books/run.sh
#
# TEXT and VALID are for the n-gram model alone (stage ngram), or name one with NGRAM. Further
# variables: HOURS (of training speech), SNR and TRAIN_SNR (dB, from and to), ENGINE (flite or
# espeak: one synthesiser speaks all), TRAIN (options of `train ctc`), MODEL (a recogniser in place
# of EXP/ctc), COUNT (hypotheses of a list), JOBS.
set -euo pipefail
EXP=${EXP:-exp/spoken} MODEL=${MODEL:-${EXP:-exp/spoken}/ctc} COUNT=${COUNT:-100}
NGRAM=${NGRAM:-$EXP/ngram} HOURS=${HOURS:-10} JOBS=${JOBS:-2} SNR=${SNR:-"5 20"}
TRAIN_SNR=${TRAIN_SNR:-"0 25"}
TRAIN=${TRAIN:-"--width 144 --layers 5 --feed-forward 384 --optimizer muon --learning-rate 3e-3
  --warmup 100 --steps 9000 --decay 0.3 --time-masks 3 --save-minutes 3"}
HERE=$(dirname "$0")
. "$HERE/../speech_stages.sh"

speech() {
  for part in train.tsv.gz dev.tsv test.tsv; do
    python "$HERE/make_audio.py" "$HERE/manifest/$part" --hours "$HOURS" --jobs "$JOBS" \
      ${ENGINE:+--engine "$ENGINE"} -o "$EXP/clean/${part%%.*}"
  done
}

noise() {
  # shellcheck disable=SC2086 - a range is two numbers
  python "$HERE/add_noise.py" "$HERE/manifest/train.tsv.gz" --clean "$EXP/clean/train" \
    --hours "$HOURS" --snr-db $TRAIN_SNR --jobs "$JOBS" -o "$EXP/data/train"
  for part in dev test; do
    # shellcheck disable=SC2086
    python "$HERE/add_noise.py" "$HERE/manifest/$part.tsv" --clean "$EXP/clean/$part" \
      --snr-db $SNR --jobs "$JOBS" -o "$EXP/data/$part"
    tail -n +2 "$EXP/data/$part.tsv" | cut -f 1,3 | tr '\t' ' ' > "$EXP/data/$part.text"
  done
}

train() {
  # shellcheck disable=SC2086 - TRAIN is a list of options
  dlmrescore train ctc --audio "$EXP/data/train.tsv" --valid "$EXP/data/dev.tsv" -o "$EXP/ctc" \
    --corpus "$EXP/features" $TRAIN
}

ngram() {
  texts=()
  for text in ${TEXT:?name the training texts, or an n-gram model with NGRAM}; do
    texts+=(--text "$text")
  done
  dlmrescore train ngram "${texts[@]}" --valid "${VALID:?name a held-out text}" -o "$NGRAM"
}

held_out_voice() { # the sentences of test by a voice that nobody trained on: greedy alone
  python "$HERE/make_audio.py" "$HERE/manifest/test.tsv" --voice festival/ked_diphone \
    --jobs "$JOBS" -o "$EXP/clean/test_ked"
  # shellcheck disable=SC2086
  python "$HERE/add_noise.py" "$HERE/manifest/test.tsv" --clean "$EXP/clean/test_ked" \
    --snr-db $SNR --jobs "$JOBS" -o "$EXP/data/test_ked"
  dlmrescore posteriors "$EXP/data/test_ked.tsv" --model "$MODEL" -o "$EXP/test_ked.safetensors"
  dlmrescore decode "$EXP/test_ked.safetensors" --method ctc_greedy --refs "$EXP/data/test.text" \
    -o "$EXP/greedy/test_ked.jsonl"
  dlmrescore eval "$EXP/greedy/test_ked.jsonl" -o "$EXP/test_ked.eval.json"
}

# shellcheck disable=SC2086 - STAGES is a list of names
run_stages ${STAGES:-speech noise train ngram posteriors decode score fuse evaluate}
