#!/usr/bin/env bash
# The studies that ask what a mask needs and what it carries, one after the other, in one store. Run it again: what is finished is
# not made again. About two hours on two CPU cores.
#   bench/questions.sh STORE FASHION     FASHION: a folder with train.npz and test.npz of Fashion-MNIST
set -euo pipefail
store=$1 fashion=$2
for study in digits-masks fashion-masks-small digits-carry digits-map; do
  case $study in fashion-*) data=(--set "data.path=$fashion") ;; *) data=() ;; esac
  distill-prune run "$study" --store "$store" "${data[@]}"
done
