"""Import of own logs: the plain form, the logs of other tools, hostile files, and what scoring does with them.

The shapes of other tools are those of their public sources: lm_eval/loggers, evals/record.py, the field reference of
Langfuse's exports, LangSmith's schema Run, and vllm/outputs.py.
"""

from __future__ import annotations

import gzip
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swift_client.collect.import_replies import import_replies
from swift_client.collect.import_samples import import_samples
from swift_client.collect.logs import records as records_module
from swift_client.collect.logs.mappers import LOG_KINDS
from swift_client.dataset.stored import StoredGroups
from swift_client.errors import ConfigurationError
from swift_client.evaluation.evaluate import evaluate
from swift_client.evaluation.simulation.simulate import simulate
from swift_client.store import Sample, SampleStore, StoredQuestion
from swift_client.store.packing import pack, unpack_mean
from swift_client.types import Completion
from tests.children import ROOT, command
from tests.servers import chat_body

REAL = ROOT.parent / "shared" / "datasets" / "real"
ASK = {"role": "user", "content": "What is 2 + 2?"}


def write(path: Path, *values: object) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


def stored(path: Path) -> dict[str, tuple[StoredQuestion, list[Sample]]]:
    with SampleStore(path) as store:
        return {question.id: (question, samples) for question, samples in store.questions_with_samples()}


def import_values(folder: Path, *values: object, **options: Any) -> tuple[Any, dict[str, Any]]:
    result = import_samples(write(folder / "in.jsonl", *values), folder / "out.db", **options)
    return result, stored(folder / "out.db")


def test_the_plain_form_is_stored_with_labels_logprobs_and_integer_ids(tmp_path: Path) -> None:
    first = {
        "text": "It is 4",
        "tokens": ["It", " is", " 4", "<|im_end|>"],
        "logprobs": [-0.5, -0.25, -0.125, -0.1],
        "top_logprobs": [{"It": -0.5, "So": -1.5}, [[" is", -0.25]], [{"token": " 4", "logprob": -0.125}], []],
        "label": True,
    }
    result, questions = import_values(
        tmp_path,
        {"id": 7, "prompt": "What is 2 + 2?", "answer": 4, "completions": [first, {"text": "5", "label": 0}]},
        {"id": 8, "messages": [ASK], "answers": ["4", "four"], "family": "sums", "completions": [{"text": "4"}]},
        {"id": 7, "prompt": "What is 2 + 2?", "answer": 4, "completions": [{"text": "cut", "finish_reason": "length"}]},
    )
    assert (result.questions, result.samples, result.complete, result.requests) == (2, 4, True, 0)
    question, samples = questions["7"]
    assert (question.answer, question.messages) == ("4", (ASK,))
    assert [sample.label for sample in samples] == [1, 0, None]
    assert samples[0].completion.tokens == ("It", " is", " 4")  # the end-of-turn token is not the answer's
    np.testing.assert_allclose(samples[0].completion.logprobs, [-0.5, -0.25, -0.125])
    assert samples[0].completion.top_logprobs[0].tolist() == [-0.5, -1.5]
    assert samples[0].completion.top_ids is not None
    assert samples[2].completion.finish_reason == "length"
    assert (questions["8"][0].answer, questions["8"][0].family) == (("4", "four"), "sums")


def test_labels_of_a_log_are_the_labels_of_training_and_evaluation(tmp_path: Path) -> None:
    import_values(
        tmp_path, {"id": 1, "prompt": "?", "answer": "4", "completions": [{"text": "4", "label": 0}, {"text": "4"}]}
    )
    (group,) = StoredGroups([tmp_path / "out.db"])
    assert group.labels.tolist() == [0, 1]  # the stored label comes first, and the grader fills the gap


def test_logprobs_without_texts_of_tokens_are_kept(tmp_path: Path) -> None:
    result, questions = import_values(
        tmp_path,
        {
            "id": "q",
            "prompt": "?",
            "completions": [
                {"text": "a", "tokens": [8468, 220], "logprobs": [-1.0, -2.0], "top_logprobs": [[-1.0, -3.0], [-2.0]]},
                {"text": "b", "logprobs": [-0.5, None]},
            ],
        },
    )
    ids, bare = (sample.completion for sample in questions["q"][1])
    assert (ids.tokens, ids.logprobs.tolist(), ids.top_ids) == (("", ""), [-1.0, -2.0], None)
    assert ids.top_logprobs.tolist() == [[-1.0, -3.0], [-2.0, -math.inf]]
    assert (len(bare.tokens), bare.censored.tolist()) == (2, [False, True])
    assert any("token ids in place of texts" in note for note in result.notes)


def test_a_mean_without_tokens_is_kept_and_scored_and_no_token_is_invented(tmp_path: Path) -> None:
    lines = [
        {
            "id": number,
            "prompt": f"{number}?",
            "completions": [
                {"text": f"the answer is {label}", "mean_logprob": -1.0 + label * 0.5, "n_tokens": 30, "label": label}
                for label in (0, 0, 1)
            ],
        }
        for number in range(12)
    ]
    result, questions = import_values(tmp_path, *lines)
    assert result.usage.completion_tokens == 12 * 3 * 30
    samples = questions["3"][1]
    assert [sample.mean_logprob for sample in samples] == [-1.0, -1.0, -0.5]
    assert all(sample.completion.tokens == () for sample in samples)
    table = evaluate(None, tmp_path / "out.db", split="all", ns=(3,), subsets=5, answer="number", trained=False)
    # The right answer always has the highest mean, and is in the minority.
    assert table.row("mean_logprob").accuracy[3].value == 1
    assert table.row("majority").accuracy[3].value == 0
    simulated = simulate(tmp_path / "out.db", n=3, waves=(1,), orders=4)
    assert any("shares of completions" in note for note in simulated.notes)
    assert all(0 < row.token_share.value <= 1 for row in simulated.rows)


def test_a_mean_survives_packing_and_a_hostile_one_is_refused() -> None:
    assert unpack_mean(pack(Completion(text="a"), -0.25)) == -0.25
    assert unpack_mean(pack(Completion(text="a"))) is None
    for mean in (0.5, math.nan, -math.inf):
        with pytest.raises(ValueError, match="invalid mean logprob"):
            unpack_mean(pack(Completion(text="a"), mean))


def test_thinking_in_a_logged_text_is_not_its_answer(tmp_path: Path) -> None:
    _, questions = import_values(
        tmp_path, {"id": "q", "prompt": "?", "completions": [{"text": "<think>2 and 2</think>\nIt is 4"}]}
    )
    completion = questions["q"][1][0].completion
    assert completion.text == "It is 4"
    assert completion.thinking is not None
    assert completion.thinking.text == "2 and 2"


def test_what_is_dropped_is_counted_and_named_with_its_line(tmp_path: Path) -> None:
    good = {"id": "q", "prompt": "?", "answer": "4", "completions": [{"text": "4", "epoch": 1}]}
    path = write(tmp_path / "in.jsonl", good)
    with path.open("a") as file:
        file.write("not json\n[1]\n")
        for value in (
            {"id": "r", "completions": [{"no text": 1}, 5, {"text": "x", "label": "yes", "mean_logprob": 3}]},
            {"id": None, "prompt": "?", "completions": []},
            {"id": "q", "prompt": "another", "completions": [{"text": "4"}]},
            {"id": "s", "prompt": "?", "answer": {"a": 1}, "completions": [{"text": "4", "logprobs": [1, 2]}]},
            {"prompt": "?"},
            {"id": "t", "prompt": "?", "completions": [{"text": "4", "tokens": ["4"], "logprobs": [-1, -2]}]},
            {"id": "u", "prompt": "?", "completions": [{"text": "4", "logprobs": [-1], "top_logprobs": [[], []]}]},
        ):
            file.write(json.dumps(value) + "\n")
    result = import_samples(path, tmp_path / "out.db")
    notes = "\n".join(result.notes)
    for expected in (
        "1 line: not JSON in UTF-8; left out (line 2).",
        "1 line: not a JSON object; left out (line 3).",
    ):
        assert expected in notes
    assert result.samples == 5
    assert "more problems of" in notes  # kinds beyond the limit are counted together
    assert "Unknown keys are ignored: " in notes
    assert "'epoch' (1)" in notes


@pytest.mark.parametrize(
    ("value", "note"),
    [
        ({"id": "r", "prompt": "?", "completions": [{"no text": 1}]}, '1 completion: no "text"; left out (line 2).'),
        ({"id": "r", "prompt": "?", "completions": [5]}, "1 completion: not a JSON object; left out (line 2)."),
        ({"id": "r", "prompt": "?", "completions": []}, "1 question: no completions; left out (line 2)."),
        ({"id": None, "prompt": "?", "completions": []}, '1 line: no "id"; left out (line 2).'),
        ({"id": "x" * 2000, "prompt": "?", "completions": []}, 'the "id" is longer than 1,000 characters'),
        ({"id": "r", "prompt": "", "completions": []}, "1 line: The prompt is empty; left out (line 2)."),
        ({"prompt": "?"}, '1 line: no list "completions"; left out (line 2).'),
        (
            {"id": "q", "prompt": "another", "completions": [{"text": "4"}]},
            "1 line: its id is that of an earlier line with another prompt; left out (line 2).",
        ),
        (
            {"id": "r", "completions": [{"text": "4", "label": "yes"}]},
            "1 label: neither 0, 1, true nor false; dropped (line 2).",
        ),
        ({"id": "r", "completions": [{"text": "4"}]}, "1 question: no prompt; stored without one (line 2)."),
        (
            {"id": "r", "prompt": "?", "completions": [{"text": "4", "mean_logprob": 3}]},
            '1 completion: "mean_logprob" is not a logprob; dropped (line 2).',
        ),
        (
            {"id": "r", "prompt": "?", "answer": {"a": 1}, "completions": [{"text": "4"}]},
            "1 answer: not text, a number or a list of these; dropped (line 2).",
        ),
        (
            {"id": "r", "prompt": "?", "completions": [{"parsed": "4"}]},
            '1 completion: no "text"; the answer in "parsed" is stored as the text (line 2).',
        ),
        (
            {"id": "r", "prompt": "?", "completions": [{"text": "4", "tokens": ["4"], "logprobs": [-1, -2]}]},
            '1 completion: "tokens" and "logprobs" differ in length; stored without logprobs (line 2).',
        ),
        (
            {"id": "r", "prompt": "?", "completions": [{"text": "4", "logprobs": [1.5]}]},
            "its numbers lie above zero: raw logits, not logprobs; stored without logprobs (line 2).",
        ),
        (
            {"id": "r", "prompt": "?", "completions": [{"text": "4", "logprobs": [-1], "top_logprobs": [[], []]}]},
            '1 completion: "top_logprobs" is not one list per token; dropped (line 2).',
        ),
        (
            {"id": "r", "prompt": "?", "completions": [{"text": "4", "tokens": ["4"]}]},
            "1 completion: no list of logprobs; stored without tokens (line 2).",
        ),
    ],
)
def test_each_kind_of_problem_is_one_sentence_with_its_line(tmp_path: Path, value: Any, note: str) -> None:
    good = {"id": "q", "prompt": "?", "answer": "4", "completions": [{"text": "4"}]}
    result, _ = import_values(tmp_path, good, value)
    assert any(note in line for line in result.notes), result.notes


def test_completions_of_several_models_are_named_and_one_model_can_be_chosen(tmp_path: Path) -> None:
    line = {
        "id": 1,
        "prompt": "?",
        "answer": "4",
        "completions": [
            {"text": "4", "model": "small"},
            {"text": "5", "model": "large"},
            {"text": "6", "model": "large"},
        ],
    }
    result, questions = import_values(tmp_path, line)
    assert len(questions["1"][1]) == 3
    assert any("of 2 models, which are stored as one: large (2), small (1)" in note for note in result.notes)
    chosen = import_samples(tmp_path / "in.jsonl", tmp_path / "large.db", model="large")
    assert chosen.samples == 2
    assert "1 completion: of another model than 'large'; left out (line 1)." in chosen.notes
    with SampleStore(tmp_path / "large.db") as store:
        assert store.meta is not None
        assert (store.meta.provider, store.meta.model) == ("openai", "large")
    with pytest.raises(ConfigurationError, match="no completion of 'other'"):
        import_samples(tmp_path / "in.jsonl", tmp_path / "other.db", model="other")
    assert not (tmp_path / "other.db").exists()


# --- logs of other tools -------------------------------------------------------------------------------------------


def lm_eval_line(number: int, responses: list[Any], *, name: str = "strict-match", **facts: Any) -> dict[str, Any]:
    return {
        "doc_id": number,
        "doc": {"question": f"{number}?", "answer": "... #### 4"},
        "target": "... #### 4",
        "arguments": {"gen_args_0": {"arg_0": f"Question: {number}?\nAnswer:", "arg_1": {"until": ["\n"]}}},
        "resps": responses,
        "filtered_resps": ["4"],
        "filter": name,
        "metrics": ["exact_match"],
        "doc_hash": "d",
        "prompt_hash": "p",
        "target_hash": "t",
        **facts,
    }


def test_sample_dumps_of_lm_eval_are_read(tmp_path: Path) -> None:
    messages = json.dumps([{"role": "user", "content": "2?"}])
    result, questions = import_values(
        tmp_path,
        lm_eval_line(0, [["It is 4. #### 4"]], exact_match=1.0),
        lm_eval_line(0, [["It is 4. #### 4"]], name="flexible-extract", exact_match=0.0),
        lm_eval_line(1, [["a", "b", "c"]], exact_match=1.0, arguments=[["Question: 1?", {"until": []}]]),
        lm_eval_line(2, [["four"]], exact_match=0, arguments={"gen_args_0": {"arg_0": [messages], "arg_1": {}}}),
        lm_eval_line(3, [[["-1.5", "False"]], [["-0.5", "True"]]], arguments=[["Q", " yes"], ["Q", " no"]]),
    )
    assert {key: [sample.label for sample in samples] for key, (_, samples) in questions.items()} == {
        "0": [1],
        "1": [None, None, None],
        "2": [0],
    }
    assert questions["0"][0].messages[0]["content"] == "Question: 0?\nAnswer:"
    assert questions["2"][0].messages == ({"role": "user", "content": "2?"},)
    assert questions["0"][0].answer == "... #### 4"
    notes = "\n".join(result.notes)
    assert "1 line: the same responses under another filter of lm-eval; left out (line 2)." in notes
    assert "1 label: lm-eval has one for all responses of a document; dropped (line 3)." in notes
    assert "so nothing was sampled; left out (line 5)." in notes


def event(number: int, sample: str, kind: str, **data: Any) -> dict[str, Any]:
    return {
        "run_id": "2311-r",
        "event_id": number,
        "sample_id": sample,
        "type": kind,
        "data": data,
        "created_by": "",
        "created_at": "2023-11-01 00:00:00+00:00",
    }


def test_logs_of_openai_evals_are_read(tmp_path: Path) -> None:
    grader = [{"role": "user", "content": "Is this right: 4?"}]
    result, questions = import_values(
        tmp_path,
        {"spec": {"completion_fns": ["gpt-3.5-turbo"], "eval_name": "sums.dev.v0", "run_id": "2311-r"}},
        event(0, "sums.dev.0", "sampling", prompt=[ASK], sampled=["4"], model="gpt-3.5-turbo-0613"),
        event(1, "sums.dev.0", "match", correct=True, expected="4", picked="4", sampled="4"),
        event(2, "sums.dev.1", "sampling", prompt="2 + 3?", sampled="6"),
        event(3, "sums.dev.1", "sampling", prompt=grader, sampled="no"),
        event(4, "sums.dev.1", "metrics", choice="N", score=0.0),
        event(5, "sums.dev.2", "match", correct=False, expected=["7", "seven"], picked=None),
        {"final_report": {"accuracy": 0.5}},
    )
    assert {key: [sample.label for sample in samples] for key, (_, samples) in questions.items()} == {
        "sums.dev.0": [1],
        "sums.dev.1": [0],
    }
    assert questions["sums.dev.0"][0].answer == "4"
    notes = "\n".join(result.notes)
    assert "1 sampling event: another prompt than the sample's first, such as a grader's; left out (line 5)." in notes
    assert "1 sample: without a sampling event; left out (line 7)." in notes


LOGPROBS = {
    "content": [{"token": "4", "logprob": -0.25, "top_logprobs": [{"token": "4", "logprob": -0.25, "bytes": [52]}]}]
}


def test_exports_of_langfuse_are_read_and_calls_of_one_prompt_are_one_question(tmp_path: Path) -> None:
    def observation(identity: str, **facts: Any) -> dict[str, Any]:
        return {"id": identity, "traceId": "t", "type": "GENERATION", "name": "answer", "model": "gpt-4o", **facts}

    reply = {"choices": [{"index": 0, "message": {"content": "4"}, "logprobs": LOGPROBS, "finish_reason": "stop"}]}
    values = [
        observation("o1", input={"messages": [ASK]}, output={"role": "assistant", "content": "4"}),
        observation("o2", input=[ASK], output="5", scores=[{"name": "correctness", "value": 0, "dataType": "BOOLEAN"}]),
        observation("o3", input=json.dumps([ASK]), output=json.dumps(reply)),  # blob storage writes JSON as text
        {"id": "o4", "trace_id": "t", "type": "SPAN", "input": "x", "output": "y"},
        {
            "id": "t2",
            "projectId": "p",
            "input": "another?",
            "output": "yes",
            "scores": {"correct": [1], "helpfulness": [0.4]},
        },
        {
            "trace": {"id": "t3", "input": None, "output": None},
            "observations": [{**observation("o5", input="third?", output="no"), "traceId": "t3"}],
            "scores": [{"name": "accuracy", "value": 1}],
        },
    ]
    result, questions = import_values(tmp_path, *values)
    assert {key: [sample.label for sample in samples] for key, (_, samples) in questions.items()} == {
        "o1": [None, 0, None],
        "t2": [1],
        "o5": [1],
    }
    assert questions["o1"][1][2].completion.logprobs.tolist() == [-0.25]
    notes = "\n".join(result.notes)
    assert "1 observation: of another type than GENERATION; left out (line 4)." in notes
    assert "has scores that are not named as labels; these scores are dropped (line 5)." in notes
    # The user interface writes one JSON array, and the API pages.
    for name, document in {
        "array": json.dumps(values, indent=1),
        "page": json.dumps({"data": values, "meta": {}}),
    }.items():
        (tmp_path / f"{name}.json").write_text(document)
        assert import_samples(tmp_path / f"{name}.json", tmp_path / f"{name}.db").samples == result.samples


def test_exports_of_langsmith_are_read(tmp_path: Path) -> None:
    human = {"lc": 1, "type": "constructor", "id": ["langchain", "schema", "messages", "HumanMessage"]}
    answer = {"lc": 1, "type": "constructor", "id": ["langchain", "schema", "messages", "AIMessage"]}
    langchain = {
        "id": "r1",
        "name": "ChatOpenAI",
        "run_type": "llm",
        "inputs": {"messages": [[{**human, "kwargs": {"content": "What is 2 + 2?", "type": "human"}}]]},
        "outputs": {
            "generations": [
                [
                    {
                        "text": "4",
                        "generation_info": {"finish_reason": "stop", "logprobs": LOGPROBS},
                        "message": {**answer, "kwargs": {"content": "4"}},
                    }
                ]
            ]
        },
        "extra": {"metadata": {"ls_model_name": "gpt-4o"}},
        "feedback_stats": {"correctness": {"n": 1, "avg": 1.0}, "tone": {"n": 1, "avg": 0.3}},
    }
    wrapped = {
        "id": "r2",
        "run_type": "llm",
        "inputs": {"messages": [ASK], "model": "gpt-4o"},
        "outputs": {"choices": [{"message": {"role": "assistant", "content": "5"}, "finish_reason": "length"}]},
        "extra": {"invocation_params": {"model": "gpt-4o"}},
    }
    chain = {"id": "r3", "run_type": "chain", "inputs": {}, "outputs": {"output": "4"}}
    result, questions = import_values(tmp_path, langchain, wrapped, chain, {**wrapped, "id": "r4", "outputs": None})
    ((question, samples),) = questions.values()
    assert question.messages == (ASK,)
    assert [(sample.completion.text, sample.label) for sample in samples] == [("4", 1), ("5", None)]
    assert samples[0].completion.logprobs.tolist() == [-0.25]
    assert samples[1].completion.finish_reason == "length"
    assert '1 run: of another type than "llm"; left out (line 3).' in result.notes
    assert "1 run: no outputs; left out (line 4)." in result.notes
    with SampleStore(tmp_path / "out.db") as store:
        assert store.meta is not None
        assert store.meta.model == "gpt-4o"


def test_request_outputs_of_vllm_are_read_from_a_file_and_as_objects(tmp_path: Path) -> None:
    def listed(text: str, logprob: float, rank: int) -> dict[str, Any]:
        return {"logprob": logprob, "rank": rank, "decoded_token": text}

    value = {
        "request_id": "0",
        "prompt": "2 + 2 =",
        "prompt_token_ids": [1, 2],
        "outputs": [
            {
                "index": 0,
                "text": " 4",
                "token_ids": [604, 2],
                "cumulative_logprob": -0.75,
                "logprobs": [{604: listed(" 4", -0.5, 1), 605: listed(" 5", -1.5, 2)}, {2: listed("</s>", -0.25, 1)}],
                "finish_reason": "stop",
            },
            {"index": 1, "text": " 5", "token_ids": [605, 2], "cumulative_logprob": -3.0, "finish_reason": "length"},
        ],
        "finished": True,
    }
    result, questions = import_values(tmp_path, value)
    first, second = questions["0"][1]
    assert (first.completion.tokens, first.completion.logprobs.tolist()) == ((" 4",), [-0.5])
    assert first.completion.top_logprobs.tolist() == [[-0.5, -1.5]]
    assert (second.mean_logprob, second.completion.finish_reason) == (-1.5, "length")
    again = import_samples([value, {**value, "request_id": "1"}], tmp_path / "objects.db", provider="vllm", model="m")
    assert (again.questions, again.samples) == (1, 4)  # of one prompt
    assert result.usage.completion_tokens == 1 + 2


def test_every_kind_of_log_is_listed_once_and_documented() -> None:
    names = [kind.name for kind in LOG_KINDS]
    assert len(set(names)) == len(names)
    page = (ROOT / "docs" / "guides" / "own-logs.md").read_text()
    assert all(f"`{name}`" in page for name in names)


def test_the_example_of_the_guide_is_imported_as_it_stands(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "guides" / "own-logs.md").read_text()
    (tmp_path / "in.jsonl").write_text(page.split("```json\n")[1].split("```")[0])
    result = import_samples(tmp_path / "in.jsonl", tmp_path / "out.db")
    assert (result.questions, result.samples) == (3, 4)
    assert not any("left out" in note for note in result.notes)


# --- hostile files -------------------------------------------------------------------------------------------------


def test_gzipped_files_are_read_and_damaged_ones_are_one_error(tmp_path: Path) -> None:
    line = json.dumps({"id": 1, "prompt": "?", "completions": [{"text": "4"}]}) + "\n"
    data = gzip.compress(line.encode() * 50)
    (tmp_path / "in.jsonl.gz").write_bytes(data)
    assert import_samples(tmp_path / "in.jsonl.gz", tmp_path / "a.db").samples == 50
    for name, broken in {"short": data[:-20], "flipped": data[:30] + b"\xff\xff" + data[32:]}.items():
        (tmp_path / "bad.gz").write_bytes(broken)
        with pytest.raises(ConfigurationError, match="damaged"):
            import_samples(tmp_path / "bad.gz", tmp_path / f"{name}.db")
        assert not (tmp_path / f"{name}.db").exists()
    for path, reason in ((tmp_path / "none", "cannot be read"), (tmp_path, "cannot be read")):
        with pytest.raises(ConfigurationError, match=reason):
            import_samples(path, tmp_path / "b.db")


def test_sizes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records_module, "MAX_LINE_BYTES", 1000)
    monkeypatch.setattr(records_module, "MAX_ARRAY_BYTES", 3000)
    monkeypatch.setattr(records_module, "MAX_FILE_BYTES", 20_000)
    good = {"id": 1, "prompt": "?", "completions": [{"text": "4"}]}
    result, _ = import_values(tmp_path, {"id": 2, "prompt": "x" * 5000, "completions": []}, good)
    assert result.samples == 1
    assert any(note.startswith("1 line: longer than") for note in result.notes)
    bomb = tmp_path / "bomb.gz"
    bomb.write_bytes(gzip.compress(json.dumps(good).encode() + b"\n" + b"x" * 10_000_000))
    with pytest.raises(ConfigurationError, match="larger than"):
        import_samples(bomb, tmp_path / "bomb.db")
    array = tmp_path / "array.json"
    array.write_text(json.dumps([good] * 100))
    with pytest.raises(ConfigurationError, match="one JSON value of more than"):
        import_samples(array, tmp_path / "array.db")


def test_hostile_values_cost_no_more_than_their_line(tmp_path: Path) -> None:
    deep: Any = "x"
    for _ in range(500):
        deep = [deep]
    completion = {"text": "4", "tokens": ["4"], "logprobs": [-1.0]}
    hostile = [
        {"id": deep, "prompt": "?", "completions": [completion]},
        {"id": "a", "messages": [{"role": "user", "content": deep}], "completions": [completion]},
        {"id": "b", "prompt": "?", "completions": [{**completion, "logprobs": [10**400]}]},
        {"id": "c", "prompt": "?", "completions": [{**completion, "top_logprobs": [{"4": "x"}]}]},
        {"id": "d", "prompt": "?", "completions": [{**completion, "label": [1], "mean_logprob": {}, "model": 4}]},
        {"id": "e\ud800", "prompt": "\udfff?", "completions": [{"text": "\ud800", "n_tokens": 10**30}]},
        {"id": "f", "prompt": "?", "answer": [[1]], "family": [], "completions": [{**completion, "finish_reason": 4}]},
        {"id": "g", "prompt": "?", "completions": [{"text": "\x1b[2J\x00", "logprobs": {"content": []}}]},
        {"id": True, "prompt": "?", "completions": [completion]},
        {"id": float("nan"), "prompt": "?", "completions": [completion]},
        {"id": "h", "prompt": "?", "completions": [{**completion, "logprobs": [float("-inf")]}]},
        {"id": 10**5000, "prompt": "?", "completions": [completion]},
    ]
    path = tmp_path / "in.jsonl"
    with path.open("w") as file:
        for value in hostile[:-1]:
            file.write(json.dumps(value) + "\n")
        file.write('{"id": 1' + "0" * 5000 + ', "completions": []}\n' + "[" * 100_000 + "\n" + '{"a":' * 100_000 + "\n")
    result = import_samples(path, tmp_path / "out.db")
    questions = stored(tmp_path / "out.db")
    assert {"b", "c", "d", "f", "g", "h", "true"} <= questions.keys()
    assert result.samples == 8
    assert all(len(note) < 400 for note in result.notes)


@pytest.mark.parametrize("kind", [kind.name for kind in LOG_KINDS if kind.name != "plain"])
def test_mutated_logs_of_other_tools_never_crash(tmp_path: Path, kind: str) -> None:
    """Replace random parts of real shapes with values of other types."""
    shapes: dict[str, list[Any]] = {
        "lm-eval": [lm_eval_line(0, [["4"]], exact_match=1.0)],
        "openai-evals": [
            {"spec": {"completion_fns": ["m"]}},
            event(0, "s", "sampling", prompt=[ASK], sampled=["4"]),
            event(1, "s", "match", correct=True, expected="4"),
            event(2, "s", "metrics", score=1),
        ],
        "langsmith": [
            {
                "id": "r",
                "run_type": "llm",
                "inputs": {"messages": [[{"type": "human", "data": {"content": "?"}}]]},
                "outputs": {"generations": [[{"text": "4", "generation_info": {"logprobs": LOGPROBS}, "message": {}}]]},
                "feedback_stats": {"correct": {"avg": 1}},
                "extra": {"metadata": {}},
            }
        ],
        "vllm": [
            {
                "request_id": "0",
                "prompt": "?",
                "outputs": [
                    {
                        "text": "4",
                        "token_ids": [4],
                        "cumulative_logprob": -1,
                        "logprobs": [{"4": {"logprob": -1, "decoded_token": "4"}}],
                    }
                ],
            }
        ],
        "langfuse": [
            {
                "id": "o",
                "traceId": "t",
                "type": "GENERATION",
                "input": {"messages": [ASK]},
                "output": {"choices": [{"message": {"content": "4"}, "logprobs": LOGPROBS}]},
                "scores": [{"name": "correct", "value": 1, "stringValue": "True"}],
                "observations": [{"type": "GENERATION", "input": "?", "output": "4"}],
            }
        ],
    }
    rng = random.Random(7)
    junk = [None, True, -1, 10**20, 1.5, "", "x", [], {}, [None], {"a": []}, [[1]], "[1", '{"messages": 4}']

    def mutate(value: Any) -> Any:
        if rng.random() < 0.15:
            return rng.choice(junk)
        if isinstance(value, dict):
            return {key: mutate(item) for key, item in value.items() if rng.random() > 0.03}
        return [mutate(item) for item in value] if isinstance(value, list) else value

    values = [mutate(value) for _ in range(300) for value in shapes[kind]]
    lines = [*shapes[kind], *(value for value in values if isinstance(value, dict))]
    result = import_samples(lines, tmp_path / "out.db")
    assert result.samples >= 1


def test_a_file_of_another_form_names_the_forms(tmp_path: Path) -> None:
    for values, message in (
        ([chat_body(["4"])], "Line 1 is not of a known form"),
        ([], "The file is empty"),
        ([{"id": 1, "prompt": "?", "completions": [{}]}], 'no completion. 1 completion: no "text"'),
    ):
        with pytest.raises(ConfigurationError, match=message) as caught:
            import_samples(write(tmp_path / "in.jsonl", *values), tmp_path / "out.db")
        assert caught.value.hint
        assert [file.name for file in tmp_path.iterdir()] == ["in.jsonl"]


# --- the command, and labels of replies ------------------------------------------------------------------------------


def test_the_command_imports_logs_and_refuses_options_that_it_would_ignore(tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", {"id": 1, "prompt": "?", "completions": [{"text": "4", "label": 1, "odd": 2}]})
    line = ("collect", "--samples", "in.jsonl", "--out", "out.db", "--model", "m", "--json")
    result = command(*line, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert (document["samples"], document["questions"]) == (1, 1)
    assert "Unknown keys are ignored: 'odd' (1)." in document["notes"]
    graded = json.loads(command("grade", "out.db", "--json", cwd=tmp_path).stdout)
    assert (graded["right"], graded["wrong"]) == (1, 0)
    refused = command(*line[:3], "--out", "b.db", "--temperature", "1", "--questions", "q.jsonl", cwd=tmp_path)
    assert refused.returncode == 3
    assert "--samples cannot be combined with --questions and --temperature" in " ".join(
        refused.stderr.decode().split()
    )


def test_labels_of_replies_are_stored_and_wrong_ones_are_named(tmp_path: Path) -> None:
    questions = [StoredQuestion(id=str(number), messages=(ASK,)) for number in range(3)]
    path = write(
        tmp_path / "r.jsonl",
        {"id": 0, "reply": chat_body(["4"]), "label": 1},
        {"id": "1", "reply": chat_body(["4", "5"]), "label": [True, 0]},
        {"id": 2, "reply": chat_body(["4", "5"]), "label": 1},
        {"id": 2, "reply": chat_body(["4"]), "label": "right"},
    )
    result = import_replies(questions, path, tmp_path / "out.db")
    labels = {key: [sample.label for sample in samples] for key, (_, samples) in stored(tmp_path / "out.db").items()}
    assert labels == {"0": [1], "1": [1, 0], "2": [None, None, None]}
    assert '1 line: "label" is not one per completion; dropped (line 3).' in result.notes
    assert "1 label: neither 0, 1, true nor false; dropped (line 4)." in result.notes


@pytest.mark.skipif(not REAL.is_dir(), reason="the recorded sets are not part of the project")
@pytest.mark.parametrize("name", ["gsm8k_qwen0.5b", "gsm8k_qwen1.5b_prm", "aime_gpt41nano", "gsm8k_trohit"])
def test_recorded_sets_are_imported_completely(tmp_path: Path, name: str) -> None:
    path = REAL / f"{name}.jsonl.gz"
    with gzip.open(path, "rt") as file:
        lines = [json.loads(line) for line in file]
    result = import_samples(path, tmp_path / "out.db")
    questions = stored(tmp_path / "out.db")
    for line in lines:
        _, samples = questions[line["id"]]
        assert [sample.completion.text for sample in samples] == [
            item.get("text", item.get("parsed")) for item in line["completions"]
        ]
        assert [sample.label for sample in samples] == [item.get("label") for item in line["completions"]]
        assert [sample.mean_logprob for sample in samples] == [item.get("mean_logprob") for item in line["completions"]]
    assert result.samples == sum(len(line["completions"]) for line in lines)
