#include "model/architecture.h"
#include "model/forward.h"

namespace headrace {

/// Llama 1, 2 and 3 (Touvron et al. 2023): pre-norm decoder, rotary positions, grouped heads,
/// SwiGLU.
void llama_forward(Forward& pass) {
  const Workspace& space = pass.space();
  pass.prepare_rope();  // first: of few rows embed()'s op sends the uploads of both
  pass.embed();
  for (int32_t layer = 0; layer < pass.config().num_hidden_layers; ++layer) {
    pass.norm(layer, Role::kInputNorm);
    pass.matmul(layer, space.normed, {{.role = Role::kQkv, .out = space.qkv}});
    pass.rope_and_store(layer);
    pass.attention(layer);
    pass.matmul(layer, space.attended,
                {{.role = Role::kDense, .out = space.residual, .accumulate = true}});

    pass.norm(layer, Role::kPostNorm);
    pass.gated_matmul(layer, space.normed);
    pass.matmul(layer, space.activated,
                {{.role = Role::kProj, .out = space.residual, .accumulate = true}});
  }
  pass.logits();
}

}  // namespace headrace
