"""From FASTA or FASTQ to the records of a store, by VirNucPro's rules."""
