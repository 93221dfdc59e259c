"""Tokens to numbers: a feature is a function and a row of ``FEATURES``."""

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
    TokenTable,
    column_names,
    listed_ranks,
    response_columns,
    response_terms,
    token_columns,
    token_features,
)

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
    "column_names",
    "listed_ranks",
    "response_columns",
    "response_terms",
    "token_columns",
    "token_features",
]
