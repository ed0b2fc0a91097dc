#!/usr/bin/env bash
# Rescore the N-best lists of a LibriSpeech recipe with diffusion language models: weights from the dev sets, one table of the test sets.
# Run it in egs/librispeech/ASR, after linking this file and the folder dlm_rescore there (README.md of dlmrescore's recipes/icefall).

set -eou pipefail

stage=0
stop_stage=100

decode=zipformer/ctc_decode.py           # a patched decode.py: patches/*.patch
decode_args="--epoch 30 --avg 15"        # what it needs besides --exp-dir and the method
method_flag=--decoding-method            # conformer_ctc/decode.py: --method
exp_dir=zipformer/exp
num_paths=100
nbest_scale=1.0
lists=                                   # where the dumps are; default: where the decode.py above puts them
suffix=                                  # what follows the set in their names, such as -epoch-30_avg-15_use-averaged-model; default: whatever it is

scorers="mdlm:nelbo usdm:pll ar"         # [SCORER:ESTIMATOR ...], see dlmrescore score --help; SCORER:ESTIMATOR@MODEL for another model
scores=am,ngram                          # what the recogniser gave; am alone for a transducer or ctc_topo
device=cpu
dev_sets="dev-clean dev-other"
test_sets="test-clean test-other"
dlm_dir=                                 # where everything goes; default: $exp_dir/dlm-lists

. shared/parse_options.sh || exit 1

dlm_dir=${dlm_dir:-$exp_dir/dlm-lists}
lists=${lists:-$exp_dir/nbest-dump}
mkdir -p "$dlm_dir"

log() {
  # This function is from espnet
  local fname=${BASH_SOURCE[1]##*/}
  echo -e "$(date '+%Y-%m-%d %H:%M:%S') (${fname}:${BASH_LINENO[0]}:${FUNCNAME[1]}) $*"
}

dumped() { # the one dump of a set
  local found=("$lists/nbest-$1${suffix:-*}.jsonl")
  # shellcheck disable=SC2206
  [ -n "$suffix" ] || found=($lists/nbest-$1*.jsonl)
  if [ ${#found[@]} -ne 1 ] || [ ! -f "${found[0]}" ]; then
    log "expected one dump of $1 in $lists, found: ${found[*]}; run stage 0, or say which with --lists and --suffix" >&2
    exit 1
  fi
  echo "${found[0]}"
}

names() { # the names of the new scores, after the recogniser's
  local all=$scores spec
  for spec in $scorers; do all=$all,$(name_of "$spec"); done
  echo "$all"
}

name_of() { echo "${1//[:@\/]/_}"; } # mdlm:nelbo -> mdlm_nelbo; a model is part of it

if [ $stage -le 0 ] && [ $stop_stage -ge 0 ]; then
  log "Stage 0: Dump the N-best lists of dev and test sets. Started again, it goes on with the cuts that are missing."
  # shellcheck disable=SC2086
  ./$decode $decode_args --exp-dir "$exp_dir" --num-paths $num_paths --nbest-scale $nbest_scale $method_flag nbest-dump
fi

if [ $stage -le 1 ] && [ $stop_stage -ge 1 ]; then
  log "Stage 1: Score every hypothesis: $scorers"
  for part in $dev_sets $test_sets; do
    from=$(dumped $part)
    to=$dlm_dir/$(basename "$from" .jsonl)
    for spec in $scorers; do
      plain=${spec%%@*}
      args=(--scorer "${plain%%:*}" --name "$(name_of "$spec")" --device "$device")
      [[ $plain == *:* ]] && args+=(--estimator "${plain#*:}")
      [[ $spec == *@* ]] && args+=(--model "${spec#*@}")
      to=$to-$(name_of "$spec")
      if [ ! -s "$to.jsonl" ] || [ "$from" -nt "$to.jsonl" ]; then dlmrescore score "$from" "${args[@]}" -o "$to.jsonl"; fi
      from=$to.jsonl
    done
    cp "$from" "$dlm_dir/scored-$part.jsonl"
  done
fi

if [ $stage -le 2 ] && [ $stop_stage -ge 2 ]; then
  log "Stage 2: Tune the scales on $dev_sets (never on a test set)"
  for part in $dev_sets; do cat "$dlm_dir/scored-$part.jsonl"; done > "$dlm_dir/scored-dev.jsonl"
  dlmrescore check "$dlm_dir/scored-dev.jsonl"
  dlmrescore tune "$dlm_dir/scored-dev.jsonl" --scores "$(names)" --cross-validate 5 -o "$dlm_dir/fusion.json"
fi

if [ $stage -le 3 ] && [ $stop_stage -ge 3 ]; then
  log "Stage 3: Fuse and evaluate $test_sets"
  for part in $test_sets; do
    dlmrescore fuse "$dlm_dir/scored-$part.jsonl" --fusion "$dlm_dir/fusion.json" -o "$dlm_dir/best-$part.jsonl"
    dlmrescore eval "$dlm_dir/best-$part.jsonl" --baseline "$dlm_dir/scored-$part.jsonl" -o "$dlm_dir/eval-$part.json"
    dlmrescore convert "$dlm_dir/best-$part.jsonl" --to icefall-recogs -o "$dlm_dir/recogs-$part-dlm-rescoring.txt"
  done
fi

if [ $stage -le 4 ] && [ $stop_stage -ge 4 ]; then
  log "Stage 4: Write errs-*, wer-summary-* and the block for RESULTS.md as icefall writes them"
  python3 -m dlm_rescore.results "$dlm_dir" --decode "./$decode $decode_args --exp-dir $exp_dir --num-paths $num_paths --nbest-scale $nbest_scale" \
    --dev-sets $dev_sets --test-sets $test_sets
fi
