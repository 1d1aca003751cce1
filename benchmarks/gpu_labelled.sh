#!/usr/bin/env bash
# What of the labelled objectives only a GPU can show, in about ten minutes: benchmarks/gpu_labelled.sh [FOLDER for the results]
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-gpu-results}
mkdir -p "$out"
run() {
    local name=$1 seconds=$2
    shift 2
    echo "=== $name"
    timeout "$seconds" uv run --no-sync "$@" >"$out/$name.txt" 2>&1 || echo "$name ended with $?"
    tail -n 12 "$out/$name.txt"
}
nvidia-smi >"$out/gpu.txt"
run rank-n-contrast 60 python benchmarks/rank_n_contrast.py
# UniFormer-S as published, but from random weights and on phantoms: how many clips a second there are to be had.
export ECHOLUNG_HOME="$out/home"
run phantoms 90 echolung data phantom --layout echonet-dynamic --videos 400 --frames 144
run uniformer-small 120 echolung pretrain --recipe coreecho --dataset echonet-dynamic --set encoder.start=random:uniformer_small@0
unset ECHOLUNG_HOME
run ejection-fraction 300 python benchmarks/ejection_fraction.py --folder "$out/ejection-fraction" --videos 400 --epochs 40 --device cuda
