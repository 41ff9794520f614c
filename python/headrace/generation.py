"""What LLM.generate() is asked for and gives, and how responses become text."""

from __future__ import annotations

import dataclasses
import operator
from typing import Iterable, Iterator, Optional, Sequence, Union

import numpy as np
from numpy.typing import ArrayLike

from . import _core
from .options import OutputOptions, Request, SamplingOptions
from .responses import FinishReason, Result


@dataclasses.dataclass
class SamplingParams(SamplingOptions):
    """What LLM.generate() makes of a prompt: SamplingOptions, and where a text ends."""

    max_tokens: int = 128
    """New tokens at most."""
    stop: Union[str, Sequence[str]] = ()
    """A text, or texts, that end a text before them."""
    stop_token_ids: Sequence[int] = ()
    """Tokens that end a text, beside the model's own."""
    ignore_eos: bool = False
    """Go on to max_tokens."""
    bad_words: Sequence[ArrayLike] = ()
    """Rows of token ids that are never completed."""
    log_probs: bool = False
    """Natural logarithms, by token and summed."""
    context_logits: bool = False
    """Logits of every prompt position."""
    generation_logits: bool = False
    """Logits that each token was chosen from."""
    logits_processor: str = ""
    """A name of `ExecutorConfig.logits_processors`."""
    priority: float = 0.5
    deadline_ms: Optional[int] = None
    """Since it was enqueued; then the text ends with what there is."""


def stop_texts(stop: Union[None, str, Sequence[str]]) -> list[str]:
    """`SamplingParams.stop` as a list."""
    texts = [stop] if isinstance(stop, str) else stop or ()
    if (isinstance(texts, bytes) or not isinstance(texts, Iterable)
            or not all(isinstance(text, str) for text in texts)):
        raise TypeError(f"[llm] stop cannot be {stop!r}: use a text, or a list of texts")
    return list(texts)


def _token_ids(ids: Sequence[int]) -> list[int]:
    try:
        if not isinstance(ids, (str, bytes)):
            return [operator.index(token) for token in ids]
    except TypeError:
        pass
    raise TypeError(f"[llm] stop_token_ids cannot be {ids!r}: use a list of token ids")


@dataclasses.dataclass
class Chunk:
    """A piece of a text, as it came."""

    prompt_index: int
    """Which of the prompts."""
    sequence_index: int
    """Which of `num_return_sequences`."""
    text: str
    token_ids: list[int]
    finish_reason: Optional[FinishReason]
    """None: it goes on."""


@dataclasses.dataclass
class Completion:
    """One text for a prompt."""

    text: Optional[str]
    """None without a tokenizer."""
    token_ids: list[int]
    """Generated ones, with the token that ended it, if one did."""
    finish_reason: FinishReason
    cum_log_prob: Optional[float]
    """Of a beam that a stop text has cut: the sum of `log_probs`."""
    log_probs: Optional[list[float]]
    generation_logits: Optional[np.ndarray]
    """float32 [tokens, vocab_size]."""


@dataclasses.dataclass
class Output:
    """What became of a prompt. Its text, token_ids and finish_reason are those of the first
    completion."""

    prompt: Optional[str]
    prompt_token_ids: list[int]
    completions: list[Completion]
    """num_return_sequences of them, best first of a beam search."""
    context_logits: Optional[np.ndarray]
    """float32 [prompt tokens, vocab_size]."""

    @property
    def text(self) -> Optional[str]:
        return self.completions[0].text

    @property
    def token_ids(self) -> list[int]:
        return self.completions[0].token_ids

    @property
    def finish_reason(self) -> FinishReason:
        return self.completions[0].finish_reason


class _Text:
    """One sequence as it grows."""

    def __init__(self, params: SamplingParams, tokenizer: Optional[_core.Tokenizer],
                 end_ids: frozenset[int]) -> None:
        self.token_ids: list[int] = []
        self.log_probs: list[float] = []
        self.cum_log_prob: Optional[float] = None
        self.logits: list[np.ndarray] = []
        self.finish_reason = FinishReason.NOT_FINISHED
        self.stopped = False
        self.pieces: list[str] = []
        self._end_ids = end_ids
        self._detokenizer = _core.Detokenizer(tokenizer) if tokenizer is not None else None
        stop = stop_texts(params.stop)
        self._stop_words = _core.StopWords(stop) if stop else None

    def push(self, tokens: list[int], reason: FinishReason) -> str:
        """Takes new tokens and returns the text that is certain now. Nothing follows a stop text."""
        begin = len(self.pieces)
        for token in tokens:
            if self.stopped:
                break
            self.token_ids.append(token)
            if self._detokenizer is not None and token not in self._end_ids:
                self._show(self._detokenizer.push(token))
        if not self.stopped:
            self.finish_reason = reason
            if reason is not FinishReason.NOT_FINISHED:
                self._finish()
        return "".join(self.pieces[begin:])

    def _show(self, text: str) -> None:
        if self._stop_words is not None:
            text = self._stop_words.feed(text)
            if self._stop_words.stopped:
                self.stopped = True
                self.finish_reason = FinishReason.STOPPED
        self.pieces.append(text)

    def _finish(self) -> None:
        if self._detokenizer is not None:
            self._show(self._detokenizer.finish())
        if self._stop_words is not None and not self.stopped:
            self.pieces.append(self._stop_words.finish())


class Generation:
    """One prompt on its way."""

    def __init__(self, prompt_index: int, prompt: Optional[str], prompt_ids: ArrayLike,
                 params: SamplingParams, streaming: bool,
                 tokenizer: Optional[_core.Tokenizer]) -> None:
        self._prompt_index = prompt_index
        self._prompt = prompt
        self._prompt_ids = prompt_ids
        self._params = params
        self._streaming = streaming
        self._tokenizer = tokenizer
        self._end_ids = self._find_end_ids()
        self._texts: dict[int, _Text] = {}
        self._context_logits: Optional[np.ndarray] = None

    def _find_end_ids(self) -> list[int]:
        models = [] if self._tokenizer is None or self._params.ignore_eos else self._tokenizer.stop_ids
        return list(dict.fromkeys([*models, *_token_ids(self._params.stop_token_ids)]))

    def request(self) -> Request:
        """What the executor is asked for."""
        params = self._params
        sampling = SamplingOptions(**{field.name: getattr(params, field.name)
                                      for field in dataclasses.fields(SamplingOptions)})
        output = OutputOptions(log_probs=params.log_probs, context_logits=params.context_logits,
                               generation_logits=params.generation_logits, exclude_input=True)
        return Request(prompt=self._prompt_ids, max_new_tokens=params.max_tokens,
                       streaming=self._streaming, sampling=sampling, output=output,
                       end_id=self._end_ids[0] if self._end_ids else None,
                       stop_words=[[token] for token in self._end_ids[1:]],
                       bad_words=params.bad_words, logits_processor=params.logits_processor,
                       priority=params.priority, deadline_ms=params.deadline_ms)

    def feed(self, result: Result) -> Iterator[Chunk]:
        """Takes a result; gives what there is to show of it."""
        if result.context_logits is not None and self._context_logits is None:
            self._context_logits = result.context_logits
        beams = self._params.beam_width > 1
        for beam, tokens in enumerate(result.tokens):
            index = beam if beams else result.sequence_index
            text = self._text(index)
            if text.stopped:
                continue
            before = len(text.token_ids)
            piece = text.push(tokens, result.finish_reasons[beam])
            tokens = text.token_ids[before:]  # none behind a stop text
            self._add_numbers(text, result, beam, len(tokens))
            reason = None if text.finish_reason is FinishReason.NOT_FINISHED else text.finish_reason
            if piece or tokens or reason:
                yield Chunk(self._prompt_index, index, piece, tokens, reason)

    def stopped(self) -> bool:
        """All sequences have met a stop text, so that the request can be cancelled."""
        texts = self._texts.values()
        wanted = self._params.num_return_sequences or self._params.beam_width
        return len(texts) == wanted and all(text.stopped for text in texts)

    def output(self) -> Output:
        """What became of it."""
        prompt_ids = np.asarray(self._prompt_ids).tolist()
        completions = [self._completion(self._texts[index]) for index in sorted(self._texts)]
        return Output(self._prompt, prompt_ids, completions, self._context_logits)

    def _text(self, index: int) -> _Text:
        if index not in self._texts:
            self._texts[index] = _Text(self._params, self._tokenizer, frozenset(self._end_ids))
        return self._texts[index]

    def _add_numbers(self, text: _Text, result: Result, beam: int, kept: int) -> None:
        """Those of the first `kept` tokens."""
        if result.log_probs:
            text.log_probs.extend(result.log_probs[beam][:kept])
        if result.cum_log_probs:
            text.cum_log_prob = result.cum_log_probs[beam]
        if result.log_probs and kept < len(result.tokens[beam]):
            text.cum_log_prob = sum(text.log_probs)
        logits = result.generation_logits
        if logits is not None:
            # Beams that end before the longest one have nothing but zeros behind their end.
            text.logits.append((logits[beam] if logits.ndim == 3 else logits)[:kept])

    def _completion(self, text: _Text) -> Completion:
        params = self._params
        logits = np.concatenate(text.logits) if len(text.logits) > 1 else None
        if len(text.logits) == 1:
            logits = text.logits[0]
        return Completion(text="".join(text.pieces) if self._tokenizer is not None else None,
                          token_ids=text.token_ids, finish_reason=text.finish_reason,
                          cum_log_prob=text.cum_log_prob if params.log_probs else None,
                          log_probs=text.log_probs if params.log_probs else None,
                          generation_logits=logits)
