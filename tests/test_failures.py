from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from swift_client.adapters import PROVIDERS
from swift_client.adapters.transport.error_responses import (
    error_from_html,
    error_from_object,
    error_from_response,
    is_logprobs_refusal,
    scrub,
)
from swift_client.adapters.transport.parameter_limits import parse_parameter_limit
from swift_client.adapters.transport.rate_limit_headers import retry_after_from_headers, retry_after_from_message
from swift_client.errors import (
    AuthenticationError,
    BadRequestError,
    ConnectionFailedError,
    ProviderError,
    RateLimitError,
    RequestTimeoutError,
    ResponseDecodeError,
    ServerError,
)

OPENAI = PROVIDERS["openai"]


def openai_body(message: str, **fields: Any) -> bytes:
    return json.dumps({"error": {"message": message, "type": "invalid_request_error", **fields}}).encode()


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (400, BadRequestError, False),
        (401, AuthenticationError, False),
        (402, BadRequestError, False),
        (403, AuthenticationError, False),
        (404, BadRequestError, False),
        (408, RequestTimeoutError, True),
        (409, BadRequestError, True),
        (413, BadRequestError, False),
        (422, BadRequestError, False),
        (429, RateLimitError, True),
        (500, ServerError, True),
        (503, ServerError, True),
        (529, ServerError, True),
        (301, ConnectionFailedError, False),
        (307, ConnectionFailedError, False),
        (999, ServerError, True),
    ],
)
def test_every_status_has_its_class_its_hint_and_its_verdict_on_retries(
    status: int, kind: type[ProviderError], retryable: bool
) -> None:
    error = error_from_response(status, {"X-Request-Id": "req_1"}, openai_body("No."), OPENAI)
    assert type(error) is kind
    assert error.retryable is retryable
    assert (error.provider, error.status, error.request_id) == ("openai", status, "req_1")
    assert error.hint
    assert "req_1" in str(error)


def test_the_hint_of_a_401_names_the_key_variable() -> None:
    assert "OPENAI_API_KEY" in str(error_from_response(401, {}, b"", OPENAI))


def test_a_used_up_quota_is_a_rate_limit_that_no_retry_can_help() -> None:
    error = error_from_response(
        429, {}, openai_body("You exceeded your current quota.", code="insufficient_quota"), OPENAI
    )
    assert isinstance(error, RateLimitError)
    assert not error.retryable
    assert "credit" in error.hint


@pytest.mark.parametrize(("header", "verdict"), [("true", True), ("false", False)])
def test_x_should_retry_overrides_the_status(header: str, verdict: bool) -> None:
    for status in (400, 429, 500):
        assert error_from_response(status, {"x-should-retry": header}, b"", OPENAI).retryable is verdict


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (openai_body("The model `x` does not exist"), "The model `x` does not exist"),
        (b'{"code":"Client specified an invalid argument","error":"Bad n"}', "Bad n"),  # xAI
        (b'"developer role is not supported"', "developer role is not supported"),  # SGLang
        (b'{"object":"error","message":"max tokens","type":"BadRequest","code":400}', "max tokens"),  # SGLang
        (b'{"detail":"Not Found"}', "Not Found"),  # FastAPI, vLLM
        (b'{"detail":[{"loc":["body","n"],"msg":"must be int"}]}', "body.n: must be int"),
        (b'[{"error":{"code":400,"message":"Unknown name","status":"INVALID_ARGUMENT"}}]', "Unknown name"),  # Google
        (
            b'{"error":{"message":"Provider returned error","code":400,"metadata":{"raw":"n too big"}}}',
            "Provider returned error: n too big",  # OpenRouter
        ),
        (b"<html><head><title>502 Bad\n Gateway</title></head><h1>x</h1></html>", "502 Bad Gateway"),
        (b"<html><body><h1>It <b>broke</b></h1></body></html>", "It broke"),
        (b"upstream connect error", "upstream connect error"),
        (b"", "The server answered 400 (Bad Request) without a message."),
        (b"{}", "The server answered 400 (Bad Request) without a message."),
    ],
)
def test_the_providers_own_sentence_is_kept_in_every_shape(body: bytes, message: str) -> None:
    assert error_from_response(400, {}, body, OPENAI).message == message


def test_param_is_kept_for_bad_requests() -> None:
    error = error_from_response(400, {}, openai_body("n is too large", param="n"), OPENAI)
    assert isinstance(error, BadRequestError)
    assert error.param == "n"


def test_a_prompt_that_is_echoed_back_is_cut_short() -> None:
    assert len(error_from_response(400, {}, openai_body("bad prompt: " + "x" * 100_000), OPENAI).message) < 700


@given(st.binary(max_size=300), st.integers(300, 999))
@example(b"[" * 100_000, 400)
@example(b'{"error":{"message":5,"details":[{"retryDelay":"x"}],"code":-1}}', 429)
def test_no_body_raises_another_exception(body: bytes, status: int) -> None:
    error = error_from_response(status, {"retry-after": "\x00", "retry-after-ms": "nan"}, body, OPENAI)
    assert error.message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "message", "detail", "code", "type", "details", "metadata", "raw", "param"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(json_values)
def test_no_json_raises_another_exception(value: object) -> None:
    assert error_from_response(400, {}, json.dumps(value).encode(), OPENAI).message
    assert error_from_object(value).message


@pytest.mark.parametrize(
    ("value", "kind", "status"),
    [
        ({"code": 429, "message": "free-models-per-day"}, RateLimitError, 429),
        ({"code": 502, "message": "upstream is down"}, ServerError, 502),
        ({"type": "server_error", "message": "overloaded"}, ServerError, None),
        ({"type": "tokens", "code": "rate_limit_exceeded", "message": "slow"}, RateLimitError, None),
        ({"code": "invalid_api_key", "message": "no"}, AuthenticationError, None),
        ("Unexpected endpoint or method.", BadRequestError, None),
    ],
)
def test_an_error_object_inside_a_200_becomes_the_matching_error(
    value: object, kind: type[ProviderError], status: int | None
) -> None:
    error = error_from_object(value)
    assert type(error) is kind
    assert error.status == status


def test_a_web_page_with_200_is_not_a_reply() -> None:
    error = error_from_html(b"\n <!doctype html><title>Sign in</title>", OPENAI)
    assert isinstance(error, ResponseDecodeError)
    assert "Sign in" in str(error)
    assert "base_url" in str(error)
    assert error_from_html(b'{"choices": []}') is None


@pytest.mark.parametrize(
    ("headers", "message", "seconds"),
    [
        ({"retry-after-ms": "1500", "retry-after": "9"}, "", 1.5),
        ({"retry-after": "2"}, "try again in 9s", 2.0),
        ({"retry-after": "0"}, "", 0.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, "", 0.0),
        ({"retry-after": "soon"}, "Please try again in 17.28s. Visit ...", 17.28),
        ({"retry-after": "-5"}, "", None),
        ({"retry-after": "inf"}, "", None),
        ({}, "Please retry in 1m3s.", 63.0),
        ({}, "Please try again in 250ms.", 0.25),
        ({}, "Please retry after 20 seconds.", 20.0),
        ({}, "Try again in 1 hour and 2 minutes", 3720.0),
        ({}, "try again in 5 months", None),
        ({}, "try again later", None),
    ],
)
def test_the_wait_that_a_429_asks_for(headers: dict[str, str], message: str, seconds: float | None) -> None:
    error = error_from_response(429, headers, openai_body(message), OPENAI)
    assert isinstance(error, RateLimitError)
    assert error.retry_after == (None if seconds is None else pytest.approx(seconds))


def test_an_http_date_is_read_against_the_clock() -> None:
    headers = {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}
    assert retry_after_from_headers(headers, now=1445412480 - 30) == pytest.approx(30)


def test_googles_retry_info_is_read() -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17.5s"}]
    body = json.dumps({"error": {"message": "RESOURCE_EXHAUSTED", "details": details}}).encode()
    error = error_from_response(429, {}, body)
    assert isinstance(error, RateLimitError)
    assert error.retry_after == 17.5


@given(
    st.integers(0, 99), st.integers(0, 59), st.floats(0, 59).map(lambda seconds: round(seconds, 2)), st.text(max_size=9)
)
def test_hours_minutes_and_seconds_add_up(hours: int, minutes: int, seconds: float, tail: str) -> None:
    wait = retry_after_from_message(f"Rate limit. Please try again in {hours}h{minutes}m{seconds}s. {tail}")
    assert wait == pytest.approx(hours * 3600 + minutes * 60 + seconds)


@given(st.text())
def test_waits_of_any_text_are_seconds_or_none(text: str) -> None:
    for seconds in (
        retry_after_from_message("try again in " + text),
        retry_after_from_headers({"retry-after": text}),
    ):
        assert seconds is None or seconds >= 0


@pytest.mark.parametrize(
    ("message", "param", "cap"),
    [
        ("Invalid value for 'top_logprobs': must be between 0 and 5, but got 20.", None, ("top_logprobs", 5)),
        ("must be between 0 and 5, but got 20", "top_logprobs", ("top_logprobs", 5)),
        ("must be between 0 and 5, but got 20", None, ("top_logprobs", 5)),
        ("must be between 1 and 8, but got 16", None, ("n", 8)),
        (
            "Requested sample logprobs of 20, which is greater than max allowed: 10 (parameter=logprobs, value=20)",
            "logprobs",
            ("top_logprobs", 10),
        ),
        ("Field 'n': Value must be between 1 <= value <= 1, but got 16", None, ("n", 1)),
        ("only n=1 is supported", None, ("n", 1)),
        ("top_logprobs must be between 0 and 15", None, ("top_logprobs", 15)),
        ("top_logprobs: at most 8", None, ("top_logprobs", 8)),
        ("Invalid 'n': integer above maximum value. Expected a value <= 8, but got 16 instead.", "n", ("n", 8)),
        ("`n` must be less than or equal to 4", None, ("n", 4)),
        ("n must be less than 9", None, ("n", 8)),
        ("The maximum number of top logprobs is 5.", None, ("top_logprobs", 5)),
        ("candidateCount must be in range 1 to 8", None, ("n", 8)),
        ("Unsupported parameter: 'n'", None, ("n", 1)),
        ("Input should be less than or equal to 5", "n", ("n", 5)),
        ("`logprobs` is not supported with this model", "logprobs", None),
        ("temperature must be between 0 and 2", None, None),
        ("must be between 0 and 2 but got 16", "temperature", None),
        ("max_tokens must be at most 4096", None, None),
        ("We couldn't read it, so we can't help", None, None),
        ("top_logprobs must be between 0 and 20", None, None),  # it was asked 20: this is not what is wrong
    ],
)
def test_a_400_that_names_a_cap_is_read(message: str, param: str | None, cap: tuple[str, int] | None) -> None:
    assert parse_parameter_limit(message, param=param, request_values={"n": 16, "top_logprobs": 20}) == cap


CAP_SENTENCES = (
    "{field} must be between {low} and {cap}, but got {got}",
    "Invalid value for '{field}': maximum is {cap}",
    "{field}: at most {cap} allowed",
    "`{field}` must be <= {cap}",
    "'{field}' of {got} is greater than max allowed: {cap}",
    "Value for {field} may be up to {cap}.",
    "{field} must not exceed {cap}",
)


@given(st.sampled_from(CAP_SENTENCES), st.sampled_from(["n", "top_logprobs"]), st.integers(1, 200), st.integers(1, 99))
def test_every_sentence_gives_its_field_and_number_back(sentence: str, field: str, cap: int, above: int) -> None:
    got = cap + above
    message = sentence.format(field=field, low=1 if field == "n" else 0, cap=cap, got=got)
    assert parse_parameter_limit(message, request_values={field: got}) == (field, cap)
    assert parse_parameter_limit(message) == (field, cap)


@given(st.text(), st.none() | st.text(max_size=12), st.integers(1, 99), st.integers(0, 20))
def test_a_cap_of_any_text_lowers_what_was_asked_and_is_never_below_its_floor(
    message: str, param: str | None, n: int, top: int
) -> None:
    sampling = {"n": n, "top_logprobs": top}
    cap = parse_parameter_limit(message, param=param, request_values=sampling)
    assert cap is None or (cap[1] < sampling[cap[0]] and cap[1] >= (1 if cap[0] == "n" else 0))


@pytest.mark.parametrize(
    ("status", "message", "is_refusal"),
    [
        (403, "You are not allowed to request logprobs from this model", True),
        (400, "`logprobs` is not supported with this model", True),
        (400, "Logprobs is not enabled for models/gemini-x", True),
        (400, "Unsupported parameter: 'top_logprobs' is not supported with this model.", True),
        (400, "top_logprobs requires logprobs to be set to true", True),
        (400, 'Invalid JSON payload received. Unknown name "logprobs"', True),
        (400, "This model does not support logprobs", True),
        (400, "Requested sample logprobs of 21, which is greater than max allowed: 20", False),
        (400, "top_logprobs must be between 0 and 5", False),
        (400, "temperature is not supported", False),
        (429, "logprobs are not available now", False),
    ],
)
def test_a_refusal_of_logprobs_is_distinguished_from_a_cap(status: int, message: str, is_refusal: bool) -> None:
    assert is_logprobs_refusal(error_from_response(status, {}, openai_body(message))) is is_refusal


def test_keys_are_scrubbed_whether_known_or_only_key_shaped() -> None:
    text = (
        "key my-odd-secret, sk-proj-abcDEF123, sk-abc***xyz and Bearer eyJhbGciOi.J9 are wrong; task-force-one is not"
    )
    clean = scrub(text, ["my-odd-secret"])
    assert clean == "key ***, ***, *** and Bearer *** are wrong; task-force-one is not"
