"""Tests against bugs that similar packages had with providers.

The number is the line of the list that we keep of them; lines that have nothing to do with providers are left out.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from swift_client import AsyncSwiftReranker, parse_response, rank
from swift_client.errors import BadRequestError
from swift_client.types import Completion
from tests.servers import FaultServer, Received, Response, chat, error

TESTS = Path(__file__).parent

KEPT_OUT: Mapping[int, tuple[str, ...]] = {
    1: (  # its_hub, uqlm, logprob-ranker: one failure in a gather loses all
        "test_sampling.py::test_one_failed_call_of_16_loses_only_its_own_completion",
        "test_sampling.py::test_a_final_failure_of_one_call_does_not_stop_the_others",
    ),
    2: ("test_sampling.py::test_when_all_fail_every_cause_is_inside",),  # dspy#9301, #10312: None, or a text
    3: (  # optillm: any failure of n=16 read as "n unsupported"
        "test_sampling.py::test_a_cap_is_never_learnt_from_a_rate_limit_a_timeout_or_a_server_fault",
        "test_sampling.py::test_a_cap_is_never_learnt_from_a_hanging_server",
    ),
    4: (  # dspy#9380, edsl#2189: providers that cap n
        "test_sampling.py::test_a_cap_of_the_row_is_kept_and_the_prompt_is_paid_as_few_times_as_possible",
        "test_sampling.py::test_a_server_that_ignores_n_is_topped_up_and_asked_singly_ever_after",
        "test_capabilities.py::test_families_differ_in_n_too",
    ),
    5: ("test_reranker.py::test_a_wrong_argument_of_best_of_is_one_clear_error_and_nothing_is_sent",),  # its_hub#237
    6: ("test_sampling.py::test_two_calls_on_one_instance_share_no_state",),  # dspy#10312, uqlm
    7: ("test_retry.py::test_a_long_burst_of_429_neither_freezes_the_limit_nor_exceeds_it",),  # inspect_ai#5138
    8: ("test_retry.py::test_the_loop_ticks_within_50_ms_through_a_cool_down",),  # uqlm#451
    9: (  # plandex#123
        "test_failures.py::test_the_wait_that_a_429_asks_for",
        "test_failures.py::test_an_http_date_is_read_against_the_clock",
        "test_retry.py::test_the_servers_wait_is_honoured",
    ),
    10: (  # vane#64, any-llm#359, openai-python#1254
        "test_sync_loop.py::test_it_works_under_asyncio_run_twice",
        "test_sync_loop.py::test_it_works_inside_a_running_loop",
        "test_sync_loop.py::test_it_works_from_a_thread_of_a_running_loop",
        "test_sync_loop.py::test_a_forked_child_works_with_an_instance_that_its_parent_has_used",
    ),
    11: (  # ogx#3552, ollama#13638, and "may be fewer" in OpenAI's own words
        "test_openai_chat.py::test_a_reply_without_logprobs_is_a_reply_with_T_0",
        "test_openai_chat.py::test_fewer_ranks_than_asked_are_filled_with_minus_infinity",
        "test_peers.py::test_a_list_with_one_rank_more_than_asked_is_cut_to_what_was_asked",
        "test_peers.py::test_empty_content_beside_a_text_is_a_reply_without_logprobs",
    ),
    12: (  # PyRIT#991
        "test_logprobs.py::test_a_sentinel_is_censored_to_the_upper_bound_and_never_averaged",
        "test_peers.py::test_sentinels_change_no_score_and_are_noted_once",
        "test_logprob_checks.py::test_invalid_logprobs_are_dropped_and_named_once",
        "test_logprob_checks.py::test_a_reranker_warns_once_that_texts_decide_and_names_the_remedy",
    ),
    13: (  # artefactual#170
        "test_logprobs.py::test_ranks_that_arrive_unsorted_give_the_same_arrays",
        "test_openai_chat.py::test_a_sampled_token_outside_the_list_gives_the_same_arrays_wherever_it_stands",
    ),
    14: (  # go-openai#1061, standard-agent#31
        "test_retry.py::test_a_reasoning_model_that_refuses_logprobs_causes_no_retry_storm",
        "test_sampling.py::test_a_model_that_refuses_logprobs_is_asked_once_and_remembered",
        "test_peers.py::test_a_model_that_takes_no_temperature_is_asked_without_ever_after_and_says_so",
    ),
    15: (  # vercel/ai#10932
        "test_capabilities.py::test_peers_15_what_a_reply_shows_overrides_what_the_name_suggested",
        "test_capabilities.py::test_a_number_of_your_own_asks_whatever_the_models_name_says",
        "test_capabilities.py::test_a_thinking_call_teaches_nothing_about_the_calls_that_do_not_think",
    ),
    16: (  # RouteLLM#19, litellm#12896, tiktoken#514
        "test_public_face.py::test_importing_the_package_loads_no_provider_sdk_opens_no_socket_and_reads_no_key",
        "test_providers.py::test_importing_the_adapters_loads_no_client_library_and_reads_no_key",
    ),
    17: (  # agenta#7076
        "test_budget.py::test_cost_is_none_where_no_price_is_known",
        "test_budget.py::test_an_unknown_price_is_refused_before_anything_is_sent",
    ),
    18: ("test_budget.py::test_no_scripted_server_makes_it_spend_more_than_the_budget",),  # kars#12
    19: (  # vllm#23201
        "test_sampling.py::test_cancelling_closes_the_connections_and_leaves_no_task",
        "test_budget.py::test_a_cancelled_call_is_counted_in_full",
        "test_abort.py::test_cancelling_closes_every_stream_that_is_watched",
    ),
    25: ("test_openai_chat.py::test_no_step_of_a_large_reply_holds_the_loop",),  # prime-rl#1189, openai-python#3777
    26: (  # a slim container: the system's trust store is empty
        "test_transport.py::test_an_untrusted_certificate_names_ssl_cert_file",
        "test_transport.py::test_plain_http_behind_https_is_a_tls_failure_that_names_the_remedy",
    ),
    27: ("test_servers.py::test_the_guard_refuses_and_remembers_every_way_out",),  # vcrpy#990
    28: ("test_sampling.py::test_more_than_a_hundred_calls_run_at_once_where_the_limit_allows_it",),  # inspect_ai#847
    30: (  # inspect_ai's epoch key
        "test_store_reuse.py::test_a_larger_n_draws_only_the_rest_and_the_same_or_a_smaller_one_nothing",
        "test_store_reuse.py::test_another_request_is_another_key",
        "test_store_reuse.py::test_with_a_seed_completion_i_is_asked_for_with_seed_plus_i",
    ),
    31: (  # openai-python#1254; Linux alone is tested, and no transport outlives its loop there
        "test_sync_loop.py::test_it_works_under_asyncio_run_twice",
    ),
    32: (
        "test_transport.py::test_the_key_is_in_no_repr_no_error_and_no_log",
        "test_error_table.py::test_a_providers_error_becomes_ours_and_keeps_its_own_words",
        "test_reranker.py::test_the_key_is_read_at_the_first_request_and_shown_nowhere",
    ),
}


@pytest.mark.parametrize("line", KEPT_OUT)
def test_the_tests_that_keep_a_peers_bug_out_exist(line: int) -> None:
    for test in KEPT_OUT[line]:
        file, name = test.split("::")
        tree = ast.parse((TESTS / file).read_text())
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def body(*entries: dict[str, Any] | None, text: str = "4") -> bytes:
    logprobs = {"content": list(entries)} if entries else {"content": []}
    choice = {"index": 0, "message": {"content": text}, "finish_reason": "stop", "logprobs": logprobs}
    return json.dumps({"choices": [choice]}).encode()


def token(text: str, logprob: float | None, *top: tuple[str, float | None]) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "top_logprobs": [{"token": t, "logprob": v} for t, v in top]}


def test_a_list_with_one_rank_more_than_asked_is_cut_to_what_was_asked() -> None:
    reply = body(token("4", -3.0, ("5", -0.5), ("6", -1.5), ("4", -3.0)))
    assert parse_response(reply, top_logprobs=2)[0].top_logprobs.tolist() == [[-0.5, -1.5]]
    assert parse_response(reply)[0].top_logprobs.shape == (1, 3)


def test_empty_content_beside_a_text_is_a_reply_without_logprobs() -> None:
    (one,) = parse_response(body())
    assert (one.text, one.tokens) == ("4", ())


@pytest.mark.parametrize("sentinel", [-9999.0, -100.0, -3.4028234663852886e38, None])
def test_sentinels_change_no_score_and_are_noted_once(sentinel: float | None) -> None:
    tokens = [token("a", -0.1, ("a", -0.1)), token("b", sentinel, ("c", -0.2)), token("d", -0.3, ("d", -0.3))]
    (one,) = parse_response(body(*tokens, text="abd"))
    assert one.censored.tolist() == [False, True, False]
    assert one.logprobs.min() >= -20
    selection = rank([one, Completion(text="abd", index=1)])
    assert selection.score is not None
    assert selection.score > -7
    assert len(selection.notes) == len(set(selection.notes))


async def test_a_model_that_takes_no_temperature_is_asked_without_ever_after_and_says_so(
    fault_server: FaultServer,
) -> None:
    sentence = (
        "Unsupported value: 'temperature' does not support 0.7 with this model. Only the default (1) is supported."
    )

    def serve(request: Received) -> Response:
        if "temperature" in request.json:
            return error(400, sentence, param="temperature")
        return chat(["4"] * request.json["n"])

    fault_server.serve(serve)
    async with AsyncSwiftReranker("openai-compatible", "o9", base_url=fault_server.url) as reranker:
        selections = [await reranker.best_of("q", n=4, temperature=0.7) for _ in range(2)]
    assert [len(selection.candidates) for selection in selections] == [4, 4]
    assert sum("Only the default (1) is supported" in note for note in selections[0].notes) == 1
    assert len(fault_server.requests) == 3


async def test_a_temperature_out_of_range_is_still_an_error(fault_server: FaultServer) -> None:
    fault_server.serve(lambda _: error(400, "temperature must be at most 2", param="temperature"))
    async with AsyncSwiftReranker("openai-compatible", "m", base_url=fault_server.url) as reranker:
        with pytest.raises(BadRequestError, match="at most 2"):
            await reranker.best_of("q", n=4, temperature=3)
    assert len(fault_server.requests) == 1
