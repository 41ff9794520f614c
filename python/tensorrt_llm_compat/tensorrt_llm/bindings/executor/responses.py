"""What an Executor answers."""

from __future__ import annotations

import dataclasses
from typing import Any, Optional, Union

import headrace

from .enums import FinishReason
from .requests import ContextPhaseParams
from .tensors import to_tensor

_FINISH_REASONS = {
    headrace.FinishReason.NOT_FINISHED: FinishReason.NOT_FINISHED,
    headrace.FinishReason.LENGTH: FinishReason.LENGTH,
    headrace.FinishReason.END_ID: FinishReason.END_ID,
    headrace.FinishReason.STOPPED: FinishReason.STOP_WORDS,
    headrace.FinishReason.TIMED_OUT: FinishReason.TIMED_OUT,
    headrace.FinishReason.CANCELLED: FinishReason.CANCELLED,
}


@dataclasses.dataclass
class Result:
    """What one response tells of a request."""

    is_final: bool = False
    output_token_ids: list[list[int]] = dataclasses.field(default_factory=list)
    """By beam."""
    cum_log_probs: Optional[list[float]] = None
    log_probs: Optional[list[list[float]]] = None
    context_logits: Any = None
    """[prompt tokens, vocabulary]."""
    generation_logits: Any = None
    """[beams, tokens, vocabulary]."""
    encoder_output: Any = None
    """Always None."""
    finish_reasons: list[FinishReason] = dataclasses.field(default_factory=list)
    """By beam."""
    context_phase_params: Optional[ContextPhaseParams] = None
    """Always None."""
    decoding_iter: int = 0
    """Steps so far, each of which chose a token for every beam."""
    sequence_index: int = 0
    """Which of num_return_sequences."""
    is_sequence_final: bool = False


class Response:
    """A result, or the error that ended the request."""

    def __init__(self, request_id: int, error_msg: Union[None, str, Result] = None,
                 result: Optional[Result] = None) -> None:
        if isinstance(error_msg, Result):
            error_msg, result = None, error_msg
        self.request_id = request_id
        self._error_msg = error_msg
        self._result = result

    def __repr__(self) -> str:
        what = f"error_msg={self._error_msg!r}" if self.has_error() else f"result={self._result!r}"
        return f"Response(request_id={self.request_id}, {what})"

    def has_error(self) -> bool:
        """Whether there is an error instead of a result."""
        return self._error_msg is not None

    @property
    def error_msg(self) -> str:
        """RuntimeError if there is none."""
        if self._error_msg is None:
            raise RuntimeError("error_msg of a response that has a result: ask has_error() first")
        return self._error_msg

    @property
    def result(self) -> Result:
        """RuntimeError with the error, if there is one."""
        if self._result is None:
            raise RuntimeError(self._error_msg)
        return self._result


def from_headrace(response: headrace.Response) -> Response:
    """headrace's response under these names."""
    if response.error is not None:
        return Response(response.request_id, response.error)
    result = response.result
    generation_logits = result.generation_logits
    if generation_logits is not None and generation_logits.ndim == 2:
        generation_logits = generation_logits[None]
    return Response(response.request_id, result=Result(
        is_final=result.is_final, output_token_ids=result.tokens,
        cum_log_probs=result.cum_log_probs or None, log_probs=result.log_probs or None,
        context_logits=to_tensor(result.context_logits),
        generation_logits=to_tensor(generation_logits),
        finish_reasons=[_FINISH_REASONS[reason] for reason in result.finish_reasons],
        decoding_iter=result.decoding_iterations, sequence_index=result.sequence_index,
        is_sequence_final=result.is_sequence_final))
