"""Choose among tool calls, and among runs of an agent. No request is sent.

python examples/tool_calls.py
"""

import json

from swift_client import rank

# Four replies to one question: two equal calls that differ only in an id, another tool, and words.
calls = [
    ("get_weather", {"city": "Paris", "request_id": "a1"}),
    ("search", {"query": "Paris"}),
    ("get_weather", {"request_id": "b2", "city": "Paris"}),
]
messages = [
    {"content": None, "tool_calls": [{"id": "c", "function": {"name": name, "arguments": json.dumps(arguments)}}]}
    for name, arguments in calls
]
messages.append({"content": "Which day do you mean?"})
choices = [{"index": index, "message": message} for index, message in enumerate(messages)]

selection = rank({"choices": choices}, answer="tool_call:ignore=request_id")
for candidate in selection.candidates:
    print(f"{candidate.completion.index}: {candidate.answer}")
print("chosen:", selection.winner, selection.candidates[selection.winner].completion.tool_calls)

# Three runs of an agent, whose last messages have the answers.
runs = [
    [
        {"role": "user", "content": "How warm is it in Paris?"},
        {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "get_weather", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": f"{degrees} °C"},
        {"role": "assistant", "content": f"The answer is {degrees}."},
    ]
    for degrees in (17, 18, 18)
]
selection = rank(runs)
print("run", selection.winner, "says", selection.answer)
print(selection.text)
