"""The packaged GGUF under llama.cpp and the torch model are one: same token ids, same choices, same logprobs."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("xllamacpp", reason="the extra 'pocket' is not installed")
torch = pytest.importorskip("torch", reason="the extra 'train' is not installed")
pytest.importorskip("gguf", reason="the extra 'dev' is not installed")
transformers = pytest.importorskip("transformers", reason="the extra 'dev' is not installed")

from swift_client.pocket.questions import questions  # noqa: E402
from swift_client.pocket.server import PACKAGED_MODEL  # noqa: E402 - after the skips
from tools.pocket import parity  # noqa: E402
from tools.pocket.export import write_gguf, write_transformers  # noqa: E402
from tools.pocket.requantize import to_float32  # noqa: E402
from tools.pocket.unpack import read_gguf  # noqa: E402

PROMPTS = [question.prompt for question in questions(6, seed=21)]


def test_llama_cpp_and_tokenizers_split_generated_and_odd_texts_alike() -> None:
    _, tokenizer = read_gguf(PACKAGED_MODEL)
    assert parity.compare_tokens(PACKAGED_MODEL, tokenizer, 400) == (400, 0)
    odd_texts = ["12345 67", "a1b22c", "  two  spaces ", "it's 3*4=12.", "naïve café №5", "汉字12", "x\n\n y\t1", "€½²"]
    assert parity.differing_texts(PACKAGED_MODEL, tokenizer, odd_texts) == []


def test_half_precision_gives_the_same_greedy_tokens_and_logprobs_within_two_hundredths() -> None:
    model, _ = read_gguf(PACKAGED_MODEL)
    comparison = parity.compare_logprobs(PACKAGED_MODEL, model, PROMPTS, exact=True)
    assert comparison.largest_difference <= parity.HALF_BAR
    assert comparison.different_tokens == 0


def test_float32_gives_the_same_logprobs_within_a_thousandth(tmp_path: Path) -> None:
    to_float32(PACKAGED_MODEL, tmp_path / "wide.gguf")
    model, _ = read_gguf(PACKAGED_MODEL)
    comparison = parity.compare_logprobs(tmp_path / "wide.gguf", model, PROMPTS, exact=True)
    assert comparison.largest_difference <= parity.EXACT_BAR
    assert comparison.different_tokens == 0


def test_transformers_reads_the_unpacked_folder_and_agrees_with_the_training_model(tmp_path: Path) -> None:
    model, tokenizer = read_gguf(PACKAGED_MODEL)
    write_transformers(model, tokenizer, tmp_path)
    transformers_model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    splitter = transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = splitter.apply_chat_template([{"role": "user", "content": PROMPTS[0]}], tokenize=False)
    ids = torch.tensor([splitter.encode(text, add_special_tokens=False)])
    assert ids.tolist() == [tokenizer.encode(text).ids]
    with torch.no_grad():
        assert (transformers_model(ids).logits - model(ids)).abs().max() < 1e-4


def test_writing_what_was_read_gives_the_same_weights_and_vocabulary(tmp_path: Path) -> None:
    model, tokenizer = read_gguf(PACKAGED_MODEL)
    write_gguf(model, tokenizer, tmp_path / "again.gguf")
    model_again, words = read_gguf(tmp_path / "again.gguf")
    assert tokenizer.get_vocab() == words.get_vocab()
    weights, weights_again = model.state_dict(), model_again.state_dict()
    assert all(torch.equal(weights[name], weights_again[name]) for name in weights)
    assert sum(weight.numel() for weight in weights.values()) <= 3_000_000
