"""What an Executor can be opened with: a folder, or the files of one in memory."""

from __future__ import annotations

import os
import pathlib
import shutil
import tempfile
import weakref
from typing import Any, Mapping, NamedTuple, Optional, Union

from .configs import ExecutorConfig
from .enums import ModelType

Buffer = (bytes, bytearray, memoryview)
Path = (str, os.PathLike)


class Opening(NamedTuple):
    """A folder, or the content of its files."""

    model_path: Union[None, str, os.PathLike]
    engine_buffer: Union[None, bytes, bytearray, memoryview]
    json_config_str: str
    executor_config: ExecutorConfig

    def folder(self, owner: Any) -> Union[str, os.PathLike]:
        """The folder. One of files in memory lives as long as `owner`."""
        if self.model_path is not None:
            return self.model_path
        folder = pathlib.Path(tempfile.mkdtemp(prefix="headrace-engine-"))
        weakref.finalize(owner, _remove, folder, os.getpid())
        (folder / "config.json").write_text(self.json_config_str, encoding="utf-8")
        (folder / "rank0.engine").write_bytes(self.engine_buffer or b"")
        return folder


def _remove(folder: pathlib.Path, process: int) -> None:
    if os.getpid() == process:  # a forked child leaves it to its parent
        shutil.rmtree(folder, ignore_errors=True)


def to_opening(args: tuple, named: Mapping[str, Any]) -> Opening:
    """Of the arguments of Executor(). NotImplementedError for what it cannot do."""
    two_paths = len(args) > 1 and isinstance(args[0], Path) and isinstance(args[1], Path)
    two_buffers = len(args) > 2 and isinstance(args[2], Buffer)
    if two_paths or two_buffers or any(name.startswith("encoder_") for name in named):
        raise NotImplementedError("[executor] encoders are not supported: use DECODER_ONLY")
    if "engine_buffer" in named or (args and isinstance(args[0], Buffer)):
        return _of_buffer(*args, **named)
    return _of_folder(*args, **named)


def _of_folder(model_path: Union[str, os.PathLike], model_type: ModelType,
               executor_config: ExecutorConfig) -> Opening:
    return Opening(model_path, None, "", _check(model_type, executor_config))


def _of_buffer(engine_buffer: Union[bytes, bytearray, memoryview], json_config_str: str,
               model_type: ModelType, executor_config: ExecutorConfig,
               managed_weights: Optional[Mapping[str, Any]] = None) -> Opening:
    if managed_weights:
        raise NotImplementedError("[executor] managed weights are not supported: build an engine "
                                  "that holds them")
    return Opening(None, engine_buffer, json_config_str, _check(model_type, executor_config))


_of_folder.__qualname__ = _of_buffer.__qualname__ = "Executor"  # as errors about arguments say


def _check(model_type: ModelType, executor_config: ExecutorConfig) -> ExecutorConfig:
    if not isinstance(model_type, ModelType):
        raise TypeError(f"[executor] model_type cannot be {model_type!r}: use DECODER_ONLY")
    if model_type is not ModelType.DECODER_ONLY:
        raise NotImplementedError(f"[executor] {model_type.name}: only DECODER_ONLY is there")
    if not isinstance(executor_config, ExecutorConfig):
        raise TypeError(f"[executor] executor_config cannot be {executor_config!r}: use an "
                        "ExecutorConfig")
    return executor_config
