#!/usr/bin/env bash
# Headrace beside llama.cpp on this machine's CPU: one model in float16, all weights resident, the same
# threads, runs of both in turn so that they share the machine's moods: prefill of 512 tokens, and
# decode of 64 tokens from an empty context (llama-bench's pp512 and tg64).
#
#   bench/llama_cpp_peer.sh MODEL.gguf WORK_DIR [ROUNDS]
#
# MODEL.gguf may be quantised: both sides get its float16. WORK_DIR keeps the build of llama.cpp (from
# the sdist of llama-cpp-python on PyPI; minutes the first time), the models and rounds.csv. Needs
# python3 with pip, cmake, ninja, a C++ compiler. Environment: HEADRACE (path of the program, default
# build/bin/headrace), PEER (folder of a llama.cpp built before), THREADS (default 2).
set -euo pipefail

if [ $# -lt 2 ]; then
  sed -n '2,14s/^# \{0,1\}//p' "$0"
  exit 2
fi
root=$(cd "$(dirname "$0")/.." && pwd)
model=$(realpath "$1")
mkdir -p "$2"
cd "$2"
rounds=${3:-5}
threads=${THREADS:-2}
headrace=$(realpath "${HEADRACE:-$root/build/bin/headrace}")
version=0.3.36
prompt=512
output=64

build_peer() {
  python3 -m pip download -q --no-deps --no-binary :all: -d . "llama-cpp-python==$version"
  mkdir -p source
  tar xzf llama_cpp_python-$version.tar.gz -C source --strip-components=1
  cmake -S source/vendor/llama.cpp -B peer-build -G Ninja -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON \
    -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
    -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_APP=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF \
    -DLLAMA_BUILD_NUMBER=0 -DLLAMA_BUILD_COMMIT=sdist >peer-build.log
  ninja -C peer-build llama-bench llama-quantize >>peer-build.log
}

# Value of column NAME in row NUMBER of headrace.csv.
column() {
  awk -F, -v name="$1" -v row="$2" 'NR == 1 { for (i = 1; i <= NF; ++i) if ($i == name) at = i }
    NR == row + 1 { print $at }' headrace.csv
}

# Tokens per second of llama-bench's test with these flags.
peer_rate() {
  "$peer/llama-bench" -m model-f16.gguf -t "$threads" -r 1 -o jsonl "$@" 2>/dev/null |
    sed -n 's/.*"avg_ts": \([0-9.]*\).*/\1/p' | tail -1
}

median() {
  awk -F, -v field="$1" 'NR > 1 { print $field }' rounds.csv | sort -g |
    awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

peer=${PEER:-$PWD/peer-build/bin}
[ -x "$peer/llama-bench" ] || build_peer
peer=$(realpath "$peer")
[ -s model-f16.gguf ] || "$peer/llama-quantize" --allow-requantize "$model" model-f16.gguf F16 >quantize.log 2>&1
if [ ! -s engine/config.json ]; then
  "$headrace" convert --model_dir model-f16.gguf --output_dir checkpoint --dtype float16 --log_level error
  "$headrace" build --checkpoint_dir checkpoint --output_dir engine --gemm_plugin disable \
    --weight_streaming --max_batch_size 1 --max_input_len $prompt --max_seq_len $((prompt + output + 1)) \
    --log_level error
fi

echo "round,headrace_decode,peer_decode,headrace_prefill,peer_prefill" | tee rounds.csv
for round in $(seq "$rounds"); do
  "$headrace" bench --engine_dir engine --batch_size 1 --input_output_len "$prompt,1;1,$((output + 1))" \
    --gpu_weights_percent 1.0 --warm_up 1 --num_runs 1 --duration 0 --threads "$threads" \
    --csv --log_level error >headrace.csv
  prefill=$(awk -v ms="$(column 'latency(ms)' 1)" -v n=$prompt 'BEGIN { print 1000 * n / ms }')
  decode=$(column generation_tokens_per_second 2)
  echo "$round,$decode,$(peer_rate -p 0 -n $output),$prefill,$(peer_rate -p $prompt -n 0)" |
    tee -a rounds.csv
done

for kind in decode:2:3 prefill:4:5; do
  IFS=: read -r name ours theirs <<<"$kind"
  awk -v name="$name" -v ours="$(median "$ours")" -v theirs="$(median "$theirs")" 'BEGIN {
    printf "%s: headrace %.1f, llama.cpp %.1f tokens/s (medians): %.2fx\n", name, ours, theirs, ours / theirs }'
done
