"""How tokens are decoded: a request's SamplingConfig says that; what speculates is refused."""

from __future__ import annotations

import dataclasses
from typing import Optional

from .fields import Config


@dataclasses.dataclass
class LookaheadDecodingConfig(Config):
    """Lookahead decoding: an executor that has it is refused."""

    max_window_size: int
    max_ngram_size: int
    max_verification_set_size: int


@dataclasses.dataclass
class DecodingMode(Config):
    """Made by DecodingMode.TopK() and the like. A request's SamplingConfig says how tokens are
    chosen; an executor with a mode that speculates is refused."""

    name: str

    @classmethod
    def Auto(cls) -> "DecodingMode":
        return cls("Auto")

    @classmethod
    def TopK(cls) -> "DecodingMode":
        return cls("TopK")

    @classmethod
    def TopP(cls) -> "DecodingMode":
        return cls("TopP")

    @classmethod
    def TopKTopP(cls) -> "DecodingMode":
        return cls("TopKTopP")

    @classmethod
    def BeamSearch(cls) -> "DecodingMode":
        return cls("BeamSearch")

    @classmethod
    def Medusa(cls) -> "DecodingMode":
        return cls("Medusa")

    @classmethod
    def Lookahead(cls) -> "DecodingMode":
        return cls("Lookahead")

    @classmethod
    def ExplicitDraftTokens(cls) -> "DecodingMode":
        return cls("ExplicitDraftTokens")

    def isAuto(self) -> bool:
        return self.name == "Auto"

    def isTopK(self) -> bool:
        return self.name in ("TopK", "TopKTopP")

    def isTopP(self) -> bool:
        return self.name in ("TopP", "TopKTopP")

    def isTopKorTopP(self) -> bool:
        return self.isTopK() or self.isTopP()

    def isTopKandTopP(self) -> bool:
        return self.isTopK() and self.isTopP()

    def isBeamSearch(self) -> bool:
        return self.name == "BeamSearch"

    def isMedusa(self) -> bool:
        return self.name == "Medusa"

    def isLookahead(self) -> bool:
        return self.name == "Lookahead"

    def isExplicitDraftTokens(self) -> bool:
        return self.name == "ExplicitDraftTokens"

    def speculates(self) -> bool:
        """Whether it needs draft tokens."""
        return self.isMedusa() or self.isLookahead() or self.isExplicitDraftTokens()


@dataclasses.dataclass
class DecodingConfig(Config):
    """What speculates is refused; the rest changes nothing."""

    decoding_mode: Optional[DecodingMode] = None
    lookahead_decoding_config: Optional[LookaheadDecodingConfig] = None
    medusa_choices: Optional[list[list[int]]] = None

    def check(self) -> None:
        """NotImplementedError for what speculates."""
        mode = self.decoding_mode
        if self.lookahead_decoding_config or self.medusa_choices or (mode and mode.speculates()):
            raise NotImplementedError("[executor] speculative decoding is not supported: use "
                                      "DecodingMode.Auto()")
