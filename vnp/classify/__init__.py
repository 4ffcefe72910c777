"""From embeddings to calls. Everything here reads an open store by blocks; nothing needs a GPU.

::

    predict    features (rows of the store -> scores) -> calls (windows, contigs) -> regions
               -> tables, call_files (tracks: BED, GFF3; viral_contigs: FASTA)
    train      labels -> split -> batches -> fit, fit_estimators -> metrics -> files, markdown
    dataset    annotation (GenBank, FASTA) -> windows inside annotated proteins
    convert    pickled (published .pth) -> files (safetensors and card)
    mlp        the network itself, and what its tensors must be
    estimators the same of scikit-learn's classifiers

Errors, by what the caller would do::

    UsageError
    └── FeaturesError              the models do not give what the classifier takes: say which
    DataError
    ├── ClassifierError            not a classifier, or damaged: take another file
    │   └── UnsafeClassifierError  more than a classifier: it was not executed
    ├── LabelsError                the table of labels, or what is asked of it: correct it
    └── DatasetError               the input does not give the set asked for: add files
"""
