"""Data: rows in numbered blocks, and all passes over them. The only room that asks what X is.

rows.py      `Rows`, the interface, which a kind of data gets by saying how to fetch some rows
dense.py     rows of an array
sparse.py    rows of a CSR matrix
tables.py    files and frames as Arrow tables
text.py      text in columns: encodings, separators, marks in numbers
cells.py     one column of such a table
encoding.py  columns of a table as numbers
formulas.py  formulas
offset.py    rows with a known part of each score
scanned.py   `scan`, a table that stands for X and y
streamed.py  the same, read in blocks
readers.py   what can be read in blocks, and text_blocks.py: text
reading.py   reading a source once
spill.py     chunks of rows in memory and in a temporary file
streams.py   rows of such chunks
collections.py  collections of dask
distributed.py  rows in blocks that are held elsewhere
blocks.py    what holds such blocks, and places.py: where that is
partials.py  what is computed there
inputs.py    what is taken for X, and which kind it makes: `rows_of`, `register`
moments.py   first and second moments, measures of the columns
order.py     the order of epochs
threads.py   threads over blocks, sums that do not depend on them
"""

from fastgd.data import collections
from fastgd.data.dense import Dense
from fastgd.data.inputs import register, rows_of
from fastgd.data.rows import Rows, even_blocks
from fastgd.data.scanned import Scan, scan
from fastgd.data.sparse import Sparse

__all__ = ["Dense", "Rows", "Scan", "Sparse", "collections", "even_blocks", "register", "rows_of", "scan"]
