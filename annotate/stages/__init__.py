"""The stages, a file each: pure functions, tables in, tables out; they know nothing of Ray, retries or paths.

In the order of a run, each with the names of the datasets that it commits:

    corpus              the documents, in files of the user: `corpus`
    distill             documents that a generator writes under prompts: `distilled`
    repeated_ids        a check on them: `id-partitions`, `repeated-ids`
    signatures          what near-duplicates are found with: `signatures`
    duplicates/         a file a pass of the near-duplicate filter: `candidates`, `components`, `keepers` and others
    near_duplicates     which documents are kept: `verdicts`
    split               documents to spans: `spans`
    score               a scorer's scores of spans: `annotations`
    attributes          scores from Dolma's attribute files, in place of a scorer's: `attributes`, `annotations`
    combined            a weighted sum of scores, as an axis of its own: `annotations`
    repeated_spans      spans that occur many times: `span-hashes`, `span-counts`, `unit-counts`, `repeated-spans`
    calibrate           how scores are distributed: `calibration`
    calibrate_groups    the same by group, for rules that ask for it: `group-calibration`
    fit_curves          from scores to probabilities, on labels: `labels`, `curves`
    thresholds          the scores at the quantiles of a scheme: `thresholds`
    shuffled_states     tags of other spans, for a control: `span-states`, `shuffled-states`, `unit-states`
    schedule            when documents are trained on: `schedule`
    place               where tags stand: `placements`
    nest                the same of several splits of one corpus: `nested-placements`
    id_index            where the documents of each id are: `id-index`
    excluded            documents to take out of shards: `excluded-places`, `excluded`
    render              shards of text: `text-shards`
    token_shards        shards of tokens: `token-shards`

`shared/` has what several of them use.
"""
