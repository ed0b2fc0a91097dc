# From posteriors to significance: stages that recipes of speech share. Sourced by their run.sh.
#
# Needs EXP/data/{dev,test}.tsv (id, path, text) and .text (id text), MODEL (a recogniser), NGRAM (a
# word n-gram model) and COUNT (hypotheses of a list). Scales are tuned on dev; test is read once.
#
# Stage joint also needs USDM and MDLM: diffusion language models in the recogniser's symbols (`train
# usdm --tokenizer MODEL`); AR, an autoregressive one (default: the embedded one). STEPS, TIMES,
# SCALES, HIDE, EDITS and GATES are what is tried on dev, LIMIT the utterances that are timed.
#
# Stages train_mdm, mdm_curves and mdm_chain (docs/mdm.md): MDM are options of `train mdm`,
# MDM_DEVICE is where it runs.
#
# Stages train_dllm and dllm_ablation (docs/prior_guided.md): DLLM_MASKED and DLLM_CAUSAL are the
# language models behind the prompt (default: the embedded ones), DLLM_FIRST and DLLM options of the
# two runs of `train dllm`, the first of the projector alone unless it says otherwise;
# DLLM_SCRATCH=no leaves out the model from scratch. DLLM_LIMIT is how many utterances the ablation
# reads (default: all), DLLM_CANVAS the places without a draft, which the longest text needs. Stage
# all_decoders compares what the stages before have trained (recipes/decoders).
# shellcheck shell=bash

LISTS=beam_ngram # what is rescored
NGRAM_SCALE=${NGRAM_SCALE:-0.5} NGRAM_BONUS=${NGRAM_BONUS:-1} # in the beam; stage ngram_grid
SYSTEMS="am am,ngram am,ngram,ar am,ngram,usdm_pll am,ngram,mdlm_pll"

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
      --ngram "$NGRAM" --ngram-scale "$NGRAM_SCALE" --ngram-bonus "$NGRAM_BONUS" \
      -o "$EXP/beam_ngram/$part.jsonl"
  done
}

ngram_grid() { # the n-gram's scale and bonus in the beam, on dev
  dlmrescore decode "$EXP/dev.safetensors" --method ctc_beam -n "$COUNT" --ngram "$NGRAM" \
    --grid "ngram_scale=${NGRAM_SCALES:-0.3,0.6,0.9}" --grid "ngram_bonus=${NGRAM_BONUSES:-1,3,5}" \
    --refs "$EXP/data/dev.text" -o "$EXP/ngram.grid.json"
}

score() {
  for part in dev test; do
    dlmrescore score "$EXP/$LISTS/$part.jsonl" --scorer ar -o "$EXP/$part.1.jsonl"
    dlmrescore score "$EXP/$part.1.jsonl" --scorer usdm --estimator pll -o "$EXP/$part.2.jsonl"
    dlmrescore score "$EXP/$part.2.jsonl" --scorer mdlm --estimator pll \
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

STEPS=${STEPS:-1 8 64} TIMES=${TIMES:-0.1,0.3,0.5,0.8} SCALES=${SCALES:-0.1,0.3,0.5,0.7,1,1.5,2,3}
HIDE=${HIDE:-0.5,0.7,0.9,0.99} EDITS=${EDITS:-2,8} GATES=${GATES:-0.5,0.7,0.9}
AR=${AR:-ar} LIMIT=${LIMIT:-50}
JOINT=$(dirname "${BASH_SOURCE[0]}")/joint

joint() { # joint decoding with USDM and MDLM: settings, lists, rescoring, oracles, timing, report
  mkdir -p "$EXP/joint"
  joint_settings && joint_decode && joint_rescore && joint_oracle && joint_timing && joint_report
}

grid() { # NAME METHOD MODEL OPTIONS...: search settings on dev
  dlmrescore decode "$EXP/dev.safetensors" --method "$2" --model "$3" "${@:4}" \
    --refs "$EXP/data/dev.text" -o "$EXP/joint/$1.grid.json"
}

best() { # NAME [OPTIONS...]: the best setting of a grid
  python "$JOINT/setting.py" "$EXP/joint/$1.grid.json" "${@:2}"
}

# shellcheck disable=SC2046,SC2086 - what `best` prints, and STEPS, are lists
joint_settings() {
  grid steps1 joint "$USDM" --grid "t_start=$TIMES" --grid "lm_scale=$SCALES" \
    --grid frame=first,peak
  for steps in ${STEPS#1}; do
    grid "steps$steps" joint "$USDM" $(best steps1 lm_scale frame) --steps "$steps" \
      --grid "t_start=$TIMES" --grid update=combined,ancestral
  done
  grid mdlm joint_mdlm "$MDLM" $(best steps1 frame) --grid "hide_below=$HIDE" \
    --grid "lm_scale=$SCALES"
  grid edits joint "$USDM" $(best steps1) --grid "edits=$EDITS" --grid "gate=$GATES"
  grid mdlm_edits joint_mdlm "$MDLM" $(best steps1 frame) $(best mdlm) --grid "edits=$EDITS" \
    --grid "gate=$GATES"
}

joint_lists() { # NAME PART METHOD MODEL OPTIONS...: decode a part
  dlmrescore decode "$EXP/$2.safetensors" --method "$3" --model "$4" "${@:5}" \
    --refs "$EXP/data/$2.text" -o "$EXP/joint/$1.$2.jsonl"
}

# shellcheck disable=SC2046,SC2086
joint_decode() {
  for steps in $STEPS; do
    for time in ${TIMES//,/ }; do
      joint_lists "steps$steps.$time" test joint "$USDM" $(best steps1 lm_scale frame) \
        $(best "steps$steps" --without t_start) --steps "$steps" --t-start "$time"
    done
  done
  for part in dev test; do
    joint_lists joint "$part" joint "$USDM" $(best steps1)
    joint_lists mdlm "$part" joint_mdlm "$MDLM" $(best steps1 frame) $(best mdlm)
    joint_lists edits "$part" joint "$USDM" $(best steps1) $(best edits)
    joint_lists mdlm_edits "$part" joint_mdlm "$MDLM" $(best steps1 frame) $(best mdlm) \
      $(best mdlm_edits)
    joint_lists drafts "$part" joint "$USDM" $(best steps1) --drafts 8
    dlmrescore pool "beam=$EXP/beam/$part.jsonl" "drafts=$EXP/joint/drafts.$part.jsonl" \
      "edits=$EXP/joint/edits.$part.jsonl" "mdlm=$EXP/joint/mdlm_edits.$part.jsonl" \
      -o "$EXP/joint/joined.$part.jsonl"
    for model in "$MDLM" "$USDM"; do
      name=deliberate_$([ "$model" = "$USDM" ] && echo usdm || echo mdlm)
      dlmrescore decode "$EXP/beam/$part.jsonl" --method deliberate --model "$model" \
        --posteriors "$EXP/$part.safetensors" -o "$EXP/joint/$name.$part.jsonl"
    done
  done
}

joint_rescore() { # lists with am and a language model; scales from dev
  for lm in usdm ar mdlm; do
    rescore_with beam $lm
    rescore_with joined $lm
  done
  rescore_with deliberate_mdlm usdm
  rescore_with deliberate_usdm usdm
}

rescore_with() { # LISTS LM
  case $2 in
    ar) scorer=ar=ar@$AR ;;
    usdm) scorer=usdm=usdm:pll@$USDM ;;
    mdlm) scorer=mdlm=mdlm@$MDLM ;;
  esac
  for part in dev test; do
    source=$EXP/joint/$1.$part.jsonl
    if [ "$1" = beam ]; then source=$EXP/beam/$part.jsonl; fi
    dlmrescore score "$source" --scorer "$scorer" -o "$EXP/joint/$1+$2.$part.scored.jsonl"
  done
  dlmrescore tune "$EXP/joint/$1+$2.dev.scored.jsonl" --scores "am,$2" \
    -o "$EXP/joint/$1+$2.fusion.json"
  dlmrescore fuse "$EXP/joint/$1+$2.test.scored.jsonl" --fusion "$EXP/joint/$1+$2.fusion.json" \
    -o "$EXP/joint/$1+$2.test.jsonl"
}

joint_oracle() {
  python "$JOINT/oracle.py" "$EXP/test.safetensors" --refs "$EXP/data/test.text" --usdm "$USDM" \
    --mdlm "$MDLM" --grids "$EXP/joint/steps1.grid.json" "$EXP/joint/mdlm.grid.json" \
    -o "$EXP/joint/oracle.json"
}

joint_timing() {
  systems=(--decode "greedy=--method ctc_greedy"
    --decode "beam=--method ctc_beam -n $COUNT"
    --decode "beam_ngram=--method ctc_beam -n $COUNT --ngram $NGRAM --ngram-scale $NGRAM_SCALE
      --ngram-bonus $NGRAM_BONUS"
    --decode "joint=--method joint --model $USDM $(best steps1)"
    --decode "mdlm=--method joint_mdlm --model $MDLM $(best steps1 frame) $(best mdlm)"
    --decode "edits=--method joint --model $USDM $(best steps1) $(best edits)"
    --decode "mdlm_edits=--method joint_mdlm --model $MDLM $(best steps1 frame) $(best mdlm) \
      $(best mdlm_edits)"
    --score "+ar=ar@$AR@$EXP/beam/test.jsonl" --score "+usdm=usdm:pll@$USDM@$EXP/beam/test.jsonl"
    --score "+mdlm=mdlm@$MDLM@$EXP/beam/test.jsonl")
  for steps in $STEPS; do
    systems+=(--decode "steps$steps=--method joint --model $USDM --steps $steps $(best "steps$steps")")
  done
  python "$JOINT/timing.py" "$EXP/test.safetensors" "${systems[@]}" --limit "$LIMIT" \
    -o "$EXP/joint/timing.json"
}

joint_report() {
  python "$JOINT/report.py" "$EXP" -o "$EXP/joint"
}

MDM=${MDM:-"--width 256 --layers 6 --heads 4 --feed-forward 704 --optimizer muon
  --learning-rate 1e-3 --steps 3000 --batch-seconds 60"}
MDM_DEVICE=${MDM_DEVICE:-cpu}

# shellcheck disable=SC2086 - MDM is a list of options
train_mdm() { # decoders that listen: MDM, the same without self-correction, its autoregressive twin
  from=(--corpus "$EXP/features" --start-from "$MODEL" --device "$MDM_DEVICE")
  dlmrescore train mdm "${from[@]}" $MDM -o "$EXP/mdm"
  dlmrescore train mdm "${from[@]}" $MDM --self-correction off -o "$EXP/mdm_off"
  dlmrescore train mdm "${from[@]}" $MDM --causal -o "$EXP/mdm_twin"
}

mdm_curves() { # error rates, evaluations and speed of every way to decode with them
  for part in dev test; do
    python "$HERE/../mdm/curves.py" "$EXP/data/$part.tsv" --mdm "$EXP/mdm" --ctc "$MODEL" \
      --other "mdm without self-correction=$EXP/mdm_off" --twin "$EXP/mdm_twin" \
      --device "$MDM_DEVICE" -o "$EXP/mdm_$part"
  done
  python "$HERE/../mdm/oracle.py" "$EXP/data/dev.tsv" --mdm "$EXP/mdm" --twin "$EXP/mdm_twin" \
    -o "$EXP/mdm_oracle.json"
}

mdm_chain() { # MDM's candidates and CTC's list, rescored by mdm, CTC, AR and MDLM, fused on dev
  for part in dev test; do
    mdm=(--model "$EXP/mdm" --audio "$EXP/data/$part.tsv")
    dlmrescore decode "$EXP/data/$part.tsv" --method mdm --model "$EXP/mdm" --candidates 5 \
      --commit threshold --commit-value 0.9 --refs "$EXP/data/$part.text" \
      -o "$EXP/mdm_$part.candidates.jsonl"
    dlmrescore pool "ctc=$EXP/beam/$part.jsonl" "mdm=$EXP/mdm_$part.candidates.jsonl" \
      -o "$EXP/mdm_$part.pooled.jsonl"
    dlmrescore score "$EXP/mdm_$part.pooled.jsonl" --scorer ctc --name am \
      --posteriors "$EXP/$part.safetensors" --impossible drop -o "$EXP/mdm_$part.1.jsonl"
    dlmrescore score "$EXP/mdm_$part.1.jsonl" --scorer ar -o "$EXP/mdm_$part.2.jsonl"
    dlmrescore score "$EXP/mdm_$part.2.jsonl" --scorer mdlm -o "$EXP/mdm_$part.3.jsonl"
    dlmrescore score "$EXP/mdm_$part.3.jsonl" --scorer mdm:nelbo "${mdm[@]}" \
      -o "$EXP/mdm_$part.4.jsonl"
    dlmrescore score "$EXP/mdm_$part.4.jsonl" --scorer mdm:pll "${mdm[@]}" \
      -o "$EXP/mdm_$part.scored.jsonl"
  done
  for scores in am am,ar,mdlm_pll; do
    mdm_fuse "$scores"
    for more in mdm_nelbo mdm_pll; do
      mdm_fuse "$scores,$more"
      with=$EXP/mdm_${scores//,/+}+$more
      dlmrescore eval "$with.jsonl" --baseline "$EXP/mdm_${scores//,/+}.jsonl" -o "$with.eval.json"
    done
  done
}

mdm_fuse() { # SCORES: tuned on dev, used on test
  name=$EXP/mdm_${1//,/+}
  dlmrescore tune "$EXP/mdm_dev.scored.jsonl" --scores "$1" -o "$name.fusion.json"
  dlmrescore fuse "$EXP/mdm_test.scored.jsonl" --fusion "$name.fusion.json" -o "$name.jsonl"
}

DLLM_FIRST=${DLLM_FIRST:-"--stride 4 --steps 100 --batch-seconds 60 --optimizer muon
  --learning-rate 3e-3 --warmup 10 --decay 0.6 --average 0.98"}
DLLM=${DLLM:-"--steps 600 --batch-seconds 30 --optimizer muon --learning-rate 1.5e-3 --warmup 20
  --decay 0.6 --average 0.98"}

# shellcheck disable=SC2086 - DLLM_FIRST and DLLM are lists of options
train_dllm() { # behind a prompt: an MDLM, its autoregressive twin, and one from scratch
  for pair in "mdlm=${DLLM_MASKED:-mdlm}" "ar=${DLLM_CAUSAL:-ar}"; do
    model=$EXP/dllm_${pair%%=*}
    dlmrescore train dllm --corpus "$EXP/features" --start-from "$MODEL" --device "$MDM_DEVICE" \
      --language-model "${pair#*=}" --learn projector $DLLM_FIRST -o "${model}_first"
    dlmrescore train dllm --corpus "$EXP/features" --start-from "${model}_first" \
      --device "$MDM_DEVICE" $DLLM -o "$model"
  done
  if [ "${DLLM_SCRATCH:-}" = no ]; then return; fi
  dlmrescore train dllm --corpus "$EXP/features" --start-from "$MODEL" --device "$MDM_DEVICE" \
    --from-scratch --stride 4 $DLLM -o "$EXP/dllm_scratch"
}

dllm_ablation() { # what each part of prior-guided denoising is worth
  models=(--dllm "$EXP/dllm_mdlm" --twin "$EXP/dllm_ar")
  if [ "${DLLM_SCRATCH:-}" != no ]; then models+=(--scratch "$EXP/dllm_scratch"); fi
  if [ -d "$EXP/mdm" ]; then models+=(--mdm "$EXP/mdm"); fi
  python "$HERE/../dllm/ablation.py" "$EXP/data/dev.tsv" "$EXP/data/test.tsv" "${models[@]}" \
    ${DLLM_LIMIT:+--limit "$DLLM_LIMIT"} --canvas "${DLLM_CANVAS:-24}" -o "$EXP/dllm_ablation"
}

all_decoders() { # every decoder whose models are there: WER against RTFx, with and without rescoring
  models=(--model "ngram=$NGRAM" --model "ar=$AR")
  for pair in joint_usdm="${USDM:-}" joint_mdlm="${MDLM:-}" mdm="$EXP/mdm" \
    mdm_twin="$EXP/mdm_twin" dllm="$EXP/dllm_mdlm" dllm_twin="$EXP/dllm_ar"; do
    if [ -d "${pair#*=}" ]; then models+=(--model "$pair"); fi
  done
  python "$HERE/../decoders/compare.py" "$EXP/data" --recogniser "$MODEL" "${models[@]}" \
    --limit "$LIMIT" -o "$EXP/decoders"
}

run_stages() {
  for stage in "$@"; do
    "$stage"
  done
}
