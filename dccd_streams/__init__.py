"""The stream service: live trades, books and candles to daily Parquet."""
