#!/usr/bin/env bash
# What a GPU is wanted for, in calls of at most ten minutes that go on where the last one stopped:
#   bench/gpu.sh [agree|table|mtt|pruning|lottery]... [-- OPTIONS OF EVERY STUDY]     [default: all parts, in this order]
#
#   agree     every stage on the device against the CPU (agree.py)
#   table     the table of performance on the device (table.py), to docs/performance/DEVICE.json
#   mtt       mtt-cifar10-ipc10.yaml, pruning distilled-pruning-cifar10.yaml, lottery lottery-cifar10-resnet20.yaml:
#             finished ones go to docs/results/ as JSON and CSV (results.py)
#
# Exits with 0 where all parts are done, with 3 where another call has to follow, else with the code of what failed.
# Variables, with their defaults:
#   DEVICE=cuda  PYTHON=python  WORKERS=4
#   LIMIT=560    seconds of a call; what runs then is interrupted, and goes on from its last snapshot
#   WORK=gpu     the store, the marks of finished parts, and the study of `agree`
#   DATA=        a folder with CIFAR-10 as train.npz and test.npz [else torchvision's files, in $DISTILL_PRUNE_DATA]
#   TITLE=       the title of these data
#   MTT_SET=     a folder with cifar10_10ipc_images.pt and cifar10_10ipc_labels.pt, for `pruning`
#   RESULTS=     a folder that results are copied to as well
#   ROWS=        rows of the table [default: all but the commands]
#   QUICK=       not empty: sizes of the table that only show that its rows work
set -euo pipefail
cd "$(dirname "$0")/.."
DEVICE=${DEVICE:-cuda} PYTHON=${PYTHON:-python} WORKERS=${WORKERS:-4} LIMIT=${LIMIT:-560} WORK=${WORK:-gpu} DATA=${DATA:-}
TITLE=${TITLE:-} MTT_SET=${MTT_SET:-} RESULTS=${RESULTS:-}
read -ra rows <<< "${ROWS:-copies levels epoch barrier_cifar barrier_digits gradient trace digits_lanes cifar10_compiled}"
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
parts=() options=()
while (($#)); do
  [[ $1 != -- ]] || { options=("${@:2}"); break; }
  parts+=("$1")
  shift
done
((${#parts[@]})) || parts=(agree table mtt pruning lottery)
mkdir -p "$WORK/done"

# Run a command in what is left of this call.
within() {
  local left=$((LIMIT - SECONDS)) code=0
  if ((left < 20)); then
    echo "the time of this call is over; call again" >&2
    exit 3
  fi
  timeout --signal=TERM --kill-after=15 "$left" "$@" || code=$?
  if ((code == 124 || code == 137)); then
    echo "stopped after $SECONDS s; call again to go on" >&2
    exit 3
  fi
  return "$code"
}

distill_prune() {
  within "$PYTHON" -m distill_prune "$@"
}

keep() {
  [[ -z $RESULTS ]] || { mkdir -p "$RESULTS" && cp "$@" "$RESULTS/"; }
}

data=()
if [[ -n $DATA ]]; then
  data=(--set data.name=npz --set "data.path=$DATA" --set "data.title=${TITLE:-CIFAR-10}")
fi

study() {
  local name=$1 sets=("${data[@]}" "${options[@]}")
  distill_prune run "$name.yaml" "${sets[@]}" --store "$WORK/store" --device "$DEVICE" --workers "$WORKERS"
  local record=$name${options:+-part} # a study with other settings is no answer to the paper's claim
  within "$PYTHON" bench/results.py "$name.yaml" --store "$WORK/store" "${sets[@]}" --name "$record"
  keep "docs/results/$record.json" "docs/results/$record.csv"
}

part() {
  case $1 in
    agree)
      within "$PYTHON" bench/agree.py "$WORK/agree" --device "$DEVICE" | tee "$WORK/agree.txt"
      keep "$WORK/agree.txt"
      ;;
    table)
      local more=(--device "$DEVICE" --rows "${rows[@]}" --resume --markdown) file=docs/performance/${DEVICE%%:*}.json
      [[ -z $DATA ]] || more+=(--data "$DATA")
      [[ -z ${QUICK:-} ]] || { more+=(--quick) && file=$WORK/quick.json; }
      within "$PYTHON" bench/table.py "${more[@]}" --json "$file"
      keep "$file"
      ;;
    mtt) study mtt-cifar10-ipc10 ;;
    pruning)
      if ! distill_prune show mtt-cifar10-10ipc --store "$WORK/store" > "$WORK/show.txt" 2>&1; then
        local key of_data=("${data[@]}") option
        for option in "${options[@]}"; do [[ $option != data.* ]] || of_data+=(--set "$option"); done
        distill_prune data mtt-cifar10-ipc10.yaml "${of_data[@]}" --store "$WORK/store" --json > "$WORK/data.json"
        key=$("$PYTHON" -c 'import json, sys; print(json.load(sys.stdin)["artifacts"][0])' < "$WORK/data.json")
        distill_prune import mtt "$MTT_SET/cifar10_10ipc_images.pt" "$MTT_SET/cifar10_10ipc_labels.pt" \
          --set lr=0.01 --set space=zca --set "dataset=$key" --tag mtt-cifar10-10ipc --store "$WORK/store"
      fi
      study distilled-pruning-cifar10
      ;;
    lottery) study lottery-cifar10-resnet20 ;;
    *)
      echo "unknown part '$1'; expected agree, table, mtt, pruning or lottery" >&2
      exit 2
      ;;
  esac
}

for name in "${parts[@]}"; do
  if [[ -e $WORK/done/$name ]]; then
    echo "$name: done"
    continue
  fi
  echo "$name, $((LIMIT - SECONDS)) s left"
  part "$name"
  touch "$WORK/done/$name"
done
echo "all parts are done: ${parts[*]}"
