"""The pools of any number of questions, in constant memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from swift_client.errors import ConfigurationError
from swift_client.evaluation.pools import Pool
from swift_client.evaluation.scratch.block_file import QUESTIONS_PER_SLICE, Block, BlockFile
from swift_client.evaluation.scratch.table_file import TableFile


class PoolTable:
    """Pools in the order in which they were added, and totals of them.

    Raises ConfigurationError as ``ScratchFile``.

    Attributes:
        sizes: Number of questions by number of completions.
        families: Number of questions by family.
        judged: Number of questions by the verifier that judged them.
        verifiers: Identities of the verifiers with any judgement, NaN included.
        scorers: Names of the scorers.
        completions: Number of completions, of which so many are ``incomplete``, ``unlabelled``, have no answer that
            could be read (``unread``), or no score by the head (``unscored``).
        out_of_distribution: Number of questions on which ``best_of`` would not use the head.
        reader_notes: Number of questions with a note of the answer reader, and the first note.
    """

    def __init__(self, pools: Iterable[Pool] = (), *, questions_per_slice: int = QUESTIONS_PER_SLICE) -> None:
        self._files = [BlockFile(questions_per_slice=questions_per_slice)]
        self.sizes: Counter[int] = Counter()
        self.families: Counter[str] = Counter()
        self.judged: Counter[str] = Counter()
        self.verifiers: set[str] = set()
        self.scorers: set[str] = set()
        self.completions = self.incomplete = self.unlabelled = self.unread = self.unscored = 0
        self.out_of_distribution = 0
        self.reader_notes: tuple[int, str | None] = (0, None)
        for pool in pools:
            self.add(pool)

    def __len__(self) -> int:
        return len(self._files[0])

    @property
    def max_size(self) -> int:
        """The largest number of completions of a question, 0 without questions."""
        return max(self.sizes, default=0)

    def count(self, n: int) -> int:
        """Return the number of questions with at least n completions."""
        return sum(questions for size, questions in self.sizes.items() if size >= n)

    def add(self, pool: Pool) -> None:
        """Add a question."""
        self._files[0].add(pool.columns)
        self.sizes[len(pool.labels)] += 1
        self.families[pool.family] += 1
        self.judged.update(name for name, values in pool.judgements.items() if not np.isnan(values).all())
        self.verifiers.update(pool.judgements)
        self.scorers.update(pool.scores)
        self.completions += len(pool.labels)
        self.incomplete += int((~pool.complete).sum())
        self.unlabelled += int(np.isnan(pool.labels).sum())
        self.unread += int((pool.answers < 0).sum())
        if "head" in pool.scores:
            self.unscored += int(np.isnan(pool.scores["head"]).sum())
        self.out_of_distribution += pool.out_of_distribution
        if pool.note:
            count, first = self.reader_notes
            self.reader_notes = (count + 1, first or pool.note)

    def join(self, scores: BlockFile) -> None:
        """Add scores of the same questions. Raises ConfigurationError if they are of other numbers of completions."""
        if (len(scores), scores.shape) != (len(self), self._files[0].shape):
            raise ConfigurationError(
                "The samples changed while they were read.", hint="Evaluate them when nothing writes to their files."
            )
        self._files.append(scores)

    def slices(self) -> Iterator[tuple[int, list[Block]]]:
        """Yield each slice's number of questions and its blocks, by rising number of completions."""
        for parts in zip(*(file.slices() for file in self._files), strict=True):
            yield parts[0][0], [self._merge(blocks) for blocks in zip(*(blocks for _, blocks in parts), strict=True)]

    def blocks(self, size: int) -> Iterator[Block]:
        """Yield the blocks of questions with ``size`` completions, in order."""
        for blocks in zip(*(file.blocks(size) for file in self._files), strict=True):
            yield self._merge(blocks)

    def _merge(self, blocks: Sequence[Block]) -> Block:
        missing = np.full((len(blocks[0].rows), blocks[0].size), np.nan)
        columns = {("judgements", verifier): missing for verifier in self.verifiers}
        for block in blocks:
            columns.update(block.columns)
        return replace(blocks[0], columns=columns)

    def mean_tokens(self, ns: Sequence[int]) -> dict[int, float]:
        """Return the mean tokens of n completions, by n, over the questions with so many."""
        columns = {n: TableFile(1) for n in ns}
        for count, blocks in self.slices():
            sizes, means = np.empty(count), np.empty(count)
            for block in blocks:
                sizes[block.rows], means[block.rows] = block.size, block.columns["tokens", ""].mean(axis=1)
            for n, column in columns.items():
                column.append(means[sizes >= n, None])
        return {n: n * column.mean(0) for n, column in columns.items()}
