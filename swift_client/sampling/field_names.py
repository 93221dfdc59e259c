"""Names of request fields: those that providers know, and those that ``best_of`` refuses to send.

A misspelled field, or an argument of the constructor given to ``best_of``, would be sent and ignored by most servers:
the call is paid for and its answers are not those that were meant. Unknown names are sent all the same, since servers
have fields of their own, unless they are almost the name of a known one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from swift_client.errors import ConfigurationError

# Argument of ``SwiftReranker()``. Some are fields of a provider too (OpenAI's ``store``, OpenRouter's ``provider``).
_CONSTRUCTOR_ARGUMENTS = """
    provider model head scorer answer select require_logprobs top_logprobs base_url api_key client timeout max_retries
    max_concurrency on_event prices store warm_cache limit abort judge external fuse verifier
    similarity max_reply_bytes shadow redact keep drift
"""
CONSTRUCTOR_ARGUMENTS = frozenset(_CONSTRUCTOR_ARGUMENTS.split())
# Arguments of ``best_of()``, which can arrive among the fields of ``collect()``.
CALL_ARGUMENTS = frozenset(
    ("prompt", "min_completions", "deadline", "stopping", "budget", "on_reject", "response_model", "reference")
)
# Arguments that only ``best_of_many()`` has.
MANY_ARGUMENTS = frozenset(("prompts", "in_order", "return_exceptions", "concurrency"))
ARGUMENTS = CONSTRUCTOR_ARGUMENTS | CALL_ARGUMENTS | MANY_ARGUMENTS
# Fields that the request's plan decides; sent otherwise, replies could not be counted or read.
PLANNED_FIELDS = {
    "n": "Give it to best_of as n=.",
    "messages": "Give them to best_of as the prompt.",
    "stream": "Calls are streamed if that helps to meet deadline=.",
    "stream_options": "Calls are streamed if that helps to meet deadline=.",
}
_HINTS = {
    **PLANNED_FIELDS,
    "model": "Give it to the reranker.",
    "logprobs": "Give require_logprobs= to the reranker.",
    "top_logprobs": "Give it to the reranker.",
    "system": 'Give it as a message: [{"role": "system", "content": "..."}, {"role": "user", "content": "..."}].',
}

# The fields of each group of providers, besides those of the groups above it.
_FIELDS = {
    "OpenAI: chat completions, completions, responses": """
        temperature top_p max_tokens max_completion_tokens max_output_tokens stop seed presence_penalty
        frequency_penalty logit_bias reasoning reasoning_effort tools tool_choice parallel_tool_calls max_tool_calls
        functions function_call response_format user metadata service_tier safety_identifier prompt_cache_key
        prompt_cache_retention verbosity modalities audio prediction web_search_options moderation best_of echo suffix
        text include instructions background conversation previous_response_id truncation input context_management
    """,
    "vLLM, SGLang": """
        top_k min_p min_tokens repetition_penalty length_penalty stop_token_ids bad_words ignore_eos use_beam_search
        skip_special_tokens spaces_between_special_tokens include_stop_str_in_output prompt_logprobs allowed_token_ids
        truncate_prompt_tokens guided_json guided_regex guided_choice guided_grammar guided_decoding_backend
        guided_whitespace_pattern structured_outputs structural_tag add_generation_prompt continue_final_message
        add_special_tokens documents chat_template chat_template_kwargs mm_processor_kwargs logits_processors priority
        request_id return_tokens_as_token_ids return_token_ids return_prompt_text cache_salt kv_transfer_params
        vllm_xargs thinking_token_budget include_reasoning media_io_kwargs regex ebnf json_schema no_stop_trim
        stop_regex min_new_tokens max_new_tokens sampling_params separate_reasoning stream_reasoning lora_path
        session_params custom_logit_processor custom_params return_hidden_states return_routed_experts rid
        bootstrap_host bootstrap_port bootstrap_room data_parallel_rank top_logprobs_num logprob_start_len
        return_logprob return_text_in_logprobs
    """,
    "llama.cpp, Ollama, LM Studio, text-generation-webui, TGI, KoboldCpp": """
        n_predict n_keep n_probs n_discard n_indent n_cmpl n_cache_reuse cache_prompt id_slot samplers grammar
        grammar_lazy grammar_triggers typical_p tfs_z top_a top_n_sigma top_nsigma mirostat mirostat_mode mirostat_tau
        mirostat_eta dynatemp_range dynatemp_exponent dynamic_temperature dynatemp_low dynatemp_high xtc_probability
        xtc_threshold dry_multiplier dry_base dry_allowed_length dry_penalty_last_n dry_range dry_sequence_breakers
        repeat_penalty repeat_last_n penalize_nl min_keep t_max_predict_ms post_sampling_probs return_tokens
        response_fields lora image_data timings_per_token return_progress reasoning_format reasoning_budget
        reasoning_budget_tokens thinking_forced_open parse_tool_calls adaptive_target adaptive_decay think format
        options keep_alive num_ctx num_predict num_keep ttl draft_model smoothing_factor smoothing_curve
        epsilon_cutoff eta_cutoff guidance_scale negative_prompt penalty_alpha do_sample num_beams early_stopping
        encoder_repetition_penalty no_repeat_ngram_size repetition_penalty_range temperature_last sampler_priority
        sampler_order banned_tokens custom_token_bans ban_eos_token add_bos_token truncation_length
        auto_max_new_tokens max_tokens_second prompt_lookup_num_tokens mode instruction_template character watermark
        return_full_text decoder_input_details top_n_tokens typical adapter_id num_return_sequences
    """,
    "Anthropic, Amazon Bedrock, Cohere": """
        stop_sequences thinking output_config output_format cache_control container inference_geo mcp_servers betas
        anthropic_beta anthropic_version speed k p safety_mode citation_options citation_quality raw_prompting
        strict_tools preamble chat_history connectors search_queries_only
    """,
    "Gemini and Vertex AI": """
        generationConfig generation_config safetySettings safety_settings systemInstruction system_instruction
        toolConfig tool_config cachedContent cached_content labels google contents topK topP maxOutputTokens
        candidateCount stopSequences presencePenalty frequencyPenalty responseMimeType responseSchema
        responseJsonSchema responseLogprobs responseModalities thinkingConfig thinking_config speechConfig imageConfig
        mediaResolution enableEnhancedCivicAnswers routingConfig modelSelectionConfig audioTimestamp
        enableAffectiveDialog
    """,
    "DashScope, DeepSeek, Moonshot, Zhipu, MiniMax, Doubao, Hunyuan, Qianfan, SiliconFlow": """
        enable_thinking thinking_budget preserve_thinking enable_search search_options enable_code_interpreter
        incremental_output result_format translation_options vl_high_resolution_images asr_options tool_stream partial
        user_id mask_sensitive_info tokens_to_generate reply_constraints enable_enhancement enable_citation
        penalty_score disable_search reasoning_split skills caching
    """,
    "Mistral, Groq, Together, Fireworks, OpenRouter, xAI, Perplexity, Cerebras, NVIDIA, Nebius, Writer, Azure": """
        random_seed safe_prompt prompt_mode guardrails document_image_limit document_page_limit search_settings
        compound_custom disable_tool_validation exclude_domains include_domains safety_model
        context_length_exceeded_behavior prompt_truncate_len prompt_cache_isolation_key perf_metrics_in_response
        raw_output speculation mirostat_lr mirostat_target models route transforms plugins usage preset trace
        session_id fallbacks cache image_config debug search_parameters deferred search_mode search_domain_filter
        search_recency_filter search_after_date_filter search_before_date_filter last_updated_after_filter
        last_updated_before_filter return_images return_related_questions enable_search_classifier language_preference
        media_response stream_mode clear_thinking disable_reasoning prompt_cache nvext repetition_policy data_sources
        user_security_context enhancements num_retries mock_response drop_params
    """,
    "models in this process": "hidden_states hidden_moment",
}
KNOWN_FIELDS = frozenset(name for names in _FIELDS.values() for name in names.split())
# Known fields that no argument shadows: a call with these alone needs no further check.
ALLOWED_FIELDS = KNOWN_FIELDS - CONSTRUCTOR_ARGUMENTS - _HINTS.keys()
# Names that others may be similar to, fields first, and the length up to which one edit is all that they may differ by.
_SIMILAR = (
    *((name, 4) for name in sorted(KNOWN_FIELDS | _HINTS.keys(), key=str.swapcase)),  # camelCase last
    *((name, 7) for name in sorted(ARGUMENTS)),
)
_EXTRA_BODY_HINT = "To send a field of this name to the provider all the same, pass it in extra_body"


def refuse_names(names: Iterable[str]) -> None:
    """Raise ConfigurationError for the first name that is an argument, or almost that of a known field."""
    for name in names:
        hint = _HINTS.get(name)
        if hint is None and name in CONSTRUCTOR_ARGUMENTS:
            hint = f"It is an argument of SwiftReranker: give {name}= to the constructor."
        elif hint is None and name in CALL_ARGUMENTS:
            hint = f"{name} is an argument of best_of alone."
        elif hint is None and name in MANY_ARGUMENTS:
            hint = f"{name} is an argument of best_of_many alone."
        if hint is not None:
            if name not in PLANNED_FIELDS:
                hint = f"{hint} {_EXTRA_BODY_HINT}."
            raise ConfigurationError(f"{name!r} is not a sampling field of best_of.", hint=hint)
        if name not in KNOWN_FIELDS and (similar := find_similar(name)):
            raise ConfigurationError(
                f"{name!r} is not a sampling field; did you mean {similar!r}?", hint=f"{_EXTRA_BODY_HINT}."
            )


def find_similar(name: str) -> str | None:
    """Return the known name that is at most two edits from ``name``; None if there is none.

    Case and hyphens do not count, except beside Gemini's camelCase. Of short names (4 letters, 7 of an argument) one
    edit makes another word, so two are too many; names without a common letter are not similar, such as "x" and "n".
    """
    plain = name.casefold().replace("-", "_")
    pairs = [(plain if candidate.islower() else name, candidate, short) for candidate, short in _SIMILAR]
    pairs = [pair for pair in pairs if abs(len(pair[0]) - len(pair[1])) <= 2 and _shares_letters(pair[0], pair[1])]
    for n_edits in range(3):
        for spelling, candidate, short in pairs:
            length = max(len(spelling), len(candidate))
            if n_edits < length and (n_edits < 2 or length > short) and is_within(spelling, candidate, n_edits):
                return candidate
    return None


def _shares_letters(a: str, b: str) -> bool:
    """Return False if more than two letters of one are not in the other at all, so that two edits cannot be enough."""
    return len(set(a).difference(b)) <= 2 and len(set(b).difference(a)) <= 2


def is_within(a: str, b: str, n_edits: int) -> bool:
    """Return True if ``n_edits`` letters added, left out, replaced or swapped with the next turn ``a`` into ``b``."""
    if abs(len(a) - len(b)) > n_edits:
        return False
    start = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    a, b = a[start:], b[start:]
    if not a or not b:
        return True
    if n_edits == 0:
        return False
    rests = [(a[1:], b[1:]), (a[1:], b), (a, b[1:])]
    if a[:2] == b[1::-1]:
        rests.append((a[2:], b[2:]))
    return any(is_within(rest_a, rest_b, n_edits - 1) for rest_a, rest_b in rests)


def check_extra_body(extra_body: object) -> dict[str, Any]:
    """Return ``extra_body`` as a dict.

    Raises:
        ConfigurationError: it is not a mapping of names, or has a field that decides how replies are counted or read.
    """
    if not isinstance(extra_body, Mapping) or not all(isinstance(name, str) for name in extra_body):
        raise ConfigurationError(
            f"extra_body must be a dict of request fields, not {type(extra_body).__name__}.",
            hint='Such as extra_body={"store": True}.',
        )
    for name in PLANNED_FIELDS.keys() & extra_body.keys():
        raise ConfigurationError(f"{name!r} cannot be in extra_body.", hint=PLANNED_FIELDS[name])
    return dict(extra_body)
