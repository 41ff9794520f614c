#!/usr/bin/env bash
# Runs the GPU tests and benchmarks on a machine that has a GPU, from a build made anywhere (the build
# folder is carried there; nothing is installed).
#
#   scripts/gpu_check.sh [--build DIR] [--out DIR] STAGE...
#
# tests      every test that needs a GPU
# sanitizer  the small tests under compute-sanitizer: memcheck, racecheck, initcheck
# figures    Llama-7B, float16: decode and prefill over percentages, beside the link measured in the
#            same run (link_bench, if the build has it: -DHEADRACE_BENCH=ON)
# shares     Llama-7B, passes that host and link share, in turn with raw weights by the link alone; beside
#            what both carry together (host_bench)
# serving    384 requests of Llama-7B on a KV cache that holds half a batch of the longest: link share,
#            tokens/s, waits (if the build has serving_bench: -DHEADRACE_BENCH=ON)
# load       an engine of 13.5 GB in the page cache: time to the first token
# peers      Hugging Face accelerate with the same share of layers offloaded; llama.cpp, if LLAMA_CPP
#            names the folder that bench/llama_cpp_gpu_peer.sh built
# transformers  logits and tokens beside those of transformers on this GPU; with SmolLM2 if SMOLLM2 names
#            its GGUF
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
    tests | sanitizer | figures | shares | serving | load | peers | transformers) stages+=("$1"); shift ;;
    *) sed -n '2,23s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2 ;;
  esac
done
((${#stages[@]})) || { echo "gpu_check: name a stage (--help lists them)" >&2; exit 2; }
mkdir -p "$out"
headrace=$build/bin/headrace

# cuBLASLt comes from the machine: where the loader finds it, or from Python's packages.
if ! ldconfig -p | grep -q 'libcublasLt.so.13' && [[ ! -e /usr/local/cuda/lib64/libcublasLt.so.13 ]]; then
  found=$(find / -name 'libcublasLt.so.13' -not -path '/proc/*' 2>/dev/null | head -n 1)
  [[ -n $found ]] && export LD_LIBRARY_PATH=$(dirname "$found")${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi

stage_tests() {
  "$build/tests/gpu_test"
  HEADRACE_TEST_DEVICE=cuda "$build/tests/executor_test" --gtest_filter='*Executor*:Batch.*'
  "$build/tests/compat_test"  # on the device that clients get: a GPU where there is one
  python_tests
}

# The Python clients, where there is a module that $PYTHON (python3) can import.
python_tests() {
  local python=${PYTHON:-python3}
  export PYTHONPATH=$build/python:$root/python/tensorrt_llm_compat${PYTHONPATH:+:$PYTHONPATH}
  export HEADRACE_BINARY=$headrace HEADRACE_WORK=$out HEADRACE_TEST_DEVICE=cuda
  if ! "$python" -c 'import headrace, numpy'; then
    echo "the Python tests are left out: $python cannot import headrace and numpy"
    return
  fi
  for client in executor llm tensorrt_llm; do
    "$python" -B "$root/tests/python/${client}_python_test.py"
  done
}

sanitize() {
  echo "== $1"
  compute-sanitizer --tool "$1" --error-exitcode 9 "$build/tests/gpu_test" --gtest_filter="$2" 2>&1 | tail -n 15
}

stage_sanitizer() {
  local small='CudaMatmul.ManyRows*:CudaAttention.BlockSizes*:CudaElementwise*:CudaSession*.Canonical*'
  local failed=0
  sanitize memcheck "$small:CudaAttention.MatrixClass*:CudaDecode*:CudaSampling*" || failed=1
  sanitize memcheck "CudaCodedMatmul.ManyRows*:CudaCodedMatmul.NormsGoAlong:CudaCodedMatmul.Forged*" || failed=1
  sanitize memcheck "CudaSessionTest.CodesAndHostShares*:CudaHostThreadsTest.Live*" || failed=1
  sanitize racecheck "$small:CudaDecode.Strange*" || failed=1  # the slowest of the tools by far
  sanitize initcheck "$small:CudaAttention.MatrixClass*:CudaDecode*:CudaSampling*" || failed=1
  return "$failed"
}

bench() { "$headrace" bench --device cuda -m llama_7b --dtype float16 --csv --log_level info "$@"; }

stage_figures() {
  cd "$out"
  echo "== the link alone"
  [[ ! -x $build/bin/link_bench ]] || "$build/bin/link_bench" 0 3
  echo "== decode over percentages"
  bench --batch_size "1;32" --input_output_len "256,32" --gpu_weights_percent "0.0;0.2;0.5;1.0" \
    --max_batch_size 128 --warm_up 1 --num_runs 3 --duration 0
  echo "== prefill in one pass: 16 x 512, then 128 x 512 token rows; the products of the last alone"
  bench --batch_size 16 --input_output_len "512,1" --gpu_weights_percent "0.0;1.0" --max_batch_size 128 \
    --warm_up 1 --num_runs 2 --duration 0
  bench --batch_size 128 --input_output_len "512,1" --gpu_weights_percent "0.0" --max_batch_size 128 \
    --max_num_tokens 65536 --warm_up 1 --num_runs 1 --duration 0
  [[ ! -x $build/bin/products_bench ]] || "$build/bin/products_bench"
  echo "== many requests at once"
  bench --batch_size 128 --input_output_len "256,32" --gpu_weights_percent 0.2 --max_batch_size 128 \
    --warm_up 1 --num_runs 2 --duration 0
  echo "== largest batches within 24 GB"
  for case in "0.2 96" "1.0 64" "1.0 96"; do
    read -r percent batch <<<"$case"
    bench --batch_size "$batch" --input_output_len "256,2" --gpu_weights_percent "$percent" \
      --max_batch_size 128 --gpu_memory_limit 24G --warm_up 0 --num_runs 1 --duration 0 || true
  done
}

stage_shares() {
  cd "$out"  # bench appends to a CSV there
  if [[ -x $build/bin/host_bench ]]; then
    "$build/bin/host_bench" "$(($(nproc) - 1))" 3 link
  fi
  python3 "$root/bench/host_share_figures.py" --headrace "$headrace"
}

stage_serving() {
  [[ -x $build/bin/serving_bench ]] || { echo "this build has no serving_bench" >&2; return 1; }
  echo "== the link alone"
  "$build/bin/link_bench" 0 3
  echo "== 384 requests, GUARANTEED_NO_EVICT"
  "$build/bin/serving_bench" --device cuda
  echo "== 384 requests, MAX_UTILIZATION"
  "$build/bin/serving_bench" --device cuda --preempt
}

stage_load() {
  local engine
  engine=$(mktemp -d)
  echo "1,2,3" >"$engine/prompt.csv"
  "$headrace" bench --device cuda -m llama_7b --dtype float16 --output_dir "$engine" --build_only
  cat "$engine"/rank0.engine >/dev/null  # in the page cache now
  for percent in 0.0 0.5 1.0; do
    echo "== the first token at $percent"
    time "$headrace" run --device cuda --engine_dir "$engine" --gpu_weights_percent "$percent" \
      --input_file "$engine/prompt.csv" --max_output_len 1
  done
  rm -rf "$engine"
}

stage_peers() {
  python3 "$root/bench/accelerate_peer.py"
  if [[ -d ${LLAMA_CPP:-} ]]; then
    "$root/bench/llama_cpp_gpu_peer.sh" run "$LLAMA_CPP"
  else
    echo "llama.cpp left out: LLAMA_CPP names no folder of bench/llama_cpp_gpu_peer.sh build"
  fi
}

stage_transformers() {
  local model=(--synthetic)
  [[ -z ${SMOLLM2:-} ]] || model=(--gguf "$SMOLLM2")
  python3 "$root/bench/transformers_check.py" --headrace "$headrace" --device cuda \
    --work "$out/transformers" "${model[@]}"
}

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || true
failed=0
for stage in "${stages[@]}"; do
  log=$out/$stage.log
  if [[ -e $log ]] && tail -n 1 "$log" | grep -q '^gpu_check: .* ended$'; then
    echo "gpu_check: $stage has ended before: $log"
    continue
  fi
  echo "gpu_check: $stage begins"
  set +e  # a pipeline's subshell still ends at its first failure
  (set -e; "stage_$stage"; echo "gpu_check: $stage ended") 2>&1 | tee "$log"
  ((PIPESTATUS[0] == 0)) || { echo "gpu_check: $stage failed" >&2; failed=1; }
  set -e
done
exit "$failed"
