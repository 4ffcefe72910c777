# Embeds FASTA or FASTQ files into one vnp store by N worker jobs, then certifies it.
#
#   snakemake -s vnp.smk --configfile config.yaml --executor slurm --jobs 16
#
# or `include:` it and ask for the output of `vnp_certify`. config.yaml beside it says what can be set.
# The store is no output of a rule: Snakemake removes the outputs of a job that failed, and a store
# keeps what was filled. The outputs are the JSON that each command prints.
# A worker that a time limit or a signal stops ends with 130, one that left rows open with 3: Snakemake
# counts either as a failure, and starts it again (`retries`). It goes on where the store is.


# A command line; Snakemake is to find no wildcards in it.
VNP = config.get("vnp", "vnp").replace("{", "{{").replace("}", "}}")


rule vnp_certify:
    """Re-read the certificate of every block; fails (3) unless every row stands."""
    default_target: True
    input:
        expand("vnp/worker-{n}.json", n=range(config.get("workers", 4))),
    output:
        "vnp/certified.json",
    log:
        "vnp/logs/certify.log",
    params:
        store=lambda _: config["store"],
    shell:
        VNP + " embed {params.store:q} --certify --json > {output:q} 2> {log:q}"


rule vnp_worker:
    """Fill blocks that no other worker holds, until none is left."""
    input:
        "vnp/appended.json",
    output:
        "vnp/worker-{n}.json",
    log:
        "vnp/logs/worker-{n}.log",
    params:
        store=lambda _: config["store"],
        options=lambda _: config.get("worker_options", []),
    retries: config.get("retries", 10)
    threads: config.get("threads", 4)
    resources:
        mem_mb=config.get("mem_mb", 16000),
        runtime=config.get("runtime", 240),
        gres=config.get("gres", ""),
    shell:
        VNP + " worker {params.store:q} --threads {threads} {params.options:q} --json"
        " > {output:q} 2> {log:q}"


rule vnp_append:
    """Make the store, and append each file as a sample; those that are there are skipped."""
    input:
        config["files"],
    output:
        "vnp/appended.json",
    log:
        "vnp/logs/append.log",
    params:
        store=lambda _: config["store"],
        recipe=lambda _: config.get("recipe", "virnucpro"),
        length=config.get("segment_length", 500),
    shell:
        VNP + " append {params.store:q} {input:q} --create --recipe {params.recipe:q} "
        "--segment-length {params.length:q} --existing skip --json > {output:q} 2> {log:q}"
