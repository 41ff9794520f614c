"""The enumerations of the Executor."""

import enum


class ModelType(enum.Enum):
    """Only DECODER_ONLY can be run."""

    DECODER_ONLY = 0
    ENCODER_ONLY = 1
    ENCODER_DECODER = 2


class BatchingType(enum.Enum):
    """Accepted: batches are always in flight."""

    STATIC = 0
    INFLIGHT = 1


class CapacitySchedulerPolicy(enum.Enum):
    """Which waiting requests are admitted while others run."""

    MAX_UTILIZATION = 0
    GUARANTEED_NO_EVICT = 1


class ContextChunkingPolicy(enum.Enum):
    """Accepted: prompts are computed in the order in which they came."""

    FIRST_COME_FIRST_SERVED = 0
    EQUAL_PROGRESS = 1


class CommunicationType(enum.Enum):
    """Accepted: one process serves."""

    MPI = 0


class CommunicationMode(enum.Enum):
    """Accepted: one process serves."""

    LEADER = 0
    ORCHESTRATOR = 1


class RequestType(enum.Enum):
    """Only REQUEST_TYPE_CONTEXT_AND_GENERATION can be served."""

    REQUEST_TYPE_CONTEXT_AND_GENERATION = 0
    REQUEST_TYPE_CONTEXT_ONLY = 1
    REQUEST_TYPE_GENERATION_ONLY = 2


class RequestStage(enum.Enum):
    """How far a request has come."""

    QUEUED = 0
    ENCODER_IN_PROGRESS = 1
    CONTEXT_IN_PROGRESS = 2
    GENERATION_IN_PROGRESS = 3
    GENERATION_COMPLETE = 4


class FinishReason(enum.Enum):
    """Why a sequence has ended."""

    NOT_FINISHED = 0
    END_ID = 1
    STOP_WORDS = 2
    LENGTH = 3
    TIMED_OUT = 4
    CANCELLED = 5
