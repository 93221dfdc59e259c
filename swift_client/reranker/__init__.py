"""The reranker: provider + scorer + selection, nothing else."""

from swift_client.reranker.cascade import AsyncCascade, Cascade
from swift_client.reranker.client import AsyncSwiftReranker, SwiftReranker
from swift_client.reranker.rank_replies import parse_response, rank

__all__ = ["AsyncCascade", "AsyncSwiftReranker", "Cascade", "SwiftReranker", "parse_response", "rank"]
