#!/usr/bin/env bash
# What only a GPU can show, in about ten minutes: benchmarks/gpu.sh [FOLDER for the results]
# Each part has its own time limit, so that one that hangs does not cost the others.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-gpu-results}
mkdir -p "$out"
run() {
    local name=$1 seconds=$2
    shift 2
    echo "=== $name"
    timeout "$seconds" uv run --no-sync "$@" >"$out/$name.txt" 2>&1 || echo "$name ended with $?"
    tail -n 8 "$out/$name.txt"
}
nvidia-smi >"$out/gpu.txt"
run pretraining-step 200 python benchmarks/pretraining.py --device cuda
run probes 120 python benchmarks/probes.py --device cuda --rounds 1
run loader 60 python benchmarks/loader.py --workers "$(nproc)"
export ECHOLUNG_HOME="$out/home"
run phantoms 60 echolung data phantom --layout phantom-heart --videos 200
# vits-112 for as long as there is time: a time limit's SIGTERM saves and ends well.
run vits-112 150 echolung pretrain --recipe vits-112 --dataset phantom-heart --set optimiser.steps=4000 --set run.save_every=500
cp "$ECHOLUNG_HOME"/pretraining/*/{log.jsonl,loss.png} "$out" 2>/dev/null
