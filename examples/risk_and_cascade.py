"""Ask a strong model only if the cheap model's answer is not accepted.

    python examples/risk_and_cascade.py

Uses the packaged model with 1 and then 16 completions. With hosted models, pass each model's calibrated head:

    Cascade([(SwiftReranker("openai", "gpt-4.1-nano", head="nano.safetensors"), 1), (SwiftReranker("openai"), 16)])
"""

from swift_client import Cascade, SwiftReranker

QUESTIONS = [
    "Nadia starts with 70 figs. Omar gives Nadia 25 of them. Nadia sells 12 of them. How many figs are left?",
    "There are 325 coins in the box of Fay. Fay buys another 162. Fay sells 387 of them. How many coins are left?",
]

cheap = strong = SwiftReranker("pocket")  # with the same reranker twice, the first completion is reused

with Cascade([(cheap, 1), (strong, 16)]) as cascade:
    for question in QUESTIONS:
        selection = cascade.best_of(question, temperature=0.8, seed=1)
        print(f"{question}\n  {selection.answer!r}, accepted: {selection.accepted}")
        for step in selection.path:
            print(f"  asked {step.provider} with n={step.n}: accepted {step.accepted}")
