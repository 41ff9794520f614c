#include "headrace/generation_totals.h"

namespace headrace::app {

void add_to(GenerationStats& total, const GenerationStats& more) {
  total.prompt_tokens += more.prompt_tokens;
  total.generated_tokens += more.generated_tokens;
  total.prefill_passes += more.prefill_passes;
  total.decode_passes += more.decode_passes;
  total.prefill_ms += more.prefill_ms;
  total.decode_ms += more.decode_ms;
  total.prefill_tokens += more.prefill_tokens;
  total.stream = total.stream + more.stream;
  total.decode_stream = total.decode_stream + more.decode_stream;
}

}  // namespace headrace::app
