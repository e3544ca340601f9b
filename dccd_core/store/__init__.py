"""The store: plain Parquet files, written atomically, each with the ledger of what was asked."""
