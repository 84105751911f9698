#!/usr/bin/env bash
# One study for several seeds of distillation, one after the other, in one store: what differs between sets, not networks.
#   bench/seeds.sh PIPELINE STORE "0 1 2" [--set A.B=C]...
set -euo pipefail
pipeline=$1 store=$2 seeds=$3
shift 3
for seed in $seeds; do
  distill-prune run "$pipeline" --store "$store" --set distill_seed="$seed" -o "$store/reports/$(basename "$pipeline" .yaml)-$seed" "$@"
done
