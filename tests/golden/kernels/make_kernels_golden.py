"""Expected values of the small ops, from mpmath, torch and transformers in double precision.

    python make_kernels_golden.py > kernels.txt        (needs mpmath, torch, transformers)

Every line is "name value value ...". Inputs are float32 numbers, printed exactly.
"""

import mpmath
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb, repeat_kv

HEADS, KV_HEADS, HEAD_DIM, TOKENS = 4, 2, 6, 11


def show(name, values):
    print(name, *(float(v).hex() for v in values))


def random(generator, *shape):
    return torch.randn(*shape, generator=generator, dtype=torch.float32).double()


def write_exp_and_silu(generator):
    mpmath.mp.prec = 200
    x = torch.cat([
        (torch.rand(40, generator=generator, dtype=torch.float32) * 190 - 103),
        torch.tensor([0.0, 1.0, -1.0, 0.5, -0.3465736, 0.3465736, 88.0, 88.72, -87.4, -100.0]),
    ]).float()
    show("x", x)
    show("exp", [mpmath.exp(mpmath.mpf(float(v))) for v in x])
    show("silu", torch.nn.functional.silu(x.double()))


def write_rms_norm(generator):
    x, weight = random(generator, 2, 25), random(generator, 25)
    norm = LlamaRMSNorm(25, eps=1e-5).double()
    norm.weight.data = weight
    show("norm_x", x.flatten())
    show("norm_weight", weight)
    # The module computes in float32 whatever its input: the formula in double instead.
    exact = x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-5) * weight
    assert torch.allclose(norm(x), exact, atol=1e-6)
    show("norm_out", exact.detach().flatten())


def write_attention(generator):
    q = random(generator, 1, HEADS, TOKENS, HEAD_DIM)
    k = random(generator, 1, KV_HEADS, TOKENS, HEAD_DIM)
    v = random(generator, 1, KV_HEADS, TOKENS, HEAD_DIM)
    angles = torch.arange(TOKENS).double()[:, None] * torch.tensor([1.0, 0.5, 0.0625])
    cos, sin = angles.cos().float().double(), angles.sin().float().double()
    show("cos", cos.flatten())
    show("sin", sin.flatten())
    show("qkv", torch.cat([t[0].transpose(0, 1).flatten(1) for t in (q, k, v)], 1).flatten())
    both = lambda half: torch.cat([half, half], -1)[None]
    q, k = apply_rotary_pos_emb(q, k, both(cos), both(sin))
    groups = HEADS // KV_HEADS
    out = torch.nn.functional.scaled_dot_product_attention(
        q, repeat_kv(k, groups), repeat_kv(v, groups), is_causal=True)
    show("attended", out[0].transpose(0, 1).flatten())


if __name__ == "__main__":
    source = torch.Generator().manual_seed(20)
    write_exp_and_silu(source)
    write_rms_norm(source)
    write_attention(source)
