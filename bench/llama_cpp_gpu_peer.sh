#!/usr/bin/env bash
# llama.cpp on this machine's GPU: Llama-7B, float16, with 0, 6 (19 %), 19 (59 %) and all of its layers
# there; decode of 32 tokens after 256, one sequence and 32 together. Prints ms a decode step.
#
#   bench/llama_cpp_gpu_peer.sh build  SOURCE.tar.xz WORK_DIR      minutes on 16 cores; needs nvcc, cmake, ninja
#   bench/llama_cpp_gpu_peer.sh run    WORK_DIR [LAYERS...]
#   bench/llama_cpp_gpu_peer.sh source SOURCE.tar.xz               on a machine with a network: packs the sources
#
# The sources are those in llama-cpp-python's sdist on PyPI, without what is not compiled.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
version=0.3.36

pack_source() {
  local archive work
  archive=$(realpath "$1")
  work=$(mktemp -d)
  python3 -m pip download -q --no-deps --no-binary :all: -d "$work" "llama-cpp-python==$version"
  tar xzf "$work/llama_cpp_python-$version.tar.gz" -C "$work"
  local skipped=()
  for name in docs models tests benches conversion media examples app; do
    skipped+=("--exclude=llama.cpp/$name")
  done
  tar cJf "$archive" "${skipped[@]}" -C "$work/llama_cpp_python-$version/vendor" llama.cpp
  rm -rf "$work"
}

build_peer() {
  local work=$2
  mkdir -p "$work"
  tar xJf "$1" -C "$work"
  cmake -S "$work/llama.cpp" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DGGML_CUDA=ON \
    -DCMAKE_CUDA_ARCHITECTURES=90-real -DGGML_CUDA_NCCL=OFF -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF \
    -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_APP=OFF \
    -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_BUILD_NUMBER=0 -DLLAMA_BUILD_COMMIT=sdist \
    >"$work/configure.log"
  ninja -C "$work/build" llama-batched-bench >"$work/build.log"
}

# ms a decode step of llama-batched-bench's JSON lines.
report() {
  python3 -c '
import json, sys
for line in sys.stdin:
    if line.startswith("{"):
        d = json.loads(line)
        print("llama.cpp layers %2d batch %2d: %8.2f ms a decode step, prefill %.2f s"
              % (d["n_gpu_layers"], d["pl"], 1e3 * d["t_tg"] / d["tg"], d["t_pp"]), flush=True)'
}

run_peer() {
  local work=$1
  shift
  local layers=("$@") model=$work/model.gguf
  ((${#layers[@]})) || layers=(0 6 19 99)
  if [[ ! -s $model ]]; then
    PYTHONPATH=$work/llama.cpp/gguf-py python3 "$root/bench/random_gguf.py" "$model.part"
    mv "$model.part" "$model"
  fi
  for count in "${layers[@]}"; do
    "$work/build/bin/llama-batched-bench" -m "$model" -ngl "$count" -t "$(nproc)" -fit off -lm none \
      -c 9216 -b 2048 -ub 512 -npp 256 -ntg 32 -npl 1,32 --output-format jsonl 2>"$work/run.log" |
      report || { tail -n 5 "$work/run.log" >&2; return 1; }
  done
}

case ${1:-} in
  source) pack_source "$2" ;;
  build) build_peer "$2" "$3" ;;
  run) run_peer "${@:2}" ;;
  *) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
