"""A model for vnp that counts bases."""

from vnp.models.plugins import model

RECIPE = ("composition", "demo_esm2")


@model("composition", input="nucleotide", dim=4, about="share of each base")
def load(*, device, precision, weights_dir):
    def embed(sequences):
        return [[each.count(base) / len(each) for base in "ACGT"] for each in sequences]

    return embed
