process VNP_EMBED {
    tag "${meta.id}"
    label 'process_high'
    label 'process_gpu'

    conda "${moduleDir}/environment.yml"
    container "${workflow.containerEngine in ['singularity', 'apptainer'] && !task.ext.singularity_pull_docker_container
        ? 'https://depot.galaxyproject.org/singularity/vnp:0.1.0'
        : 'quay.io/biocontainers/vnp:0.1.0'}"

    input:
    tuple val(meta), path(fasta)
    val recipe

    output:
    tuple val(meta), path("${prefix}.zarr"), emit: store
    tuple val(meta), path("${prefix}.json"), emit: report
    path "versions.yml", emit: versions, topic: versions

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    def args2 = task.ext.args2 ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    // The names that vnp takes for a sample and a recipe: nothing in them means anything to the shell.
    if (!(prefix ==~ /[A-Za-z0-9_][A-Za-z0-9_.-]*/)) {
        error("VNP_EMBED: '${prefix}' cannot name a sample; set \"task.ext.prefix\" to letters, digits, '_', '-' and '.'")
    }
    if (!(recipe ==~ /[a-z][a-z0-9_]*/)) {
        error("VNP_EMBED: '${recipe}' is not the name of a recipe")
    }
    """
    vnp append \\
        --create \\
        --recipe ${recipe} \\
        --sample ${prefix} \\
        ${args2} \\
        ${prefix}.zarr \\
        ${fasta}

    vnp embed \\
        --json \\
        ${args} \\
        ${prefix}.zarr \\
        > ${prefix}.json

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        vnp: \$(vnp --version)
    END_VERSIONS
    """

    stub:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    echo ${args}
    mkdir ${prefix}.zarr
    touch ${prefix}.zarr/zarr.json
    touch ${prefix}.json

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        vnp: \$(vnp --version)
    END_VERSIONS
    """
}
