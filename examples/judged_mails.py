"""Choose among mails, which cannot vote: a cheap model judges them by criteria.

    python examples/judged_mails.py

Asks gpt-4.1-nano if OPENAI_API_KEY is set. Otherwise the judge is a rule in this file, which asks nobody.
"""

import os
import re

from swift_client import Completion, SwiftReranker, Verifier, rank

QUESTION = "Answer this customer in two sentences: 'My kettle arrived broken. What now?'"
MAILS = (
    "Hi, kettles break sometimes. Have a nice day!",
    "We are sorry that your kettle arrived broken. Please keep it: a new one leaves our warehouse today.",
    "Your complaint was registered. Send it back at your own cost, we will then examine whose fault it was.",
    "We are sorry that your kettle arrived broken. Please keep it:  a new one leaves our warehouse today.",
)
CRITERIA = {"It says what happens next.": 2, "It is friendly and does not blame the customer.": 1}
NOTES = "Broken goods are replaced at once. Customers do not send them back."


class Rule:
    """A judge for machines without a key: prefers mails that say sorry."""

    name = "rule"

    def complete(self, messages: list[dict[str, str]], n: int, **options: object) -> list[Completion]:
        """Reply with the verdict that a prompt asks for."""
        mails = re.findall(r"<(answer[-\w]*)>\n(.*?)\n</\1>", messages[0]["content"], re.DOTALL)
        is_good = ["sorry" in mail for _, mail in mails]
        verdict = ("A" if is_good[0] else "B") if len(mails) == 2 else ("Yes" if is_good[0] else "No")
        return [Completion(text=verdict)]


judge = SwiftReranker("openai", "gpt-4.1-nano") if os.environ.get("OPENAI_API_KEY") else SwiftReranker(Rule())
verifier = Verifier(judge, mode="p_true", criteria=CRITERIA, reference=NOTES)
reply = {"choices": [{"index": index, "message": {"content": mail}} for index, mail in enumerate(MAILS)]}
selection = rank(reply, prompt=QUESTION, verifier=verifier)
for candidate in selection.candidates:
    print(candidate.verifier_score, candidate.text)
print()
print(selection)  # mails 1 and 3 differ by a space: they are judged once
