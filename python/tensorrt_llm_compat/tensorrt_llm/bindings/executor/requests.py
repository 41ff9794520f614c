"""What an Executor is asked for."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any, Optional, Sequence

import headrace

from .enums import RequestType
from .fields import Config

_LOGGER = logging.getLogger("headrace")


@dataclasses.dataclass
class SamplingConfig(Config):
    """How tokens are chosen. None: as if it were not there."""

    _OLD_NAMES = {"random_seed": "seed", "min_length": "min_tokens"}

    beam_width: int = 1
    _: dataclasses.KW_ONLY
    top_k: Optional[int] = None
    top_p: Optional[float] = None
    top_p_min: Optional[float] = None
    top_p_reset_ids: Optional[int] = None
    top_p_decay: Optional[float] = None
    seed: Optional[int] = None
    temperature: Optional[float] = None
    min_tokens: Optional[int] = None
    beam_search_diversity_rate: Optional[float] = None
    repetition_penalty: Optional[float] = None
    presence_penalty: Optional[float] = None
    frequency_penalty: Optional[float] = None
    length_penalty: Optional[float] = None
    early_stopping: Optional[int] = None
    no_repeat_ngram_size: Optional[int] = None
    num_return_sequences: Optional[int] = None
    min_p: Optional[float] = None

    def to_headrace(self, num_return_sequences: int) -> headrace.SamplingOptions:
        """The same for headrace. `num_return_sequences` is the request's."""
        sequences = self.num_return_sequences or num_return_sequences
        if self.beam_width > 1 and self.num_return_sequences is None and sequences == 1:
            sequences = 0  # all beams
        if 1 < self.beam_width < sequences:
            _LOGGER.warning("num_return_sequences %d of %d beams: there are no more than the beams",
                            sequences, self.beam_width)
            sequences = self.beam_width
        # Without top_k, top_p alone decides; without both, headrace is greedy.
        options = headrace.SamplingOptions(beam_width=self.beam_width,
                                           num_return_sequences=sequences, top_k=0)
        given: dict[str, Any] = {
            "top_k": self.top_k, "top_p": self.top_p, "top_p_min": self.top_p_min,
            "top_p_reset_id": self.top_p_reset_ids, "top_p_decay": self.top_p_decay,
            "random_seed": self.seed, "temperature": self.temperature,
            "min_length": self.min_tokens,
            "beam_search_diversity_rate": self.beam_search_diversity_rate,
            "repetition_penalty": self.repetition_penalty,
            "presence_penalty": self.presence_penalty,
            "frequency_penalty": self.frequency_penalty, "length_penalty": self.length_penalty,
            "early_stopping": self.early_stopping,
            "no_repeat_ngram_size": self.no_repeat_ngram_size, "min_p": self.min_p,
        }
        return dataclasses.replace(
            options, **{name: value for name, value in given.items() if value is not None})


@dataclasses.dataclass
class OutputConfig(Config):
    """What responses hold beside tokens."""

    return_log_probs: bool = False
    return_context_logits: bool = False
    return_generation_logits: bool = False
    exclude_input_from_output: bool = False
    return_encoder_output: bool = False

    def to_headrace(self) -> headrace.OutputOptions:
        """The same for headrace."""
        return headrace.OutputOptions(log_probs=self.return_log_probs,
                                      context_logits=self.return_context_logits,
                                      generation_logits=self.return_generation_logits,
                                      exclude_input=self.exclude_input_from_output,
                                      exclude_end_id=True)  # as upstream


@dataclasses.dataclass
class ExternalDraftTokensConfig(Config):
    """Draft tokens: a request that has them is refused."""

    tokens: list[int]
    logits: Any = None
    acceptance_threshold: Optional[float] = None


@dataclasses.dataclass
class PromptTuningConfig(Config):
    """Prompt tuning: a request that has it is refused."""

    embedding_table: Any
    input_token_extra_ids: Optional[list[int]] = None


@dataclasses.dataclass
class LoraConfig(Config):
    """An adapter: a request that has it is refused."""

    task_id: int
    weights: Any = None
    config: Any = None


@dataclasses.dataclass
class ContextPhaseParams(Config):
    """What a context-only executor hands to one that generates: a request that has it is refused."""

    first_gen_tokens: list[int]


_REFUSED = ("external_draft_tokens_config", "prompt_tuning_config", "lora_config",
            "lookahead_config", "encoder_input_token_ids", "context_phase_params",
            "encoder_input_features", "encoder_output_length")


@dataclasses.dataclass
class Request(Config):
    """One prompt and what to make of it."""

    _OLD_NAMES = {"max_new_tokens": "max_tokens", "request_type": "type"}

    input_token_ids: Sequence[int]
    _: dataclasses.KW_ONLY
    max_tokens: Optional[int] = None
    streaming: bool = False
    sampling_config: SamplingConfig = dataclasses.field(default_factory=SamplingConfig)
    output_config: OutputConfig = dataclasses.field(default_factory=OutputConfig)
    end_id: Optional[int] = None
    pad_id: Optional[int] = None
    position_ids: Optional[list[int]] = None
    bad_words: Optional[list[list[int]]] = None
    stop_words: Optional[list[list[int]]] = None
    embedding_bias: Any = None
    external_draft_tokens_config: Optional[ExternalDraftTokensConfig] = None
    prompt_tuning_config: Optional[PromptTuningConfig] = None
    lora_config: Optional[LoraConfig] = None
    lookahead_config: Any = None
    logits_post_processor_name: Optional[str] = None
    encoder_input_token_ids: Optional[list[int]] = None
    client_id: Optional[int] = None
    return_all_generated_tokens: bool = False
    priority: float = 0.5
    type: RequestType = RequestType.REQUEST_TYPE_CONTEXT_AND_GENERATION
    context_phase_params: Optional[ContextPhaseParams] = None
    encoder_input_features: Any = None
    encoder_output_length: Optional[int] = None
    num_return_sequences: int = 1

    BATCHED_POST_PROCESSOR_NAME = headrace.BATCHED_LOGITS_PROCESSOR

    def __post_init__(self) -> None:
        if self.max_tokens is None:
            raise RuntimeError("missing required argument max_tokens")

    def to_headrace(self) -> headrace.Request:
        """The same for headrace. NotImplementedError for what it cannot do."""
        for name in _REFUSED:
            if getattr(self, name) is not None:
                raise NotImplementedError(f"[request] {name} is not supported: leave it out")
        if self.output_config.return_encoder_output:
            raise NotImplementedError("[request] return_encoder_output is not supported: leave it "
                                      "out")
        if self.type is not RequestType.REQUEST_TYPE_CONTEXT_AND_GENERATION:
            raise NotImplementedError(f"[request] {self.type.name} is not supported")
        if (self.position_ids is not None
                and list(self.position_ids) != list(range(len(self.position_ids)))):
            raise NotImplementedError("[request] position_ids other than 0, 1, ... are not "
                                      "supported: leave them out")
        assert self.max_tokens is not None
        return headrace.Request(
            prompt=self.input_token_ids, max_new_tokens=self.max_tokens, streaming=self.streaming,
            sampling=self.sampling_config.to_headrace(self.num_return_sequences),
            output=self.output_config.to_headrace(), end_id=self.end_id, pad_id=self.pad_id,
            bad_words=self.bad_words or (), stop_words=self.stop_words or (),
            embedding_bias=self.embedding_bias,
            logits_processor=self.logits_post_processor_name or "", client_id=self.client_id,
            priority=self.priority,
            return_all_generated_tokens=self._returns_all_tokens())

    def _returns_all_tokens(self) -> bool:
        """Upstream's beams stream whole, whatever the request says: later steps replace tokens."""
        if self.return_all_generated_tokens:
            return True
        if not self.streaming or self.sampling_config.beam_width <= 1:
            return False
        _LOGGER.warning("Beams replace each other: each response holds all tokens of all beams, as "
                        "if return_all_generated_tokens were set")
        return True
