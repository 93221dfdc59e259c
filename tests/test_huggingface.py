"""Tests of local transformers models: texts, logprobs and states, against a plain second forward pass."""

from __future__ import annotations

import asyncio
import inspect
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra 'local' is not installed")
transformers = pytest.importorskip("transformers", reason="the extra 'local' is not installed")
tokenizers = pytest.importorskip("tokenizers", reason="the extra 'local' is not installed")
pytest.importorskip("gguf", reason="the extra 'local' is not installed")

from swift_client import AsyncSwiftReranker, SwiftReranker  # noqa: E402 - after the skips
from swift_client.adapters.local.decode import DecodeRow, SamplingParams, decode, sample_tokens  # noqa: E402
from swift_client.adapters.local.hidden_states import CaptureReader, ProjectionReader  # noqa: E402
from swift_client.adapters.local.model import HuggingFaceModel  # noqa: E402
from swift_client.adapters.local.request import Capture, Projection, parse_request  # noqa: E402
from swift_client.adapters.local.tokenizer import Vocabulary, find_answer  # noqa: E402
from swift_client.errors import (  # noqa: E402
    ArtifactMismatchError,
    BadRequestError,
    ConfigurationError,
    ProviderError,
    SwiftClientError,
)
from swift_client.logprobs.clean import token_id  # noqa: E402
from swift_client.models import GatedLinearHead, HiddenHead, PlattCalibration, save  # noqa: E402
from swift_client.scoring.scorers import score  # noqa: E402
from swift_client.store import StoredQuestion  # noqa: E402
from swift_client.training import collect  # noqa: E402
from tests import local_models as local  # noqa: E402

torch.set_num_threads(1)
ASKED = [{"role": "user", "content": "What is 17 + 24?"}]
DRAWS = np.random.default_rng(0)
WEIGHT = DRAWS.normal(0, 0.1, (2, local.STATES * local.WIDTH)).astype(np.float32)
PROJECTION = Projection(
    weight=WEIGHT, bias=np.array([0.1, -0.2], np.float32), layers=tuple(range(local.STATES)), width=local.WIDTH
)
PROMPTS = (tuple(range(40, 52)), (7,), tuple(range(90, 95)))


def rows_of(prompts: tuple[tuple[int, ...], ...], *, max_tokens: int = 14, first: int = 0) -> list[DecodeRow]:
    """Return rows that end with any token below 12, or after ``max_tokens``."""
    return [
        DecodeRow(
            prompt=prompt, seed=seed, max_tokens=max_tokens, check_end=lambda tokens: "end" if tokens[-1] < 12 else None
        )
        for seed, prompt in enumerate(prompts, first)
    ]


def projector(model: Any, projection: Projection = PROJECTION) -> ProjectionReader:
    return ProjectionReader(projection, n_states=local.STATES, hidden_size=local.WIDTH, device=model.device)


def hidden_head(model: str, **facts: Any) -> HiddenHead:
    head = GatedLinearHead(gate_weight=WEIGHT[0], gate_bias=0.1, reward_weight=WEIGHT[1], reward_bias=-0.2)
    return HiddenHead(head=head, layers=PROJECTION.layers, width=local.WIDTH, model=model, **facts)


def local_model(**options: Any) -> HuggingFaceModel:
    return HuggingFaceModel(local.random_model(), tokenizer=local.byte_tokenizer(**options))


def complete(model: HuggingFaceModel, n: int = 4, **options: Any) -> Any:
    options = {"logprobs": True, "top_logprobs": 5, "seed": 3, "max_tokens": 20, **options}
    return asyncio.run(model.complete(ASKED, n, **options))


# States and logprobs


@pytest.mark.parametrize("kind", local.KINDS)
def test_states_and_logprobs_of_a_padded_batch_are_those_of_a_plain_second_pass(kind: str) -> None:
    model = local.random_model(kind)
    rows = rows_of(PROMPTS * 3)
    decode(
        model, rows, sampling=SamplingParams(), k=5, readers=[CaptureReader(Capture(), n_states=4), projector(model)]
    )
    assert {row.finish_reason for row in rows} == {"end", "length"}
    for row in rows:
        logprobs, states = local.second_pass(model, row.prompt, row.tokens)
        chosen_logprobs = logprobs[range(len(row.tokens)), row.tokens]
        np.testing.assert_allclose(row.logprobs, chosen_logprobs, atol=2e-5)
        np.testing.assert_allclose([logprob for logprob, _ in row.alternatives], logprobs.topk(5).values, atol=2e-5)
        flat = states.flatten(1)
        captured, projected = (torch.stack(tensors).float() for tensors in row.states)
        # The end-of-turn token is not read; the last one of a cut answer is.
        assert len(captured) == len(projected) == len(row.tokens) + (row.finish_reason == "length")
        np.testing.assert_allclose(captured, flat[: len(captured)], rtol=1e-3, atol=1e-3)  # float16
        expected = flat[: len(projected)] @ torch.from_numpy(WEIGHT).T + torch.tensor([0.1, -0.2])
        np.testing.assert_allclose(projected, expected, rtol=1e-4, atol=1e-5)


def test_a_completion_is_the_same_alone_in_a_batch_and_beside_longer_prompts() -> None:
    model = local.random_model()
    together = rows_of(PROMPTS * 2)
    decode(model, together, sampling=SamplingParams(), k=5, readers=[projector(model)])
    for seed, row in enumerate(together):
        (single_row,) = rows_of((row.prompt,), first=seed)
        decode(model, [single_row], sampling=SamplingParams(), k=5, readers=[projector(model)])
        assert single_row.tokens == row.tokens
        np.testing.assert_allclose(single_row.logprobs, row.logprobs, atol=1e-5)
        np.testing.assert_allclose(torch.stack(single_row.states[0]), torch.stack(row.states[0]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("moment", "first"), [("read", 1), ("produced", 0)])
def test_a_token_has_the_state_after_it_or_the_one_it_was_drawn_from(moment: Any, first: int) -> None:
    model = local_model()
    reply = complete(model, 1, hidden_states=[0, 3], hidden_moment=moment, temperature=0, max_tokens=9)
    (completion,) = reply.completions
    tokenizer = local.byte_tokenizer()
    names = {token_id(Vocabulary(tokenizer).token_bytes(place)): place for place in range(257)}
    ids = [names[int(best)] for best in completion.top_ids[:, 0]]
    _, states = local.second_pass(model._source, tokenizer(ASKED[0]["content"])["input_ids"], ids)
    expected = states[first : first + len(ids)][:, [0, 3]].flatten(1)
    assert completion.hidden_states.dtype == np.float16
    np.testing.assert_allclose(completion.hidden_states, expected, rtol=1e-3, atol=1e-3)


def test_projecting_gives_the_scores_of_capturing_and_the_head_to_a_ten_thousandth() -> None:
    model = local_model().with_projection(PROJECTION)
    completions = complete(model, 16, hidden_states=True).completions
    head = hidden_head("random")
    projected = score(completions, head).values
    captured = score([replace(completion, projections=None) for completion in completions], head).values
    np.testing.assert_allclose(projected, captured, rtol=1e-4, atol=1e-4)
    assert all(completion.projections.dtype == np.float32 for completion in completions)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_gives_float32_logprobs_and_projections_near_those_of_its_own_second_pass(dtype: str) -> None:
    model = local.random_model().to(getattr(torch, dtype))
    rows = rows_of(PROMPTS)
    decode(model, rows, sampling=SamplingParams(), k=5, readers=[projector(model)])
    for row in rows:
        logprobs, states = local.second_pass(model, row.prompt, row.tokens)
        np.testing.assert_allclose(row.logprobs, logprobs[range(len(row.tokens)), row.tokens], atol=0.25)
        projected = torch.stack(row.states[0])
        assert projected.dtype == torch.float32
        expected = states.flatten(1)[: len(projected)] @ torch.from_numpy(WEIGHT).T + torch.tensor([0.1, -0.2])
        np.testing.assert_allclose(projected, expected, atol=0.25)


def test_samples_are_collected_from_a_local_model_too(tmp_path: Path) -> None:
    folder = str(local.save_model(tmp_path / "model"))
    questions = [StoredQuestion(id=str(number), messages=tuple(ASKED), answer="41") for number in range(2)]
    result = collect(questions, tmp_path / "s.db", provider="huggingface", model=folder, n=3, max_tokens=8)
    assert (result.added, result.failures) == (6, ())


# Drawing


def test_drawing_takes_the_first_token_whose_cumulated_probability_exceeds_the_number() -> None:
    logits = torch.log(torch.tensor([[0.1, 0.6, 0.3]])).repeat(5, 1)
    numbers = torch.tensor([0.0, 0.0999, 0.1001, 0.6999, 0.7001], dtype=torch.float64)
    assert sample_tokens(logits, numbers, SamplingParams()).tolist() == [0, 0, 1, 1, 2]
    assert sample_tokens(logits, numbers, SamplingParams(temperature=0)).tolist() == [1] * 5


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.5},
        {"top_k": 7},
        {"top_p": 0.6},
        {"min_p": 0.05},
        {"temperature": 1.7, "top_k": 9, "top_p": 0.8},
    ],
)
def test_filters_leave_the_distribution_that_transformers_leaves(options: dict[str, Any]) -> None:
    torch.manual_seed(1)
    logits = torch.randn(1, 40) * 2
    warped = logits / options.get("temperature", 1.0)
    if "top_k" in options:
        warped = transformers.TopKLogitsWarper(options["top_k"])(None, warped)
    if "top_p" in options:
        warped = transformers.TopPLogitsWarper(options["top_p"])(None, warped)
    if "min_p" in options:
        warped = transformers.MinPLogitsWarper(options["min_p"])(None, warped)
    grid = (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000
    frequencies = sample_tokens(logits.repeat(20000, 1), grid, SamplingParams(**options)).bincount(minlength=40) / 20000
    np.testing.assert_allclose(frequencies, warped.softmax(-1)[0], atol=1e-4)


def test_logprobs_are_those_before_temperature_and_filters() -> None:
    cool, warm = (complete(local_model(), 1, temperature=0, max_tokens=1).completions[0] for _ in "ab")
    hot = complete(local_model(), 1, temperature=1e-4, top_k=1, max_tokens=1).completions[0]
    np.testing.assert_array_equal(cool.top_logprobs, warm.top_logprobs)
    np.testing.assert_allclose(cool.top_logprobs, hot.top_logprobs, atol=1e-6)
    assert cool.logprobs[0] == cool.top_logprobs[0, 0]


def test_a_seed_gives_the_same_answers_in_one_call_and_in_several() -> None:
    model = local_model()
    texts = [completion.text for completion in complete(model, 6).completions]
    parts = [completion.text for seed in range(3, 9) for completion in complete(model, 1, seed=seed).completions]
    assert texts == parts
    assert len(set(texts)) > 1


# From ids to answers


def test_tokens_spell_the_text_and_identities_are_those_of_their_bytes() -> None:
    reply = complete(local_model(), 4)
    for completion in reply.completions:
        assert len(completion.tokens) == len(completion.logprobs) == completion.top_logprobs.shape[0] > 0
        assert completion.top_ids.shape == completion.top_logprobs.shape
    assert reply.usage.prompt_tokens == len(ASKED[0]["content"]) - 1 + 1 * ("th" not in ASKED[0]["content"])
    tokenizer = local.byte_tokenizer()
    vocabulary = Vocabulary(tokenizer)
    for text in ("the naïve café", "汉字 12\n", "\x00\x7f"):
        ids = tokenizer(text)["input_ids"]
        assert b"".join(map(vocabulary.token_bytes, ids)) == text.encode()
        assert vocabulary.identities(np.array(ids)).tolist() == [
            token_id(vocabulary.token_bytes(token)) for token in ids
        ]
    assert vocabulary.token_bytes(tokenizer.eos_token_id) == b""


def test_sentencepiece_spellings_are_bytes_too() -> None:
    backend = tokenizers.Tokenizer(tokenizers.models.BPE({"▁the": 0, "<0xE6>": 1, "<unk>": 2}, [], byte_fallback=True))
    d = tokenizers.decoders
    backend.decoder = d.Sequence([d.Replace("▁", " "), d.ByteFallback(), d.Fuse()])
    vocabulary = Vocabulary(transformers.PreTrainedTokenizerFast(tokenizer_object=backend))
    assert [vocabulary.token_bytes(place) for place in (0, 1)] == [b" the", b"\xe6"]


@pytest.mark.parametrize(
    ("pieces", "stops", "thinks", "span", "answer"),
    [
        ([b"a", b"b"], [], False, (0, 2), b"ab"),
        ([b"a", b"bST", b"OP"], [b"STOP"], False, (0, 2), b"ab"),
        ([b"a", b"STOP"], [b"STOP"], False, (0, 1), b"a"),
        ([b"<think>", b"hm", b"</think>", b"4", b"2"], [], False, (3, 5), b"42"),
        ([b"hm", b"</think>4"], [], True, (1, 2), b"4"),
        ([b"hm", b"m"], [], True, (0, 0), b""),
        ([b"<think>", b"hm"], [], False, (0, 0), b""),
        ([b"say <think> and ", b"</think>"], [], False, (0, 2), b"say <think> and </think>"),
        ([], [], False, (0, 0), b""),
    ],
)
def test_the_answer_stands_behind_the_thinking_and_before_the_stop(
    pieces: list[bytes], stops: list[bytes], thinks: bool, span: tuple[int, int], answer: bytes
) -> None:
    token_range, text = find_answer(pieces, stop_strings=stops, in_thinking_block=thinks)
    assert (text, list(range(len(pieces)))[token_range]) == (answer, list(range(*span)))


def test_a_template_that_opens_the_thinking_is_noticed_and_states_are_cut_with_the_answer() -> None:
    model = local_model(template=local.TEMPLATE).with_projection(PROJECTION)
    thought = complete(model, 8, max_tokens=60, chat_template_kwargs={"opening": "<think>"})
    plain = complete(model, 8, max_tokens=60)
    assert all(len(completion.tokens) == len(completion.projections) < 60 for completion in thought.completions)
    assert all(len(sample.tokens) == len(sample.projections) > 0 for sample in plain.completions)
    assert any(not sample.text and sample.finish_reason == "length" for sample in thought.completions)
    assert thought.usage.completion_tokens > sum(len(sample.tokens) for sample in thought.completions)
    finished_completions = [sample for sample in thought.completions if sample.text]
    assert finished_completions
    for completion in thought.completions:
        assert completion.thinking is not None
        assert completion.thinking.finish_reason == ("stop" if completion.text else "length")
        spelled = "".join(completion.thinking.tokens)
        assert "\ufffd" in spelled or spelled.strip() == completion.thinking.text
        assert completion.thinking.top_logprobs.shape == (len(completion.thinking.tokens), 5)
        assert completion.thinking.tokens
        assert (completion.thinking.logprobs <= completion.thinking.top_logprobs[:, 0]).all()


def test_a_stop_string_ends_a_row_early_and_is_not_part_of_the_answer() -> None:
    model = HuggingFaceModel(local.random_model(size=258), tokenizer=local.byte_tokenizer())  # never thinks
    full_completions = complete(model, 6, max_tokens=40).completions
    mark = next(
        letter for letter in full_completions[0].text[2:] if letter.isascii()
    )  # others may be halves of a character
    cut_completions = complete(model, 6, max_tokens=40, stop=[mark]).completions
    assert [completion.text for completion in cut_completions] == [
        completion.text.split(mark)[0] for completion in full_completions
    ]
    assert cut_completions[0].finish_reason == "stop"


# Reranking


def test_best_of_scores_with_the_head_while_it_generates(tmp_path: Path) -> None:
    folder = str(local.save_model(tmp_path / "model", template=local.TEMPLATE))
    head = hidden_head(folder, calibration=PlattCalibration(a=1.0, b=0.0))
    save(head, tmp_path / "head.safetensors")
    with SwiftReranker("huggingface", folder, head=tmp_path / "head.safetensors") as reranker:
        selection = reranker.best_of("What?", n=6, seed=1, max_tokens=12)
    assert (selection.signal, selection.scorer) == ("hidden", head.name)
    assert selection.score == max(candidate.score for candidate in selection.candidates)
    assert selection.probability == pytest.approx(1 / (1 + np.exp(-selection.score)), rel=1e-5)
    assert selection.usage.calls == 1
    assert selection.usage.completion_tokens > 0
    with SwiftReranker("huggingface", folder) as plain:
        without = plain.best_of("What?", n=6, seed=1, max_tokens=12)
    assert (without.signal, without.scorer) == ("logprobs:k=20", "mean_logprob")
    assert [candidate.text for candidate in without.candidates] == [
        candidate.text for candidate in selection.candidates
    ]


def test_the_model_is_loaded_once_for_all_calls_and_loops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = local.save_model(tmp_path / "model")
    loads = []
    real = transformers.AutoModelForCausalLM.from_pretrained
    monkeypatch.setattr(
        transformers.AutoModelForCausalLM, "from_pretrained", lambda *a, **b: loads.append(a) or real(*a, **b)
    )
    reranker = AsyncSwiftReranker("huggingface", str(folder))
    assert not loads

    async def twice() -> None:
        await asyncio.gather(*(reranker.best_of("What?", n=2, max_tokens=3) for _ in range(2)))

    asyncio.run(twice())
    asyncio.run(twice())
    assert len(loads) == 1


class Slow:
    """A slow forward call that counts its calls."""

    def __init__(self, model: Any, seconds: float = 0.02) -> None:
        self.calls, self._forward, self._seconds = 0, model.forward, seconds
        model.forward = self

    def __call__(self, **inputs: Any) -> Any:
        self.calls += 1
        time.sleep(self._seconds)
        return self._forward(**inputs)

    __signature__ = inspect.signature(lambda position_ids=None, logits_to_keep=0, **options: None)


def test_a_deadline_and_a_cancelled_task_end_the_generation_at_its_next_step() -> None:
    model = local_model()
    model.load()
    slow = Slow(model._source)
    with SwiftReranker(model) as reranker, pytest.raises(SwiftClientError, match="deadline"):
        reranker.best_of("What?", n=2, max_tokens=400, deadline=0.2)
    time.sleep(0.1)
    n_calls = slow.calls
    time.sleep(0.1)
    assert slow.calls == n_calls < 100

    async def cancelled() -> None:
        task = asyncio.create_task(model.complete(ASKED, 2, max_tokens=400))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert len(complete(model, 1, max_tokens=2).completions) == 1


# The packaged model on both backends


def test_the_packaged_model_says_the_same_here_and_under_llama_cpp(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="the extra 'pocket' is not installed")
    model = HuggingFaceModel(local.pocket_folder(tmp_path))
    question = "Tom has 5 pens. He buys 4 more. How many pens does he have now?"
    with SwiftReranker(model) as local_reranker, SwiftReranker("pocket", head=None) as packaged_reranker:
        one, other = (
            reranker.best_of(question, n=1, temperature=0, max_tokens=60).best
            for reranker in (local_reranker, packaged_reranker)
        )
    assert one.text == other.text
    assert one.completion.tokens == other.completion.tokens
    np.testing.assert_allclose(one.completion.logprobs, other.completion.logprobs, atol=0.05)


# What goes wrong


class OutOfMemory:
    """A forward call that runs out of memory above a few rows."""

    def __init__(self, model: Any, rows: int) -> None:
        self._forward, self._rows = model.forward, rows
        model.forward = self

    def __call__(self, **inputs: Any) -> Any:
        if len(inputs["input_ids"]) > self._rows:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self._forward(**inputs)

    __signature__ = Slow.__signature__


def test_out_of_memory_takes_smaller_batches_and_then_one_clear_error() -> None:
    model = local_model()
    texts = [completion.text for completion in complete(model, 5).completions]
    OutOfMemory(model._source, 2)
    reply = complete(model, 5)
    assert [completion.text for completion in reply.completions] == texts
    assert reply.notes == ("Memory ran out, so completions were generated 2 at a time.",)
    assert complete(model, 5).notes == ()  # it is remembered
    OutOfMemory(model._source, 0)
    with pytest.raises(ProviderError, match=r"Out of memory with one completion.*max_tokens"):
        complete(model, 2)


def test_a_model_whose_numbers_are_nan_is_one_clear_error() -> None:
    model = local_model()
    with torch.no_grad():
        model._source.model.norm.weight[0] = torch.nan
    with pytest.raises(ProviderError, match="logits are not numbers"):
        complete(model)
    model._source.lm_head.weight.data[:, 0] = 0
    sound = local_model().with_projection(replace(PROJECTION, bias=np.array([np.nan, 0], np.float32)))
    with pytest.raises(ProviderError, match="hidden states are not numbers"):
        complete(sound)


@pytest.mark.parametrize(("layers", "width"), [((0, 4), 32), ((0, 1), 16)])
def test_a_head_for_other_layers_or_another_width_is_refused(layers: tuple[int, ...], width: int) -> None:
    projection = replace(PROJECTION, layers=layers, width=width, weight=np.zeros((2, len(layers) * width), np.float32))
    with pytest.raises(ArtifactMismatchError, match=r"the model has 4, numbered from 0, of width 32"):
        complete(local_model().with_projection(projection))


def test_a_head_on_hidden_states_is_refused_where_there_are_none(tmp_path: Path) -> None:
    save(hidden_head("m", provider="openai"), tmp_path / "head.safetensors")
    with pytest.raises(ArtifactMismatchError, match="openai does not return"):
        SwiftReranker("openai", "m", head=tmp_path / "head.safetensors")


def test_an_encoder_decoder_model_is_refused(tmp_path: Path) -> None:
    transformers.T5Config(vocab_size=50, d_model=8, d_ff=8, num_layers=1, num_heads=1).save_pretrained(tmp_path)
    with pytest.raises(ConfigurationError, match="encoder-decoder model"):
        HuggingFaceModel(tmp_path).load()


def test_a_model_that_cannot_be_found_or_downloaded_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigurationError, match="'no/such-model' is not on this machine and cannot be downloaded"):
        HuggingFaceModel("no/such-model").load()
    with pytest.raises(ConfigurationError, match=r"model in .* cannot be loaded"):
        HuggingFaceModel(tmp_path).load()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frequency_penalty": 1}, "no parameter 'frequency_penalty'"),
        ({"temperature": -1}, "temperature must be a number"),
        ({"top_p": 1.5}, "top_p must be a number"),
        ({"max_tokens": 0}, "max_tokens must be a whole number"),
        ({"stop": [""]}, "stop must be"),
        ({"hidden_states": "all"}, "hidden_states must be"),
        ({"hidden_states": True, "hidden_moment": "later"}, "hidden_moment must be"),
    ],
)
def test_a_wrong_field_is_refused_before_anything_is_loaded(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        parse_request(options)


def test_prompts_that_do_not_fit_and_contents_that_are_no_text_are_refused() -> None:
    model = local_model()
    with pytest.raises(BadRequestError, match=r"context is 512"):
        asyncio.run(model.complete([{"role": "user", "content": "x" * 600}], 1))
    with pytest.raises(ConfigurationError, match="reads only text"):
        asyncio.run(model.complete([{"role": "user", "content": [{"type": "image_url"}]}], 1))
    with pytest.raises(ConfigurationError, match="no hidden state 9"):
        complete(model, hidden_states=[9])
    with pytest.raises(ConfigurationError, match="brings its own"):
        HuggingFaceModel("name", tokenizer=local.byte_tokenizer())
