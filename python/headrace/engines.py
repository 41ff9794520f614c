"""Building engines of checkpoints, and planning how they would run."""

from __future__ import annotations

import dataclasses
import json
import operator
import os
from typing import Any, Callable, Mapping, Optional, Union

from . import _core
from .executor import resolve
from .fields import CheckedFields
from .logs import log_to_logging
from .options import ExecutorConfig

Path = Union[str, os.PathLike]


@dataclasses.dataclass
class PluginConfig(CheckedFields):
    """Switches of TensorRT-LLM's plugins. They choose nothing here, but engines carry them."""

    gemm_plugin: str = "disable"
    """auto, float16, float32, bfloat16, fp8 or disable; only disable can stream."""
    gpt_attention_plugin: str = "auto"
    context_fmha: bool = True
    paged_kv_cache: bool = True
    remove_input_padding: bool = True


@dataclasses.dataclass
class BuildConfig(CheckedFields):
    """Limits and choices that an engine is built with."""

    max_batch_size: int = 256
    """Sequences in a pass."""
    max_input_len: int = 1024
    """Tokens of a prompt."""
    max_seq_len: Optional[int] = None
    """Prompt and output; None: the model's."""
    max_num_tokens: int = 8192
    """Token rows in a pass."""
    max_beam_width: int = 1
    tokens_per_block: int = 64
    """Positions in a block of the KV cache."""
    weight_streaming: bool = False
    """Weights may be streamed at run time."""
    strongly_typed: bool = False
    """Accepted; every engine here is."""
    gather_context_logits: bool = False
    """Accepted; logits can be had from every engine."""
    gather_generation_logits: bool = False
    """Accepted."""
    tile_bytes: int = 1 << 20
    """A tile's size, nearly."""
    tile_codec: str = "auto"
    """Lossless code of the tiles: "auto" (the smallest for the weights), "none", "e3" or "e4"."""
    canonical_rows: Union[int, str] = 8
    """Largest pass, in token rows, that every backend computes in the canonical order, or "all"."""
    plugin_config: PluginConfig = dataclasses.field(default_factory=PluginConfig)

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> "BuildConfig":
        """Of the "build_config" of an engine's config.json. Keys that are not known are ignored,
        missing ones keep their defaults; a mistyped or absurd value is a ValueError naming it."""
        known = json.loads(_core.normalize_build_config(json.dumps(config)))
        plugins = {field.name: known["plugin_config"][field.name]
                   for field in dataclasses.fields(PluginConfig)}
        return cls(**{**known, "plugin_config": PluginConfig(**plugins)})

    @classmethod
    def from_json_file(cls, path: Path) -> "BuildConfig":
        """The same from a file: such an object, or an engine's config.json, which has one."""
        with open(path, encoding="utf-8") as file:
            config = json.load(file)
        if isinstance(config, dict) and "build_config" in config:
            config = config["build_config"]
        return cls.from_dict(config)

    def to_dict(self) -> dict[str, Any]:
        """The "build_config" of an engine's config.json, with TensorRT-LLM's key names."""
        return json.loads(_core.normalize_build_config(self._json()))

    def update(self, **values: Any) -> None:
        """Sets fields by name; AttributeError for one that there is not."""
        for name, value in values.items():
            setattr(self, name, value)

    def _json(self) -> str:
        fields = dataclasses.asdict(self)
        return json.dumps(fields)


@dataclasses.dataclass
class BuildReport:
    """What a build wrote."""

    matrices: int
    tiles: int
    streamable_bytes: int
    payload_bytes: int
    """Of the same weights as they are coded."""
    file_bytes: int
    """Of the weight file."""
    seconds: float
    codec_shares: dict[str, float]
    """By codec ("e3", "e4") that was tried: the pages that tiles take if it alone may code them, as a
    share of those of raw tiles. Empty if none may code weights of this precision."""


def build(checkpoint_dir: Path, output_dir: Path, config: Optional[BuildConfig] = None,
          log: Optional[Callable[[str, str], Any]] = None) -> BuildReport:
    """Builds an engine folder of a checkpoint folder; it appears whole or not at all. `log` is called
    with (level, line); None: the logger "headrace"."""
    report = _core.build(os.fspath(checkpoint_dir), os.fspath(output_dir),
                         (config or BuildConfig())._json(), log or log_to_logging)
    return BuildReport(**report)


@dataclasses.dataclass
class BuilderConfig:
    """What Builder.create_builder_config() makes: a precision, and the BuildConfig."""

    precision: str
    build_config: BuildConfig

    def to_dict(self) -> dict[str, Any]:
        """{"builder_config": {...}}, the precision beside the fields of BuildConfig."""
        return {"builder_config": {"precision": self.precision, **self.build_config.to_dict()}}


_PRECISIONS = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}


class Builder:
    """Builds engines, in the steps of TensorRT-LLM."""

    def create_builder_config(self, precision: str = "auto", *, strongly_typed: bool = False,
                              weight_streaming: bool = False, **fields: Any) -> BuilderConfig:
        """`fields` are those of BuildConfig. `precision` is the checkpoint's dtype, for an engine
        holds what the checkpoint holds, or "auto"."""
        config = BuildConfig(strongly_typed=strongly_typed, weight_streaming=weight_streaming)
        config.update(**fields)
        return BuilderConfig(precision, config)

    def build(self, checkpoint_dir: Path, output_dir: Path, config: BuilderConfig) -> BuildReport:
        """Builds an engine. ValueError if the checkpoint's dtype is not the precision."""
        with open(os.path.join(checkpoint_dir, "config.json"), encoding="utf-8") as file:
            dtype = json.load(file).get("dtype")
        precision = _PRECISIONS.get(config.precision, config.precision)
        if precision not in ("auto", dtype):
            raise ValueError(f"[build] precision {config.precision}: the checkpoint's is {dtype}; "
                             f"convert it with --dtype {config.precision}")
        return build(checkpoint_dir, output_dir, config.build_config)


_MOST = 1 << 30  # as the command line's


def _count(name: str, value: Any, least: int) -> int:
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"[plan] {name} cannot be {value!r}: use a whole number") from None
    if not least <= count <= _MOST:
        engines = ", or 0 for the engine's" if least == 0 else ""
        raise ValueError(f"[plan] {name} {count}: use 1 to {_MOST}{engines}")
    return count


def plan(engine_dir: Path, *, batch_size: int = 1, max_seq_len: int = 0, table: bool = False,
         **config: Any) -> dict[str, Any]:
    """How an engine would run on this machine: what `headrace plan --json` prints.

    `config` are fields of ExecutorConfig, such as gpu_weights_percent, gpu_weights_bytes, device,
    memory_limit_bytes and profile_path. `max_seq_len` 0: the engine's. With `table`, a plan for
    each tenth of the weights.
    """
    options = resolve(ExecutorConfig(**config))
    return json.loads(_core.plan(os.fspath(engine_dir), options, table,
                                 _count("batch_size", batch_size, 1),
                                 _count("max_seq_len", max_seq_len, 0)))
