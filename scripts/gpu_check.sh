#!/usr/bin/env bash
# Runs the GPU tests and benchmarks on a machine that has a GPU, from a build made anywhere (the build
# folder is carried there; nothing is installed).
#
#   scripts/gpu_check.sh [--build DIR] [--out DIR] STAGE...
#
# tests      every test that needs a GPU
# sanitizer  the small tests under compute-sanitizer: memcheck, racecheck, initcheck
# figures    Llama-7B, float16: decode and prefill over percentages, beside the link and memory
#            bandwidth measured in the same run
# peers      Hugging Face accelerate with the same share of layers offloaded
#
# Each stage takes less than 8 minutes, prints a table and leaves DIR/STAGE.log; a stage whose log says
# that it ended is not run again (remove the log to repeat it).
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$root/build
out=${OUT:-$root/gpu_check}
stages=()
while (($#)); do
  case $1 in
    --build) build=$(realpath "$2"); shift 2 ;;
    --out) out=$2; shift 2 ;;
    tests | sanitizer | figures | peers) stages+=("$1"); shift ;;
    *) sed -n '2,17s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2 ;;
  esac
done
((${#stages[@]})) || { echo "gpu_check: name a stage: tests, sanitizer, figures or peers" >&2; exit 2; }
mkdir -p "$out"
headrace=$build/bin/headrace

# cuBLASLt comes from the machine: where the loader finds it, or from Python's packages.
if ! ldconfig -p | grep -q 'libcublasLt.so.13' && [[ ! -e /usr/local/cuda/lib64/libcublasLt.so.13 ]]; then
  found=$(find / -name 'libcublasLt.so.13' -not -path '/proc/*' 2>/dev/null | head -n 1)
  [[ -n $found ]] && export LD_LIBRARY_PATH=$(dirname "$found")${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi

stage_tests() { "$build/tests/gpu_test"; }

stage_sanitizer() {
  local small='CudaMatmul.ManyRows*:CudaAttention.BlockSizes*:CudaElementwise*:CudaSession*.Canonical*'
  local tool
  for tool in memcheck racecheck initcheck; do
    echo "== $tool"
    compute-sanitizer --tool "$tool" --error-exitcode 9 "$build/tests/gpu_test" --gtest_filter="$small" \
      2>&1 | tail -n 15
  done
}

bench() { "$headrace" bench --device cuda -m llama_7b --dtype float16 --csv --log_level info "$@"; }

stage_figures() {
  cd "$out"
  bench --batch_size "1;32" --input_output_len "256,32" --gpu_weights_percent "0.0;0.2;0.5;1.0" \
    --max_batch_size 128 --warm_up 1 --num_runs 3 --duration 0
}

stage_peers() { python3 "$root/bench/accelerate_peer.py"; }

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || true
for stage in "${stages[@]}"; do
  log=$out/$stage.log
  if [[ -e $log ]] && tail -n 1 "$log" | grep -q '^gpu_check: .* ended$'; then
    echo "gpu_check: $stage has ended before: $log"
    continue
  fi
  echo "gpu_check: $stage begins"
  ("stage_$stage" && echo "gpu_check: $stage ended") 2>&1 | tee "$log"
done
