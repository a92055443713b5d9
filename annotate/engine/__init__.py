"""The engine: runs any stage on Ray; it owns scheduling, retries, resume, progress and the ledger.

A run, from its driver:

    run           finds what is committed, has the rest made, and writes what a run leaves
    options       how a run works
    check_workdir refuses a work directory in which a run must not write
    nodes         the nodes that are alive, and what each answers
    check_nodes   asks the other nodes whether they can do what the driver can
    versions      which every process of a run has to share with the driver
    lease, locks  who works in the work directory
    datasets      the datasets of the run: committed, or to be made
    kinds         the table of the kinds of stage
    map, reduce, shuffle, model, source
                  a file a kind, with the driver's half and the worker's half
    running       what the drivers' halves share
    model_actor, pool, feeding
                  the actor that holds a model; the actors that a stage has; how many units wait before each
    worker        what the workers' halves share
    scheduler     makes the calls of all stages
    calls, going, made_twice
                  what a stage tells the scheduler; a stage that goes on; which of its calls is made a second time
    recovery, losses, search
                  what is lost is made again; the inputs of a unit that end their worker are found
    cluster       what the cluster has for models
    sharing       what the run may have of the cluster, beside other runs
    head          ends a run if the head of the cluster is lost
    facts         the facts of the calls that workers make
    telemetry     what a run tells of itself meanwhile: call_log, metrics and cluster_watch
    events        tells what happens: to an observer, and in `events/`
    ledger        counts each document in one state
    quarantine    writes the views of bad rows
    result        what the run returns
    provenance    what one needs to repeat the run

What else can be done with a work directory:

    plan          what a run would do, and how long it would take
    status        how the newest run stands
    timeline      what it did when, and where the time went
    rescore       removes scores, so that a run makes them again
    clean         removes what the last run does not use
"""
