"""Features of tokens and completions; each is a function and a row of a table."""

from swift_client.features.registry import (
    DEFAULT_FEATURES,
    DEFAULT_RESPONSE_TERMS,
    FEATURES,
    RESPONSE_TERMS,
    THINKING_TERMS,
    WIDTH,
    Feature,
    ResponseTerms,
    TokenFeatures,
    agreement_column,
    column_names,
    response_columns,
    response_terms,
    token_columns,
    token_features,
)
from swift_client.features.token_table import TokenTable, listed_ranks

__all__ = [
    "DEFAULT_FEATURES",
    "DEFAULT_RESPONSE_TERMS",
    "FEATURES",
    "RESPONSE_TERMS",
    "THINKING_TERMS",
    "WIDTH",
    "Feature",
    "ResponseTerms",
    "TokenFeatures",
    "TokenTable",
    "agreement_column",
    "column_names",
    "listed_ranks",
    "response_columns",
    "response_terms",
    "token_columns",
    "token_features",
]
