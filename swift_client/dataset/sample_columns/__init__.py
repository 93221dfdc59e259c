"""Samples as Arrow columns, one row per sample, without loss against a samples file (extra ``parquet``)."""

from swift_client.dataset.sample_columns.decode import decode_samples
from swift_client.dataset.sample_columns.encode import encode_samples
from swift_client.dataset.sample_columns.groups import group_samples
from swift_client.dataset.sample_columns.parquet_samples import ParquetSamples
from swift_client.dataset.sample_columns.schema import import_pyarrow, sample_schema

__all__ = ["ParquetSamples", "decode_samples", "encode_samples", "group_samples", "import_pyarrow", "sample_schema"]
