"""The public result types."""

from swift_client.types.calls import Event, Failure
from swift_client.types.completion import (
    F16,
    F32,
    MAX_TOKEN_COUNT,
    U32,
    Bool,
    Completion,
    FinishReason,
    Message,
    StatePosition,
    ToolCall,
    Usage,
    completeness,
)
from swift_client.types.selection import Candidate, Field, Method, Selection, Shadow, Step, Stopped, Verification

__all__ = [
    "F16",
    "F32",
    "MAX_TOKEN_COUNT",
    "U32",
    "Bool",
    "Candidate",
    "Completion",
    "Event",
    "Failure",
    "Field",
    "FinishReason",
    "Message",
    "Method",
    "Selection",
    "Shadow",
    "StatePosition",
    "Step",
    "Stopped",
    "ToolCall",
    "Usage",
    "Verification",
    "completeness",
]
