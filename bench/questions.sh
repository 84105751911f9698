#!/usr/bin/env bash
# The studies that ask what a mask needs and what it carries, one after the other, in one store. Run it again: what is finished is
# not made again. About three hours on two CPU cores. Their records go to docs/results.
#   bench/questions.sh STORE FASHION CIFAR     FASHION, CIFAR: folders with train.npz and test.npz of Fashion-MNIST, of CIFAR-10
set -euo pipefail
store=$1 fashion=$2 cifar=$3
record() {
  python bench/results.py "$@" --store "$store" >/dev/null
}
for study in digits-masks fashion-masks-small digits-carry; do
  case $study in fashion-*) data=(--set "data.path=$fashion") ;; *) data=() ;; esac
  distill-prune run "$study" --store "$store" "${data[@]}"
  record "$study" "${data[@]}"
  case $study in *-masks*) python bench/masks.py "$study" ;; esac
done
distill-prune run digits-begins --store "$store"
for level in 2 5 8; do
  record digits-begins --set sweep=null --set "arms.continued.begins.level=$level" --name "digits-begins-$level"
done
distill-prune run digits-map --store "$store"
cell=0
python bench/regimes.py digits-map --store "$store" | while read -r -a values; do
  cell=$((cell + 1))
  distill-prune run digits-confirm --store "$store" "${values[@]}" -o "$store/reports/digits-confirm-$cell"
  record digits-confirm "${values[@]}" --name "digits-confirm-$cell"
done
distill-prune run cifar10-sets-small --store "$store" --set "data.path=$cifar"
record cifar10-sets-small --set "data.path=$cifar"
python bench/results.py
