"""Writes small Parquet files as pandas, polars, DuckDB and Spark write them.

By hand, from the root:

    python3 tests/data/golden/tables_parquet.py

Writes tests/data/tables/parquet. Each file has the same five rows; tests/pure/tables compares
them with the values below. Spark itself is not run: its types (INT96 times, decimals of fixed
length, uncompressed lists of three levels) are written with pyarrow.
"""

import datetime
import decimal
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).parent.parent / "tables" / "parquet"
IDS = [17850, 9007199254740993, None, 1, 2]
TIMES = [datetime.datetime(2026, 11, 20, 10, 0, 0, 123000, tzinfo=datetime.UTC)] * 4 + [None]


def main() -> None:
    HERE.mkdir(parents=True, exist_ok=True)
    local = [time and time.replace(tzinfo=None) for time in TIMES]
    amounts = [decimal.Decimal("12.30"), decimal.Decimal("-0.05"), decimal.Decimal("0"), None, decimal.Decimal("99999999.99")]
    products = [[{"sku": "x", "quantity": 2}], [], None, [{"sku": "y", "quantity": 1}], [{"sku": None, "quantity": 0}]]
    table = pa.table({
        "id": pa.array(IDS, pa.int64()),
        "amount": pa.array(amounts, pa.decimal128(12, 2)),
        "score": pa.array([0.1, 2.5, None, -1, 1e10], pa.float64()),
        "small": pa.array([0.1, 2.5, None, -1, 3], pa.float32()),
        "half": pa.array([0.5, 2.5, None, -1, 3], pa.float16()),
        "name": pa.array(["café", "", None, "x", "y"]),
        "large": pa.array(["a", "b", None, "d", "e"], pa.large_string()),
        "code": pa.array(["a", "b", None, "a", "a"]).dictionary_encode(),
        "bytes": pa.array([b"caf\xc3\xa9", b"b", None, b"d", b"e"], pa.binary()),
        "flag": pa.array([True, False, None, True, True]),
        "tiny": pa.array([1, 2, None, 4, 255], pa.uint8()),
        "big": pa.array([1, 2, None, 4, 2**64 - 1], pa.uint64()),
        "day": pa.array([datetime.date(2026, 11, 20)] * 4 + [None]),
        "at_ms": pa.array(TIMES, pa.timestamp("ms", "UTC")),
        "at_us": pa.array(TIMES, pa.timestamp("us", "Europe/London")),
        "at_ns": pa.array(TIMES, pa.timestamp("ns", "UTC")),
        "local_ms": pa.array(local, pa.timestamp("ms")),
        "local_us": pa.array(local, pa.timestamp("us")),
        "local_ns": pa.array(local, pa.timestamp("ns")),
        "products": pa.array(products, pa.list_(pa.struct([("sku", pa.string()), ("quantity", pa.int64())]))),
    })
    for codec in ["none", "snappy", "gzip", "zstd", "lz4", "brotli"]:
        pq.write_table(table, HERE / f"pyarrow-{codec}.parquet", compression=codec)
    pq.write_table(table, HERE / "pyarrow-v1.parquet", version="1.0", use_dictionary=False)
    spark = table.drop_columns(["half", "big", "tiny", "local_ms", "local_us", "local_ns", "at_ns"])
    pq.write_table(
        spark, HERE / "spark.parquet", use_deprecated_int96_timestamps=True, store_schema=False,
        use_compliant_nested_type=False,
    )
    frame = table.select(["id", "score", "name", "flag", "at_us", "local_ns"]).to_pandas()
    frame.to_parquet(HERE / "pandas.parquet")
    plain = table.select(["id", "amount", "score", "name", "flag", "day", "at_us", "products"])
    pl.from_arrow(plain).write_parquet(HERE / "polars.parquet")
    duckdb.sql(f"COPY (SELECT * FROM plain) TO '{HERE}/duckdb.parquet' (FORMAT parquet, CODEC 'lz4_raw')")


if __name__ == "__main__":
    main()
