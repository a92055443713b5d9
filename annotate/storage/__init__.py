"""Object stores, the layout on disk, contracts, committed parts, manifests, and readers of results.

From objects to the results of a run:

    store        objects on a disk or in an object store; no other module moves bytes
    connections  opens object stores: time limits, and what the environment has to set
    hub          reads `hf://`
    local_copies copies of models and small files that are read from a local disk
    retries      tries requests to an object store again
    layout       every name on disk; a new file of a run gets its name here
    marker       `dataset.json`, which shows that a folder is a dataset of ours
    contracts    the columns of each dataset, from `schemas/`
    parts        commits a unit (a part, then its entry), finds it and reads it
    slices       parts from which each reader needs one slice: what a shuffle sends
    manifests    the units of a dataset, in order
    latest       `latest.json`: the datasets that the last run left
    results      reads these datasets: shards, tables of scores, `tags.json`
    tally        counts of this process, which workers send to the driver with their results
    faults       the hook by which tests kill processes
"""
