# Read an HDF5 store with R alone: Rscript tools/read_h5.R run.h5
# Needs rhdf5: BiocManager::install("rhdf5"), or on Debian apt-get install r-bioc-rhdf5
suppressPackageStartupMessages(library(rhdf5))
path <- commandArgs(trailingOnly = TRUE)[1]

schema <- h5readAttributes(path, "/")$vnp
cat("schema:", substr(schema, 1, 60), "...\n")

id <- h5read(path, "obs/_index")
protein <- h5read(path, "obs/protein")
sample <- h5read(path, "obs/sample/categories")[h5read(path, "obs/sample/codes") + 1]
cat("rows:", length(id), "\n")
print(head(data.frame(id, sample, protein = substr(protein, 1, 20)), 3))

# HDF5 stores rows last in R: a matrix is (columns, rows). X_merged is all models side by side.
merged <- h5read(path, "obsm/X_merged")
cat("merged:", nrow(merged), "columns of", ncol(merged), "rows; checksum", sum(merged), "\n")

# A row counts only where the model's "filled" says so; all others read 0.
entries <- h5ls(path)
for (name in grep("^filled_", entries$name[entries$group == "/obs"], value = TRUE)) {
  cat(name, ":", sum(h5read(path, paste0("obs/", name)) == "TRUE"), "of", length(id), "rows\n")
}
