r"""The normal form of an answer: one text for the many ways in which models write the same answer.

The content of ``$\boxed{...}$``, ``**18** dollars.``, ``x = 18`` and ``18.00`` all become ``18``. Percent signs and
units are dropped, not converted: ``50%`` is ``50``, since the question determines the unit and models often leave it
out; reading ``50%`` as both 50 and 0.5 would make 50 equal 0.5. Texts longer than 300 characters are prose: only case
and white space are normalized. The steps follow the graders of MATH and GSM8K (hendrycks/math,
openai/grade-school-math).
"""

from __future__ import annotations

from swift_client.answers.values import normalize
from swift_client.answers.values.markup import MAX_VALUE_LENGTH, has_words

__all__ = ["MAX_VALUE_LENGTH", "has_words", "normalize"]
