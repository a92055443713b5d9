"""Finds the files of a corpus, reads their footers, cuts them into units, and reads their columns.

From the path that a user gives to the documents of a unit:

    files             the files that a path, a folder or a glob means
    written_by_runs   those that runs wrote, which are left out
    source_files      one file: its names, how it is opened, errors
    jsonl, compressed, imports
                      JSON lines, which become Parquet once
    footers           the footers of Parquet files, and row ranges by them
    arrow_types       the Arrow types that columns have in the shards ("they travel as" these types)
    column_types      the one type that a column has over all files
    columns           which columns are read or copied to the shards ("travel"), and their names there
    units             files are cut into units
    listing           the list of all units, which the stage `Corpus` commits
    rows              reads a row range
    documents         reads the documents of a unit
    attributes        reads Dolma's attribute files, which lie beside a corpus
"""
