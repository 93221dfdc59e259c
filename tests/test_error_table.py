"""Tests of every provider's error bodies: one row per body, with the error that it becomes.

Shapes are those of documentation, SDK sources and recorded replies, as far as they were at hand; the sentences are
written after them, and ids and accounts are made up.
"""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from swift_client import Completion, rank
from swift_client.adapters import PROVIDERS
from swift_client.adapters.transport.error_responses import error_from_object, error_from_response, is_logprobs_refusal
from swift_client.errors import (
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    NoCompletionError,
    ProviderError,
    RateLimitError,
    RejectedError,
    RequestTimeoutError,
    ServerError,
    SwiftClientError,
)

KEY = "sk-live-0123456789abcdef"


@dataclass(frozen=True)
class Row:
    provider: str
    status: int
    body: Any
    """JSON value, or text as it came."""
    kind: type[ProviderError]
    says: str
    """The provider's own words, which the error must keep."""
    retryable: bool = False
    """True if a retry can help."""
    wait: float | None = None


def openai(message: str, type: str, code: str | int | None = None, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": type, "param": param, "code": code}}


def google(code: int, status: str, message: str, *details: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


def anthropic(type: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": type, "message": message}, "request_id": "req_011"}


INVALID = "invalid_request_error"
RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "27s"}
BAD_KEY = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}

ROWS = (
    # OpenAI, and Azure with it
    Row("openai", 401, openai(f"Incorrect API key provided: {KEY}.", INVALID, "invalid_api_key"),
        AuthenticationError, "Incorrect API key provided: ***"),
    Row("openai", 403, openai("You are not allowed to request logprobs from this model", INVALID),
        AuthenticationError, "not allowed to request logprobs"),
    Row("openai", 404, openai("The model `gpt-9` does not exist", INVALID, "model_not_found"),
        BadRequestError, "`gpt-9` does not exist"),
    Row("openai", 400, openai("Unsupported parameter: 'logprobs' is not supported with this model.", INVALID,
        "unsupported_parameter", "logprobs"), BadRequestError, "'logprobs' is not supported"),
    Row("openai", 400, openai("This model's maximum context length is 8192 tokens.", INVALID,
        "context_length_exceeded", "messages"), BadRequestError, "8192 tokens"),
    Row("openai", 429, openai("Rate limit reached for gpt-4o. Please try again in 1.2s.", "tokens",
        "rate_limit_exceeded"), RateLimitError, "Rate limit reached", retryable=True, wait=1.2),
    Row("openai", 429, openai("You exceeded your current quota.", "insufficient_quota", "insufficient_quota"),
        RateLimitError, "exceeded your current quota"),
    Row("openai", 500, openai("The server had an error.", "server_error"), ServerError, "had an error", retryable=True),
    Row("openai", 503, openai("The engine is overloaded.", "server_error"), ServerError, "overloaded", retryable=True),
    Row("openai-responses", 400, openai("logprobs are not supported with reasoning models.", INVALID,
        "unsupported_parameter", "include"), BadRequestError, "with reasoning models"),
    Row("openai-completions", 404, openai("This is a chat model and not supported in v1/completions.", INVALID),
        BadRequestError, "This is a chat model"),
    Row("azure", 400, {"error": {"message": "The prompt triggered the content management policy.", "param": "prompt",
        "code": "content_filter", "status": 400, "innererror": {"code": "ResponsibleAIPolicyViolation"}}},
        BadRequestError, "content management policy"),
    Row("azure", 401, {"error": {"code": "401", "message": "Access denied due to invalid subscription key."}},
        AuthenticationError, "invalid subscription key"),
    Row("azure", 404, {"error": {"code": "DeploymentNotFound", "message": "The API deployment does not exist."}},
        BadRequestError, "deployment does not exist"),
    Row("azure", 429, {"error": {"code": "429", "message": "Please retry after 6 seconds."}},
        RateLimitError, "retry after 6 seconds", retryable=True, wait=6.0),
    Row("openai", 400, openai("Unsupported parameter: 'max_tokens' is not supported with this model. Use "
        "'max_completion_tokens' instead.", INVALID, "unsupported_parameter", "max_tokens"),
        BadRequestError, "Use 'max_completion_tokens' instead"),
    Row("openrouter", 400, openai('[{"code": "invalid_value", "path": ["include",0], "message": "Invalid option"}]',
        INVALID), BadRequestError, "Invalid option"),
    # gateways
    Row("openai-compatible", 422, {"errors": [{"message": "n is too large"}, {"message": "k too"}]},
        BadRequestError, "n is too large; k too"),
    Row("openai-compatible", 400, {"error_message": "no such deployment"}, BadRequestError, "no such deployment"),
    Row("openai-compatible", 400, {"code": 1210, "msg": "wrong field"}, BadRequestError, "wrong field"),
    Row("openai-compatible", 400, {"detail": {"msg": "wrong type", "loc": ["body", "n"]}},
        BadRequestError, "body.n: wrong type"),
    Row("openai-compatible", 400, {"detail": {"message": "busy with another"}}, BadRequestError, "busy with another"),
    # Google
    Row("gemini", 400, google(400, "INVALID_ARGUMENT", "API key not valid.", BAD_KEY),
        AuthenticationError, "API key not valid"),
    Row("gemini", 400, google(400, "INVALID_ARGUMENT", "Logprobs is not enabled for models/gemini-2.5-pro"),
        BadRequestError, "Logprobs is not enabled"),
    Row("gemini", 429, google(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota.", RETRY_INFO),
        RateLimitError, "exceeded your current quota", retryable=True, wait=27.0),
    Row("gemini", 503, google(503, "UNAVAILABLE", "The model is overloaded."), ServerError,
        "overloaded", retryable=True),
    Row("gemini", 504, google(504, "DEADLINE_EXCEEDED", "Deadline expired."), ServerError, "expired", retryable=True),
    Row("vertex", 403, [google(403, "PERMISSION_DENIED", "Permission 'aiplatform.endpoints.predict' denied")],
        AuthenticationError, "Permission"),
    Row("vertex", 404, [google(404, "NOT_FOUND", "Publisher Model `gemini-9` was not found")],
        BadRequestError, "was not found"),
    # Anthropic
    Row("anthropic", 400, anthropic(INVALID, "max_tokens: Field required"), BadRequestError, "max_tokens"),
    Row("anthropic", 401, anthropic("authentication_error", "invalid x-api-key"), AuthenticationError, "x-api-key"),
    Row("anthropic", 403, anthropic("permission_error", "Your key may not use it."), AuthenticationError, "may not"),
    Row("anthropic", 404, anthropic("not_found_error", "model: claude-9"), BadRequestError, "claude-9"),
    Row("anthropic", 413, anthropic("request_too_large", "Request exceeds 32 MB"), BadRequestError, "32 MB"),
    Row("anthropic", 429, anthropic("rate_limit_error", "Number of tokens has exceeded your limit"),
        RateLimitError, "exceeded your limit", retryable=True),
    Row("anthropic", 500, anthropic("api_error", "Internal server error"), ServerError, "Internal", retryable=True),
    Row("anthropic", 529, anthropic("overloaded_error", "Overloaded"), ServerError, "Overloaded", retryable=True),
    # Others who make models
    Row("deepseek", 402, openai("Insufficient Balance", "unknown_error", INVALID), BadRequestError, "Balance"),
    Row("deepseek", 422, openai("Failed to deserialize the JSON body", INVALID), BadRequestError, "deserialize"),
    Row("xai", 400, {"code": "Client specified an invalid argument", "error": "Argument not supported: logprobs"},
        BadRequestError, "Argument not supported"),
    Row("xai", 403, {"code": "The caller does not have permission", "error": "Your team has no credits."},
        AuthenticationError, "no credits"),
    Row("mistral", 422, {"object": "error", "message": {"detail": [{"type": "extra_forbidden", "loc": ["body",
        "logprobs"], "msg": "Extra inputs are not permitted"}]}, "type": "invalid_request_invalid_args"},
        BadRequestError, "body.logprobs: Extra inputs are not permitted"),
    Row("mistral", 429, {"object": "error", "message": "Requests rate limit exceeded", "type": "rate_limited"},
        RateLimitError, "rate limit exceeded", retryable=True),
    Row("cohere", 401, {"id": "x", "message": "invalid api token"}, AuthenticationError, "invalid api token"),
    Row("cohere", 429, {"id": "x", "message": "You are using a Trial key, limited to 20 calls a minute"},
        RateLimitError, "Trial key", retryable=True),
    Row("moonshot", 429, openai("Your account is suspended, check your plan", "exceeded_current_quota_error"),
        RateLimitError, "suspended"),
    Row("moonshot", 429, openai("Engine is busy", "engine_overloaded_error"), RateLimitError, "busy", retryable=True),
    Row("perplexity", 401, "<html><head><title>401 Authorization Required</title></head></html>",
        AuthenticationError, "401 Authorization Required"),
    # Hosts
    Row("together", 422, openai("n > 1 requires temperature > 0", INVALID, None, "temperature"),
        BadRequestError, "requires temperature"),
    Row("fireworks", 404, {"error": {"object": "error", "type": INVALID, "code": "NOT_FOUND",
        "message": "Model not found, inaccessible, and/or not deployed"}}, BadRequestError, "not deployed"),
    Row("openrouter", 400, {"error": {"message": "Provider returned error", "code": 400, "metadata":
        {"raw": "logprobs unsupported", "provider_name": "Novita"}}}, BadRequestError, "logprobs unsupported"),
    Row("openrouter", 402, {"error": {"code": 402, "message": "This request requires more credits"}},
        BadRequestError, "more credits"),
    Row("openrouter", 408, {"error": {"code": 408, "message": "Your request timed out"}},
        RequestTimeoutError, "timed out", retryable=True),
    Row("openrouter", 429, {"error": {"code": 429, "message": "Rate limit exceeded: free-models-per-day"}},
        RateLimitError, "free-models-per-day", retryable=True),
    Row("groq", 400, openai("`logprobs` is not supported with this model", INVALID), BadRequestError, "`logprobs`"),
    Row("groq", 429, openai("Rate limit reached. Please try again in 7.66s.", "tokens", "rate_limit_exceeded"),
        RateLimitError, "Rate limit reached", retryable=True, wait=7.66),
    Row("cerebras", 401, {"message": "Wrong API Key", "type": INVALID, "param": "api_key", "code": "wrong_api_key"},
        AuthenticationError, "Wrong API Key"),
    Row("cerebras", 429, {"message": "Requests per second limit exceeded", "type": "too_many_requests_error",
        "param": "quota", "code": "request_quota_exceeded"}, RateLimitError, "per second", retryable=True),
    Row("sambanova", 429, "rate limit exceeded", RateLimitError, "rate limit exceeded", retryable=True),
    Row("dashscope", 400, {"error": {"message": "<400> InternalError.Algo.InvalidParameter: Range of n should be "
        "[1, 4]", "type": INVALID, "param": None, "code": "invalid_parameter_error"}, "request_id": "9"},
        BadRequestError, "Range of n"),
    Row("dashscope", 401, {"code": "InvalidApiKey", "message": "Invalid API-key provided.", "request_id": "9"},
        AuthenticationError, "Invalid API-key"),
    Row("databricks", 403, {"error_code": "PERMISSION_DENIED", "message": "You do not have permission"},
        AuthenticationError, "do not have permission"),
    Row("databricks", 429, {"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "Exceeded workspace rate limit"},
        RateLimitError, "workspace rate limit", retryable=True),
    Row("nim", 402, {"status": 402, "title": "Payment Required", "detail": "Account 'x': credits expired"},
        BadRequestError, "credits expired"),
    Row("nim", 404, {"status": 404, "title": "Not Found", "detail": "Function 'x' not found"},
        BadRequestError, "not found"),
    Row("bedrock", 403, {"Message": "Authentication failed: bearer token is not valid"},
        AuthenticationError, "bearer token"),
    Row("bedrock", 429, {"message": "Too many requests, please wait before trying again."},
        RateLimitError, "Too many requests", retryable=True),
    # Servers of your own
    Row("vllm", 400, {"error": {"message": "Requested sample logprobs of 21, which is greater than max allowed: 20",
        "type": "BadRequestError", "param": "logprobs", "code": 400}}, BadRequestError, "max allowed: 20"),
    Row("vllm", 404, {"detail": "Not Found"}, BadRequestError, "Not Found"),
    Row("vllm", 401, {"error": "Unauthorized"}, AuthenticationError, "Unauthorized"),
    Row("sglang", 400, "\"'developer' is not a known role\"", BadRequestError, "developer"),
    Row("sglang", 400, {"object": "error", "message": "Input is too long", "type": "BadRequestError", "code": 400},
        BadRequestError, "too long"),
    Row("llamacpp", 400, {"error": {"code": 400, "message": "Field 'n': Value must be between 1 <= value <= 1, but "
        "got 2", "type": INVALID}}, BadRequestError, "Field 'n'"),
    Row("llamacpp", 503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}},
        ServerError, "Loading model", retryable=True),
    Row("llama-cpp-python", 500, openai("logprobs is not supported for models created with logits_all=False",
        "internal_server_error"), ServerError, "logits_all", retryable=True),
    Row("ollama", 400, openai("top_logprobs must be between 0 and 20", INVALID), BadRequestError, "between 0 and 20"),
    Row("ollama", 404, {"error": "model 'llama9' not found"}, BadRequestError, "'llama9' not found"),
    Row("lmstudio", 400, {"error": "No models loaded. Please load a model."}, BadRequestError, "No models loaded"),
    Row("tgi", 422, {"error": "Input validation error: `top_logprobs` must be <= 5", "error_type": "validation"},
        BadRequestError, "must be <= 5"),
    Row("tgi", 429, {"error": "Model is overloaded", "error_type": "overloaded"}, RateLimitError, "overloaded",
        retryable=True),
    Row("pocket", 400, {"error": {"code": 400, "message": "the request exceeds the context size", "type": INVALID}},
        BadRequestError, "context size"),
    Row("smollm2", 503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}},
        ServerError, "Loading model", retryable=True),
    Row("openai-compatible", 502, "<html><head><title>502 Bad Gateway</title></head></html>",
        ServerError, "502 Bad Gateway", retryable=True),
)  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.provider}-{row.status}-{row.says[:20]}")
def test_a_providers_error_becomes_ours_and_keeps_its_own_words(row: Row) -> None:
    body = row.body if isinstance(row.body, str) else json.dumps(row.body)
    error = error_from_response(row.status, {}, body.encode(), PROVIDERS[row.provider], secrets=[KEY])
    assert type(error) is row.kind
    assert row.says in error.message
    assert error.retryable is row.retryable
    assert (error.provider, error.status) == (row.provider, row.status)
    assert error.hint
    assert KEY not in str(error)
    assert getattr(error, "retry_after", None) == row.wait


def test_every_provider_that_sends_errors_of_its_own_has_a_row() -> None:
    assert {row.provider for row in ROWS} == PROVIDERS.keys() - {"huggingface"}


REFUSALS = [row for row in ROWS if ("ogprobs" in row.says or "Invalid option" in row.says) and row.status < 500]


@pytest.mark.parametrize("row", REFUSALS, ids=lambda row: row.provider)
def test_a_refusal_of_logprobs_is_recognised_from_every_provider(row: Row) -> None:
    body = row.body if isinstance(row.body, str) else json.dumps(row.body)
    error = error_from_response(row.status, {}, body.encode(), PROVIDERS[row.provider])
    assert is_logprobs_refusal(error)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (anthropic("overloaded_error", "Overloaded")["error"], ServerError),
        (anthropic("rate_limit_error", "slow")["error"], RateLimitError),
        (google(503, "UNAVAILABLE", "busy")["error"], ServerError),
        (google(429, "RESOURCE_EXHAUSTED", "quota")["error"], RateLimitError),
        ({"code": "server_error", "message": "The model failed"}, ServerError),  # Responses, response.failed
        ({"code": "rate_limit_exceeded", "message": "slow"}, RateLimitError),
        ({"message": "Provider disconnected", "code": 502}, ServerError),  # OpenRouter, in a stream
    ],
)
def test_an_error_in_the_middle_of_a_stream_is_the_same_error(error: Any, kind: type[ProviderError]) -> None:
    assert type(error_from_object(error)) is kind


def every_error() -> list[SwiftClientError]:
    def subclasses(kind: type[SwiftClientError]) -> Iterator[type[SwiftClientError]]:
        yield kind
        for child in kind.__subclasses__():
            yield from subclasses(child)

    selection = rank([Completion(text="4", index=0)])
    arguments: dict[type, dict[str, Any]] = {
        RejectedError: {"selection": selection},
        BudgetExceededError: {"best": selection},
    }
    return [kind("It failed.", hint="Try again.", **arguments.get(kind, {})) for kind in subclasses(SwiftClientError)]


@pytest.mark.parametrize("error", every_error(), ids=lambda error: type(error).__name__)
def test_every_error_can_be_pickled_and_copied(error: SwiftClientError) -> None:
    error.request_id = "r1"
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert twin.args == error.args
        assert vars(twin).keys() == vars(error).keys()


def test_causes_and_completions_come_back_too() -> None:
    cause = RateLimitError("Slow down.", provider="openai", status=429, retryable=True)
    cause.retry_after = 2.5
    error = NoCompletionError("None came.", causes=[cause], completions=[Completion(text="4", index=0)])
    twin = pickle.loads(pickle.dumps(error))
    assert str(twin) == str(error)
    assert twin.retryable
    assert twin.causes[0].retry_after == 2.5
    assert twin.completions[0].text == "4"
