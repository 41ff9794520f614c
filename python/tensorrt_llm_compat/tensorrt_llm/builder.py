"""tensorrt_llm.builder: the configuration of a build."""

from __future__ import annotations

import dataclasses
import difflib
import warnings
from typing import Any, Optional

import headrace
from headrace import BuildConfig

__all__ = ["BuildConfig", "Builder", "BuilderConfig"]


@dataclasses.dataclass
class BuilderConfig(headrace.BuilderConfig):
    """What Builder.create_builder_config() makes."""

    extra: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Arguments that are no fields of BuildConfig: carried along, as upstream does."""

    def to_dict(self) -> dict[str, Any]:
        """{"builder_config": {...}}."""
        return {"builder_config": {**self.extra, **super().to_dict()["builder_config"]}}


class Builder(headrace.Builder):
    """Makes builder configurations, and engines of checkpoints."""

    def create_builder_config(self, precision: str, timing_cache: Any = None,
                              tensor_parallel: int = 1, use_refit: bool = False,
                              int8: bool = False, strongly_typed: bool = False,
                              force_num_profiles: Optional[int] = None,
                              profiling_verbosity: str = "layer_names_only",
                              use_strip_plan: bool = False, weight_streaming: bool = False,
                              **kwargs: Any) -> BuilderConfig:
        """Fields of BuildConfig among `kwargs` are set. Timing caches, profiles and their verbosity
        mean nothing here."""
        del timing_cache, force_num_profiles, profiling_verbosity
        refused = {"tensor_parallel": tensor_parallel != 1, "use_refit": use_refit, "int8": int8,
                   "use_strip_plan": use_strip_plan}
        for name, asked in refused.items():
            if asked:
                raise NotImplementedError(f"[build] {name} is not supported: leave it out")
        known = {field.name for field in dataclasses.fields(BuildConfig)}
        config = super().create_builder_config(
            precision, strongly_typed=strongly_typed, weight_streaming=weight_streaming,
            **{name: value for name, value in kwargs.items() if name in known})
        extra = {name: value for name, value in kwargs.items() if name not in known}
        for name in extra:
            near = difflib.get_close_matches(name, known, 1, 0.85)
            if near:
                warnings.warn(f"[build] '{name}' is no field of BuildConfig and changes nothing: is "
                              f"'{near[0]}' meant?", stacklevel=2)
        return BuilderConfig(config.precision, config.build_config, extra)
