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
  // Counters know only how to subtract: a - (0 - b) is a + b, in unsigned arithmetic too.
  total.stream = total.stream - (StreamCounters{} - more.stream);
  total.decode_stream = total.decode_stream - (StreamCounters{} - more.decode_stream);
}

}  // namespace headrace::app
