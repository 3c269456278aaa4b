"""From a shop's own files to a dataset: read, clean, impute, write."""

from towers.ingest.run import STAGES, IngestReport, ingest_shop
from towers.ingest.summary import summary_table

__all__ = ["STAGES", "IngestReport", "ingest_shop", "summary_table"]
