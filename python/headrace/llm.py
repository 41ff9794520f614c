"""The one-line interface: text or token ids in, text and token ids out."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from typing import Any, Iterable, Iterator, Literal, Mapping, Optional, Sequence, Union, overload

import numpy as np
from numpy.typing import ArrayLike

from . import _core
from .executor import Executor
from .generation import Chunk, Generation, Output, SamplingParams, stop_texts
from .mailbox import Mailbox
from .options import ExecutorConfig
from .responses import Response

Prompt = Union[str, ArrayLike]
"""Text, or one row of token ids."""


def _is_one(prompts: Any) -> bool:
    """Whether this is a prompt and not several."""
    if isinstance(prompts, str):
        return True
    if isinstance(prompts, np.ndarray):
        return prompts.ndim == 1 and prompts.dtype != object
    if not hasattr(prompts, "__getitem__") or isinstance(prompts, (bytes, Mapping)):
        raise TypeError(f"[llm] prompts cannot be {prompts!r}: use a text, a row of token ids, or a "
                        "list of them")
    return len(prompts) > 0 and isinstance(prompts[0], (int, np.integer))


def _turns(messages: Any) -> list[tuple[str, str]]:
    """(role, content) of each."""
    if not isinstance(messages, Sequence) or isinstance(messages, (str, bytes)):
        raise TypeError(f"[llm] messages cannot be {messages!r}: use a list of "
                        '{"role": ..., "content": ...}')
    for index, turn in enumerate(messages):
        for key in ("role", "content"):
            value = turn.get(key) if isinstance(turn, Mapping) else None
            if not isinstance(value, str):
                raise TypeError(f"[llm] {key} of message {index} cannot be {value!r}: use a text")
    return [(turn["role"], turn["content"]) for turn in messages]


def _with_fields(params: Optional[SamplingParams], fields: dict[str, Any]) -> SamplingParams:
    if not isinstance(params, (SamplingParams, type(None))):
        raise TypeError(f"[llm] params cannot be {params!r}: use SamplingParams, or its fields by "
                        "name")
    return dataclasses.replace(params or SamplingParams(), **fields)


class LLM:
    """An engine that is open, with its tokenizer.

        with headrace.LLM("engine_outputs", gpu_weights_percent=0.2) as llm:
            print(llm.generate("Once upon a time", max_tokens=32).text)

    Thread-safe: what several threads ask for runs together.
    """

    def __init__(self, engine_dir: Union[str, os.PathLike], **config: Any) -> None:
        """`config` are fields of ExecutorConfig. The tokenizer is the one in the engine's folder; if
        there is none that can be read, prompts are token ids, and outputs have no text."""
        folder = os.fspath(engine_dir)
        self.tokenizer: Optional[_core.Tokenizer] = None
        self._no_tokenizer = "the engine's folder has none"
        if _core.Tokenizer.exists(folder):
            try:
                self.tokenizer = _core.Tokenizer(folder)
            except NotImplementedError as error:
                self._no_tokenizer = str(error)
        self._executor = Executor(folder, ExecutorConfig(**config))
        self._mailbox = Mailbox(self._executor)

    @property
    def executor(self) -> Executor:
        """What serves the requests. Responses of requests that are given to it past this object may
        be lost: an Executor of your own is for that."""
        return self._executor

    def __enter__(self) -> "LLM":
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def shutdown(self) -> None:
        """Ends everything and gives memory back."""
        self._executor.shutdown()

    @property
    def gpu_weights_percent(self) -> float:
        """The share of the weights in fast memory; it can be set while requests are served."""
        return self._executor.gpu_weights_percent

    @gpu_weights_percent.setter
    def gpu_weights_percent(self, percent: float) -> None:
        self._executor.gpu_weights_percent = percent

    @overload
    def generate(self, prompts: Prompt, params: Optional[SamplingParams] = None, *,
                 stream: Literal[False] = False, gpu_weights_percent: Optional[float] = None,
                 **fields: Any) -> Output: ...

    @overload
    def generate(self, prompts: Sequence[Prompt], params: Optional[SamplingParams] = None, *,
                 stream: Literal[False] = False, gpu_weights_percent: Optional[float] = None,
                 **fields: Any) -> list[Output]: ...

    @overload
    def generate(self, prompts: Union[Prompt, Sequence[Prompt]],
                 params: Optional[SamplingParams] = None, *, stream: Literal[True],
                 gpu_weights_percent: Optional[float] = None,
                 **fields: Any) -> Iterator[Chunk]: ...

    def generate(self, prompts, params=None, *, stream=False, gpu_weights_percent=None, **fields):
        """An Output for one prompt (a string, or a row of token ids), a list of them for a list.

        `fields` change fields of `params`, such as max_tokens=32. A `gpu_weights_percent` is set
        before anything is generated, and stays. With `stream`, an iterator over pieces, as stream().
        A prompt that cannot be served is a ValueError, and ends the other prompts too.
        """
        if gpu_weights_percent is not None:
            self.gpu_weights_percent = gpu_weights_percent
        params = _with_fields(params, fields)
        if stream:
            return self.stream(prompts, params)
        one = _is_one(prompts)
        work = self._start([prompts] if one else prompts, params, bool(params.stop))
        for _ in self._run(work):
            pass
        outputs = [generation.output() for generation in work.values()]
        return outputs[0] if one else outputs

    def stream(self, prompts: Union[Prompt, Sequence[Prompt]],
               params: Optional[SamplingParams] = None, **fields: Any) -> Iterator[Chunk]:
        """Pieces of the texts as they come. The requests begin at once; ending the iteration early
        cancels them."""
        params = _with_fields(params, fields)
        if params.beam_width > 1:
            raise ValueError(f"[llm] stream needs beam_width 1, not {params.beam_width}: the beams of "
                             "a search are known at its end")
        several: Any = [prompts] if _is_one(prompts) else prompts
        pieces = self._run(self._start(several, params, True))
        next(pieces)  # has begun: dropped unread, it cancels too
        return pieces

    def chat(self, messages: Sequence[Mapping[str, str]], params: Optional[SamplingParams] = None,
             **fields: Any) -> Union[Output, Iterator[Chunk]]:
        """The assistant's next turn after `messages`, which are {"role": ..., "content": ...}, by the
        model's chat template. The rest as generate()."""
        tokenizer = self._need_tokenizer("a conversation")
        text = tokenizer.apply_chat_template(_turns(messages))
        ids = tokenizer.encode(text, add_special_tokens=False)
        return self.generate(ids, params, **fields)

    def _need_tokenizer(self, what: str) -> _core.Tokenizer:
        if self.tokenizer is None:
            raise ValueError(f"[llm] {what} needs a tokenizer ({self._no_tokenizer}): give token ids")
        return self.tokenizer

    def _start(self, prompts: Iterable[Prompt], params: SamplingParams,
               streaming: bool) -> dict[int, Generation]:
        if stop_texts(params.stop):
            self._need_tokenizer("a stop text")
        streaming = streaming and params.beam_width == 1
        generations = []
        for index, prompt in enumerate(prompts):
            text = prompt if isinstance(prompt, str) else None
            ids = prompt if text is None else self._need_tokenizer("a text").encode(text)
            generations.append(Generation(index, text, ids, params, streaming, self.tokenizer))
        ids = self._mailbox.enqueue([generation.request() for generation in generations])
        return dict(zip(ids, generations))

    def _run(self, work: dict[int, Generation]) -> Iterator[Any]:
        """Feeds responses to the generations until all have ended. Yields None, then chunks."""
        left = dict(work)
        try:
            yield None
            while left:
                for response in self._mailbox.wait(list(left)):
                    generation = left[response.request_id]
                    yield from self._take(generation, response)
                    if response.result.is_final:
                        del left[response.request_id]
                        self._mailbox.close([response.request_id])
        finally:
            with contextlib.suppress(ValueError):  # shut down: they have ended
                for request_id in left:
                    self._executor.cancel(request_id)
            with contextlib.suppress(ValueError):  # in a forked child: nobody waits
                self._mailbox.close(list(left))

    def _take(self, generation: Generation, response: Response) -> Iterator[Chunk]:
        if response.error is not None:
            raise ValueError(response.error)
        yield from generation.feed(response.result)
        if generation.stopped() and not response.result.is_final:
            self._executor.cancel(response.request_id)
